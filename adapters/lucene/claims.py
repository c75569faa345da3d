"""`Claim`: what we note of a field of ours, in the mapping.

A claim is a mapping beside the field that no document fills: a keyword whose `null_value` holds
dimension, identity and fingerprint as JSON. A `null_value` cannot be changed, so of two that create at once the server
refuses one, and nothing that others keep in the mapping (its `_meta`) is rewritten. The first vectors of a collection
that has no fingerprint claim theirs in the same way. A dropped claim says so in its `meta`; the next one has another
name. In indices whose vectors are rank_features, which know no `exists`, the claim is the marker that documents carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .packing import Packing

__all__ = ["HIDDEN", "PREFIX", "Claim", "claim_name", "code_mapping", "layout_name", "read_claims", "weights_name"]

Json = Mapping[str, Any]

PREFIX = "_sparsevec_"
HIDDEN = f"{PREFIX}*"
_LONGEST_VECTOR = 4096  # dimensions


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
            layout_name(self.name): {"type": "keyword", "null_value": layout},
            weights_name(self.name): code_mapping(packing.width, vector_codes),
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


def layout_name(claim: str) -> str:
    return f"{claim}~layout"


def weights_name(claim: str) -> str:
    return f"{claim}~weights"


def read_claims(properties: Json) -> Iterator[Claim]:
    """Of the properties of a mapping, dropped ones among them."""
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
