"""What `check` says of a server and a collection, from what was read of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sparsevec.contract.adapter import Finding

from .collection import Collection

__all__ = ["findings"]

_FAST = (1, 19, 2)  # sparse upserts no longer rewrite whole posting lists (qdrant#10682)


def findings(backend: str, version: str, name: str, vector: str, found: Collection | None) -> list[Finding]:
    """`found` is None when there is no collection."""
    return [*_of_version(backend, version, found, vector), *_of_collection(name, vector, found)]


def _of_version(backend: str, version: str, found: Collection | None, vector: str) -> Iterator[Finding]:
    parts = tuple(map(int, re.findall(r"\d+", version)[:3]))
    said = f"{backend} {version}"
    if parts < (1, 16):
        yield Finding("blocking", "version", said, "1.16 is the lowest version supported; upgrade the server")
    elif found is not None and not found.has(vector) and parts < (1, 18):
        advice = "1.18 adds a vector to a collection; until then make a new one, copy the points, switch an alias"
        yield Finding("blocking", "version", said, advice)
    elif parts < (1, 17):
        advice = 'before 1.17 points cannot be inserted only: missing="create" is refused in a collection of others'
        yield Finding("warning", "version", said, advice)
    elif parts < _FAST and "local" not in backend:
        advice = "below 1.19.2 the more a collection holds, the slower sparse vectors are written; upgrade first"
        yield Finding("warning", "version", said, advice)
    else:
        yield Finding("fine", "version", said)


def _of_collection(name: str, vector: str, found: Collection | None) -> Iterator[Finding]:
    if found is None:
        yield Finding("fine", "collection", f"there is no collection {name} yet; create() makes it")
        return
    owner = "made by sparsevec" if found.ours else "made by others: points are changed, and none is made unless told"
    yield Finding("fine", "collection", f"{name}, {owner}")
    yield _of_vector(vector, found)
    others = sorted({*found.sparse, *found.dense} - {vector})
    yield Finding("fine", "vectors", f"others beside it: {', '.join(map(repr, others)) or 'none'}")
    yield from _of_index(vector, found)
    yield from _of_dense(found)
    yield from _of_strict_mode(found)
    yield from _of_cluster(found)


def _of_vector(vector: str, found: Collection) -> Finding:
    if vector in found.dense:
        return Finding("blocking", "vector", f"{vector!r} is a dense vector", "choose another ?vector_name=")
    if vector not in found.sparse:
        return Finding("fine", "vector", f"{vector!r} is not there yet; create() adds it")
    if (modifier := found.modifier(vector)) != "none":
        advice = "its scores are no dot products; use a vector without a modifier"
        return Finding("blocking", "vector", f"{vector!r} has modifier {modifier!r}", advice)
    if (note := found.note_of(vector)) is None:
        advice = "it is written and searched, and never dropped; its dimension and encoder are not known"
        return Finding("warning", "vector", f"{vector!r} was made by others", advice)
    return Finding("fine", "vector", f"{vector!r}, dimension {note.dimension}, fingerprint {note.fingerprint}")


def _of_index(vector: str, found: Collection) -> Iterator[Finding]:
    if vector not in found.sparse:
        return
    index = found.sparse[vector].get("index") or {}
    if (datatype := found.datatype(vector)) != "float32":
        advice = "scores are rounded once a segment is optimised; verify allows for it"
        yield Finding("warning", "datatype", f"the index of {vector!r} keeps {datatype}", advice)
    if index.get("on_disk") or index.get("memory") == "cold":
        yield Finding("warning", "on disk", f"the index of {vector!r} is on disk", "searches are about twice as slow")


def _of_dense(found: Collection) -> Iterator[Finding]:
    """What a sparse vector made of a dense one would be made of."""
    raw = found.params.get("vectors") or {}
    for vector, about in ({"": raw} if "size" in raw else raw).items():
        if about.get("multivector_config"):
            advice = "no one row stands for the document there: make sparse vectors from another one (dense_field=)"
            yield Finding("warning", "multivector", f"{vector!r} holds several dense rows a document", advice)
        elif (datatype := str(about.get("datatype") or "float32").lower()) != "float32":
            advice = "sparse vectors are made from the rounded rows; the original ones would do a little better"
            yield Finding("warning", "dense rows", f"{vector!r} keeps its rows as {datatype}", advice)


def _of_strict_mode(found: Collection) -> Iterator[Finding]:
    paths = ", ".join(sorted(found.indexes.paths)) or "none"
    if not found.strict:
        yield Finding("fine", "payload indexes", f"{paths}; filters on other fields are answered, more slowly")
        if half := [path for path in sorted(found.indexes.paths) if found.indexes.looks_beside(path)]:
            advice = "an index on the same path through lists, like a[].b beside a.b, makes them fast; it may be empty"
            what = f"filters on {', '.join(half)} also look for lists of objects, document by document"
            yield Finding("warning", "payload indexes", what, advice)
        return
    limits = ", ".join(f"{limit}={value}" for limit, value in sorted(found.strict.items()) if value is not None)
    yield Finding("warning", "strict mode", limits, "requests beyond these limits are refused; send smaller ones")
    if found.indexes.alone:
        advice = "strict mode refuses a filter on any other path; make a payload index first"
        yield Finding("warning", "payload indexes", paths, advice)


def _of_cluster(found: Collection) -> Iterator[Finding]:
    if found.status == "red":
        yield Finding("blocking", "status", "red: an optimizer failed", "look at the server's log before writing")
    elif found.status == "grey":
        yield Finding("warning", "status", "grey: optimisations wait for the next write", "")
    replicas, needed = found.params.get("replication_factor") or 1, found.params.get("write_consistency_factor") or 1
    if replicas > 1 and needed < replicas:
        advice = "a write is acknowledged before every replica has it; a search may meet one that has not"
        yield Finding("warning", "replication", f"{replicas} replicas, {needed} of them acknowledge a write", advice)
    if found.params.get("read_fan_out_factor"):
        yield Finding("fine", "replication", f"reads are sent to {found.params['read_fan_out_factor']} more replicas")
