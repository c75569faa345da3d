"""What an index learns from the first documents that are written to it: fields, how weights are packed, the space.

Several writers may be first at once. Each change of the mapping is one that the server refuses to everybody but one,
and the others look again. A look may be older than the refusal: a master answers the refused ones of a batch of changes
before it publishes what came of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparsevec.contract.checks import Payload, check_space
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendDown, BackendUnsupported
from sparsevec.vectors import SparseVectors

from .answers import read_hits
from .hazards import writable
from .index import read_field
from .mapping import mixed_fields
from .packing import Packing
from .session import Known, Session
from .wire import json

__all__ = ["ROUNDS", "adopt", "pack", "prepare"]

ROUNDS = 5  # tries of what others do at the same time


def prepare(session: Session, known: Known, payloads: Sequence[Payload]) -> Operation[None]:
    """Map what a document could not map by itself."""
    for left in reversed(range(ROUNDS)):
        index = writable(known.target, session.field)
        mapping = mixed_fields(payloads, index) if index.ours else {}
        if known.field.present not in index.properties:  # a field that others made has no marker yet
            mapping[known.field.present] = {"type": "keyword"}
        if not mapping:
            return
        try:
            yield from session.put_mapping(index, mapping)
        except BackendUnsupported:
            if not left:
                raise
        known = yield from session.existing(0.0)  # a document of another writer may have mapped it first


def pack(session: Session, known: Known, vectors: SparseVectors) -> Operation[Known]:
    """The first documents with codes say how those of the collection pack their weights, once and for all."""
    for left in reversed(range(ROUNDS)):
        field = known.field
        if field.claim is None or not field.claim.packed or field.packing is not None:
            break
        fields = [(index, read_field(index, field.name)) for index in known.target.indices]
        said = [one.packing for _, one in fields if one and one.packing]
        packing = said[0] if said else Packing.fitting(vectors)
        try:
            for index, one in fields:
                if one and one.claim and not one.packing:
                    vector_codes = one.code_type == "dense_vector"
                    yield from session.put_mapping(index, one.claim.packing(packing, vector_codes=vector_codes))
        except BackendUnsupported:  # another writer was first
            if not left:
                raise
        known = yield from session.existing(0.0)
    return known


def adopt(session: Session, known: Known, vectors: SparseVectors) -> Operation[None]:
    """The first vectors of a collection of ours say which space it is of (C18)."""
    claim = known.field.claim
    if claim is None or claim.fingerprint or not vectors.fingerprint or not len(vectors):
        return
    if session.foreign == claim.identity:
        return
    yield from session.refresh(force=True)
    query = {"query": {"exists": {"field": known.field.present}}}
    answer = yield from json("POST", session.path("_count"), query)
    read_hits(answer)
    known = yield from session.existing(0.0)  # after the count: who has written has claimed it before
    claim = known.field.claim
    if claim is not None and not claim.fingerprint and answer["count"]:
        session.foreign = claim.identity
        return
    for _ in range(ROUNDS):
        claim = known.field.claim
        if claim is None or claim.fingerprint:
            break
        assert known.target.write is not None
        try:
            yield from session.put_mapping(known.target.write, claim.adopting(vectors.fingerprint))
        except BackendUnsupported as error:  # another writer was first, which the next look may not show yet
            if "null_value" not in str(error):
                raise
        else:
            return
        known = yield from session.existing(0.0)
    else:
        raise BackendDown(
            f"another writer is setting the fingerprint of {session.asked!r}, which its mapping does not show yet"
        )
    check_space(vectors, known.field.fingerprint)
