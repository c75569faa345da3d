"""What `GET /index` says: what a name stands for, its mapping and settings, our field in it, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import orjson

from sparsevec.contract.adapter import DenseField
from sparsevec.errors import BackendUnsupported, CollectionError

from .claims import HIDDEN, PREFIX, Claim, claim_name, layout_name, read_claims, weights_name
from .packing import Packing
from .versions import LINEAR, OPENSEARCH, SPARSE_VECTOR, TERM, UNPRUNED

__all__ = [
    "Field",
    "Index",
    "Target",
    "dense_fields",
    "field_properties",
    "read_field",
    "read_target",
]

Json = Mapping[str, Any]

_NEVER_OLD = 9_031_000  # serverless does not tell its version


@dataclass(frozen=True)
class Index:
    """One concrete index."""

    name: str
    mappings: Json
    settings: Json
    aliases: Json = field(default_factory=dict)

    @property
    def created(self) -> int:
        return int(self.settings.get("index.version.created", _NEVER_OLD))

    @property
    def uuid(self) -> str | None:
        """Of this index and of no later one of that name."""
        return self.settings.get("index.uuid")

    @property
    def properties(self) -> Json:
        return self.mappings.get("properties", {})  # type: ignore[no-any-return]

    @property
    def window(self) -> int:
        """Most hits that one request may ask for."""
        return int(self.settings.get("index.max_result_window", 10_000))

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(read_claims(self.properties))

    @cached_property
    def ours(self) -> bool:
        """Whether `create` made it."""
        return any(claim.made == "index" for claim in self.claims)

    def live(self, field: str) -> Claim | None:
        return next((claim for claim in self.claims if claim.field == field and not claim.dropped), None)

    def belongs_to(self, field: str) -> bool:
        """Whether `create` made it and no other field of ours lives in it: then its documents are the field's."""
        return self.ours and {claim.field for claim in self.claims if not claim.dropped} == {field}

    def next_claim(self, field: str) -> str:
        """A name for a new claim that none had before."""
        generation = 1
        while claim_name(field, generation) in self.properties:
            generation += 1
        return claim_name(field, generation)

    @property
    def hidden(self) -> list[str]:
        """Patterns of the fields that are no payload."""
        return sorted({claim.field for claim in self.claims} | {HIDDEN})


@dataclass(frozen=True)
class Target:
    """What the name in the url stands for: an index, or an alias of one or several."""

    asked: str
    indices: tuple[Index, ...]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(index.name for index in self.indices)

    @cached_property
    def ours(self) -> bool:
        return all(index.ours for index in self.indices)

    @property
    def window(self) -> int:
        return min(index.window for index in self.indices)

    @property
    def hidden(self) -> list[str]:
        return sorted({pattern for index in self.indices for pattern in index.hidden})

    @property
    def write(self) -> Index | None:
        """The index that writes go to."""
        alias = [index.aliases.get(self.asked, {}).get("is_write_index") for index in self.indices]
        if len(self.indices) == 1:
            return None if alias[0] is False else self.indices[0]
        return next((index for index, writes in zip(self.indices, alias, strict=True) if writes), None)


def read_target(asked: str, answer: Json) -> Target:
    """Raises CollectionError for a data stream."""
    if any("data_stream" in about for about in answer.values()):
        raise CollectionError(f"{asked!r} is a data stream, whose documents cannot be updated; use an index")
    return Target(
        asked,
        tuple(
            Index(name, about.get("mappings", {}), about.get("settings", {}), about.get("aliases", {}))
            for name, about in sorted(answer.items())
        ),
    )


@dataclass(frozen=True, slots=True)
class Field:
    """Where our vectors live, how they are asked for, and which field `exists` finds documents with a vector by."""

    name: str
    type: str
    clause: str
    present: str
    claim: Claim | None = None
    code_type: str = "binary"
    packing: Packing | None = None
    """how documents pack their weights; None before the first that do, and where none does"""
    weights_type: str = "binary"

    @property
    def dimension(self) -> int | None:
        return self.claim.dimension if self.claim else None

    @property
    def fingerprint(self) -> str | None:
        return self.claim.fingerprint if self.claim else None

    @property
    def code_bytes(self) -> int | None:
        return self.claim.code_bytes if self.claim else None

    @property
    def code(self) -> str | None:
        """Where residual codes lie, if documents have them."""
        return self.claim.code if self.claim else None

    @property
    def weights(self) -> str | None:
        """Where weights are packed, if they are."""
        return None if self.packing is None or self.claim is None else weights_name(self.claim.name)

    @property
    def key(self) -> str | None:
        """Where documents have their `_id` as a doc value, if they have."""
        return self.claim.key if self.claim else None

    @property
    def values(self) -> list[str]:
        """Those fields of ours beside a vector that hold one value."""
        return [name for name in (self.code, self.weights, self.key) if name]

    @property
    def names(self) -> list[str]:
        """Every field of a document that is ours."""
        return [self.name, *([self.present] if self.marked else []), *self.values]

    @property
    def marked(self) -> bool:
        """rank_features have no `exists`, so every document of ours carries a marker beside them."""
        return self.present != self.name


def read_field(index: Index, field: str) -> Field | None:
    """Our field in that index; None when it is not there, or was dropped. Raises BackendUnsupported, saying why."""
    about, claim = index.properties.get(field), index.live(field)
    if about is None or (claim is None and any(old.field == field for old in index.claims)):
        return None
    kind = about.get("type", "object")
    if kind != "rank_features" and not (kind == "sparse_vector" and SPARSE_VECTOR <= index.created < OPENSEARCH):
        raise BackendUnsupported(
            f"field {field!r} of index {index.name!r} is of type {kind}; expected sparse_vector (Elasticsearch 8.11 "
            f"and later) or rank_features: name another field"
        )
    if about.get("positive_score_impact") in (False, "false"):
        raise BackendUnsupported(
            f"field {field!r} of index {index.name!r} has positive_score_impact: false, which keeps 1/weight; "
            f"name a field without it"
        )
    marker = claim.name if claim else claim_name(field)
    code_type = _type(index, claim.code) if claim and claim.code else "binary"
    present = field if kind == "sparse_vector" else marker
    packed = (_packing(index, claim), _type(index, weights_name(claim.name))) if claim and claim.packed else ()
    return Field(field, kind, _clause(kind, index.created), present, claim, code_type, *packed)


def _type(index: Index, name: str) -> str:
    return str(index.properties.get(name, {}).get("type", "binary"))


def _packing(index: Index, claim: Claim) -> Packing | None:
    layout = index.properties.get(layout_name(claim.name), {}).get("null_value")
    return Packing(claim.dimension, *orjson.loads(layout)) if layout else None


def read_fields(target: Target, field: str) -> Field | None:
    """Our field in every index of the target; None when none has it. Raises CollectionError when they differ."""
    found = {index.name: read_field(index, field) for index in target.indices}
    if not any(found.values()):
        return None
    if without := sorted(name for name, one in found.items() if one is None):
        raise CollectionError(f"{target.asked!r} stands for indices of which {without} have no field {field!r} of ours")
    fields: Sequence[Field] = [one for one in found.values() if one is not None]
    if len({(one.clause, one.present, one.code_type, *_noted(one)) for one in fields}) > 1:
        raise CollectionError(
            f"{target.asked!r} stands for indices whose field {field!r} differs in type, dimension or space: "
            f"{sorted(found)}; name one of them"
        )
    packings = {(one.packing, one.weights_type) for one in fields}
    return fields[0] if len(packings) == 1 else replace(fields[0], packing=None)  # a writer is just saying how


def _noted(field: Field) -> tuple[Any, ...]:
    return field.dimension, field.fingerprint, field.code, field.code_bytes, field.key


def _clause(kind: str, created: int) -> str:
    return "term" if kind == "sparse_vector" or TERM <= created < OPENSEARCH else "linear"


def dense_fields(target: Target) -> dict[str, DenseField]:
    """What every index of the target declares to hold dense rows, by path, where they declare the same."""
    first, *others = (dict(_dense(index.properties)) for index in target.indices)
    return {path: about for path, about in first.items() if all(other.get(path) == about for other in others)}


def _dense(properties: Json, above: str = "") -> Iterator[tuple[str, DenseField]]:
    for name, about in properties.items():
        if name.startswith(PREFIX):
            continue  # residual codes, which nobody searches
        if about.get("type") == "dense_vector":
            similarity = about.get("similarity", "cosine") if about.get("index", True) in (True, "true") else ""
            yield f"{above}{name}", DenseField(about.get("dims"), similarity)
        elif about.get("type") == "knn_vector":
            space = about.get("space_type") or about.get("method", {}).get("space_type", "l2")
            yield f"{above}{name}", DenseField(about.get("dimension"), space)
        elif about.get("type", "object") == "object":
            yield from _dense(about.get("properties", {}), f"{above}{name}.")


def field_properties(field: str, created: int) -> dict[str, Any]:
    """The mapping of our field in an index of that version. Raises BackendUnsupported."""
    if created < LINEAR:
        raise BackendUnsupported(
            "the index was created before Elasticsearch 7.12, which has no linear rank_feature query"
        )
    if not SPARSE_VECTOR <= created < OPENSEARCH:
        return {field: {"type": "rank_features"}}
    unpruned = any(first <= created < end for first, end in UNPRUNED)
    return {field: {"type": "sparse_vector", **({"index_options": {"prune": False}} if unpruned else {})}}
