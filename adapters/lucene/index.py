"""What `GET /index` says: what a name stands for, its mapping and settings, our field in it, and whose it is.

What we note of a field is a *claim*, a mapping beside it that no document fills: a keyword whose `null_value` holds
dimension, identity and fingerprint as JSON. A `null_value` cannot be changed, so of two that create at once the server
refuses one, and nothing that others keep in the mapping (its `_meta`) is rewritten. The first vectors of a collection
that has no fingerprint claim theirs in the same way. A dropped claim says so in its `meta`; the next one has another
name. In indices whose vectors are rank_features, which know no `exists`, the claim is the marker that documents carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import orjson

from sparsevec.contract.adapter import DenseField
from sparsevec.errors import BackendUnsupported, CollectionError

from .packing import Packing
from .versions import LINEAR, OPENSEARCH, SPARSE_VECTOR, TERM, UNPRUNED

__all__ = [
    "Claim",
    "Field",
    "Index",
    "Target",
    "claim_name",
    "code_mapping",
    "dense_fields",
    "field_properties",
    "read_field",
    "read_target",
]

Json = Mapping[str, Any]

PREFIX = "_sparsevec_"
HIDDEN = f"{PREFIX}*"
_LONGEST_VECTOR = 4096  # dimensions
_NEVER_OLD = 9_031_000  # serverless does not tell its version


@dataclass(frozen=True, slots=True)
class Claim:
    """What `create` noted of a field of ours; `made` is what it made: "index" or "field"."""

    field: str
    dimension: int
    identity: str
    made: str
    fingerprint: str | None = None
    name: str = ""
    dropped: bool = False
    code_bytes: int | None = None
    packed: bool = False
    """whether documents with codes carry their weights and, in an index of ours, their id where searches read them"""

    def mapping(self) -> dict[str, Any]:
        """Of the field that it is noted in."""
        about = {
            "field": self.field,
            "dimension": self.dimension,
            "identity": self.identity,
            "made": self.made,
            "fingerprint": self.fingerprint,
            **({} if self.code_bytes is None else {"code_bytes": self.code_bytes}),
            **({"packed": True} if self.packed else {}),
        }
        return {"type": "keyword", "null_value": orjson.dumps({"sparsevec": about}).decode()}

    def dropping(self) -> dict[str, Any]:
        """The properties that mark it as dropped, of a mapping to put."""
        return {self.name: {**self.mapping(), "meta": {"dropped": "true"}}}

    @property
    def code(self) -> str | None:
        """The field of residual codes, if documents have them."""
        return None if self.code_bytes is None else f"{self.name}~code"

    @property
    def key(self) -> str | None:
        """The field with the `_id` of a document, if they have it: in an index of ours, where nobody copies documents
        under other ids. A stored `_id` costs a search more than all else of a hit."""
        return f"{self.name}~id" if self.packed and self.made == "index" else None

    def properties(self, *, vector_codes: bool) -> dict[str, Any]:
        """Of the mapping that notes it, and of the fields of codes, as vectors of bytes where the server keeps that
        out of `_source`: `code_mapping` says why."""
        codes = {} if self.code is None else {self.code: code_mapping(self.code_bytes or 0, vector_codes)}
        keys = {} if self.key is None else {self.key: {"type": "keyword", "index": False}}
        return {self.name: self.mapping(), **codes, **keys}

    def packing(self, packing: Packing, *, vector_codes: bool) -> dict[str, Any]:
        """The properties that say, once and for all, how documents pack their weights, and where."""
        layout = orjson.dumps([packing.weights, packing.bits]).decode()
        return {
            _layout(self.name): {"type": "keyword", "null_value": layout},
            _weights(self.name): code_mapping(packing.width, vector_codes),
        }

    def adopting(self, fingerprint: str) -> dict[str, Any]:
        """The properties that give it a fingerprint, once and for all."""
        return {_space(self.name): {"type": "keyword", "null_value": fingerprint}}


def code_mapping(code_bytes: int, vector_codes: bool) -> dict[str, Any]:
    """The field of residual codes. `benchmarks/code_storage.py` measures the ways.

    Doc values, which a search reads beside the `_id` for less than a millisecond in 100 hits, where `_source` has to be
    unpacked for each. A binary field is kept in `_source` once more, which a partial update needs: 239 bytes for a code
    of 100. Where the server takes vectors out of `_source` and puts them back for an update, a flat vector of bytes
    holds it once: 101 bytes.
    """
    if not vector_codes or code_bytes > _LONGEST_VECTOR:
        return {"type": "binary", "doc_values": True}
    flat = {"index": True, "similarity": "l2_norm", "index_options": {"type": "flat"}}  # unindexed ones are not hidden
    return {"type": "dense_vector", "dims": code_bytes, "element_type": "byte", **flat}


def claim_name(field: str, generation: int = 1) -> str:
    return f"{PREFIX}{field}" if generation == 1 else f"{PREFIX}{field}~{generation}"


def _space(claim: str) -> str:
    return f"{claim}~space"


def _layout(claim: str) -> str:
    return f"{claim}~layout"


def _weights(claim: str) -> str:
    return f"{claim}~weights"


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
    def properties(self) -> Json:
        return self.mappings.get("properties", {})  # type: ignore[no-any-return]

    @property
    def window(self) -> int:
        """Most hits that one request may ask for."""
        return int(self.settings.get("index.max_result_window", 10_000))

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(_read_claims(self.properties))

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


def _read_claims(properties: Json) -> Iterator[Claim]:
    for name, about in properties.items():
        if not name.startswith(PREFIX) or not isinstance(about.get("null_value"), str):
            continue
        try:
            noted = orjson.loads(about["null_value"])["sparsevec"]
            adopted = properties.get(_space(name), {}).get("null_value")
            space = noted["fingerprint"] or adopted
            dropped = "dropped" in about.get("meta", {})
            about_it = (noted["field"], noted["dimension"], noted["identity"], noted["made"], space)
            yield Claim(*about_it, name, dropped, noted.get("code_bytes"), noted.get("packed", False))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue  # a space, or a note of others


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
        return None if self.packing is None or self.claim is None else _weights(self.claim.name)

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
    packed = (_packing(index, claim), _type(index, _weights(claim.name))) if claim and claim.packed else ()
    return Field(field, kind, _clause(kind, index.created), present, claim, code_type, *packed)


def _type(index: Index, name: str) -> str:
    return str(index.properties.get(name, {}).get("type", "binary"))


def _packing(index: Index, claim: Claim) -> Packing | None:
    layout = index.properties.get(_layout(claim.name), {}).get("null_value")
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
