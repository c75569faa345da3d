"""The contract's clauses as conversations with a Qdrant server; `requests` says what a request is."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from sparsevec.contract.adapter import Finding, Info
from sparsevec.contract.checks import check_code_bytes, check_making
from sparsevec.contract.operations import Operation, Operations
from sparsevec.contract.ranking import RankOperations
from sparsevec.errors import CollectionError
from sparsevec.vectors import SparseVectors

from .codes import WITHOUT_A_GRAPH, vector_params
from .collection import MADE, Collection, Note
from .copying import Copying
from .findings import findings
from .ranking import Ranking
from .reads import Reads
from .server import ADDS_VECTORS, LOWEST, REQUEST_BYTES
from .writes import Writes

__all__ = ["REQUEST_BYTES", "QdrantOperations"]


class QdrantOperations(Writes, Reads, Ranking, Copying):
    """Of one sparse vector of one collection: what is there, making it, and the end of it."""

    def info(self) -> Operation[Info]:
        version = yield from self._version(anew=True)
        backend, found = f"{self._backend} {version}", (yield from self._look())
        if found is None or self._vector not in found.sparse:
            there = {} if found is None else found.dense
            return Info(backend, self._can, exists=False, ours=found is None or found.ours, dense=there)
        if (note := found.note_of(self._vector)) is None:
            return Info(backend, self._can, exists=True, ours=found.ours, dense=found.dense)
        about = (note.dimension, note.fingerprint, note.identity or None)
        return Info(backend, self._can, True, found.ours, *about, dense=found.dense, code_bytes=note.code_bytes)

    def names(self, pattern: str) -> Operation[list[str]]:
        """Of the collections that a pattern stands for: names, wildcards, aliases, with commas between."""
        there = [one["name"] for one in (yield from self._ask("get_collections"))["collections"]]
        aliases = (yield from self._ask("get_aliases"))["aliases"]
        wanted = pattern.split(",")
        named = {one["collection_name"] for one in aliases if any(fnmatchcase(one["alias_name"], w) for w in wanted)}
        return sorted(named | {name for name in there if any(fnmatchcase(name, w) for w in wanted)})

    def check(self) -> Operation[list[Finding]]:
        version = yield from self._version(anew=True)
        return findings(self._backend, version, self._name, self._vector, (yield from self._look()))

    def create(self, dimension: int, fingerprint: str | None, code_bytes: int | None) -> Operation[None]:
        code_bytes = check_code_bytes(code_bytes)
        note = Note.new(self._vector, check_making(dimension, fingerprint), fingerprint, code_bytes)
        if (found := (yield from self._look())) is None:
            yield from self._need(LOWEST, "collections that carry metadata")
            yield from self._ask(
                "create_collection",
                vectors={} if note.code is None else {note.code: vector_params(note.code_bytes or 0)},
                sparse_vectors={self._vector: {}},
                metadata={MADE: {"made": True}, **note.metadata()},
            )
        else:
            yield from self._add(found, note)
        self._seen, self._foreign = None, False

    def _add(self, found: Collection, note: Note) -> Operation[None]:
        """To a collection that is there. A server makes a vector twice without a word, so the note, whose key is new
        for every `create`, goes first: who finds another's beside it gives way."""
        if found.has(self._vector):
            raise CollectionError(
                f"collection {self._name} has a vector {self._vector!r} already; drop() it first, or use another name"
            )
        yield from self._need(
            ADDS_VECTORS,
            f"adding a vector to the collection {self._name}; copy it to a new collection with both vectors, and move "
            "the alias over: retrofit --copy",
        )
        left: dict[str, Any] = {old.key: None for old in found.notes_of(self._vector) if old.stale}
        yield from self._ask("update_collection", metadata={**left, **note.metadata()})
        now = yield from self._look()
        if now is None or now.has(self._vector) or len(now.notes_of(self._vector)) > 1:
            yield from self._ask("update_collection", metadata={note.key: None})
            raise CollectionError(
                f"somebody else is making the vector {self._vector!r} of collection {self._name} at this moment; look "
                "at what is there, and create() again if it is not"
            )
        if note.code is not None:
            dense = {"size": note.code_bytes, "distance": "Dot", "datatype": "uint8"}
            yield from self._ask("create_vector_name", vector=note.code, dense=dense)
            yield from self._ask("update_collection", vectors={note.code: WITHOUT_A_GRAPH})
        yield from self._ask("create_vector_name", vector=self._vector, sparse={})

    # ---- the end

    def drop(self) -> Operation[None]:
        """The whole collection when `create` made it and nothing else is in it; else our vector and our note, and in a
        collection of ours the points that hold nothing but our vector."""
        found = yield from self._look()
        self._seen, self._foreign = None, False
        if found is None or self._vector not in found.sparse:
            return
        if found.note_of(self._vector) is None:
            raise CollectionError(
                f"collection {self._name} and its vector {self._vector!r} were not made here, so they are not dropped; "
                "if you mean it, call delete_vector_name or delete_collection of qdrant-client yourself"
            )
        if found.ours and not found.dense and set(found.sparse) == {self._vector}:
            bare = {"must_not": [{"has_vector": self._vector}]}
            if not (yield from self._ask("count", filter=bare, exact=True))["count"]:
                yield from self._remove()
                return
        yield from self._need(ADDS_VECTORS, f"removing one vector of several from the collection {self._name}")
        if found.ours:
            yield from self._apply([{"delete": {"filter": self._only(found)}}])
        for name in self._own(found):
            yield from self._ask("delete_vector_name", vector=name)
        notes = found.notes_of(self._vector)
        forgotten: dict[str, Any] = {key: None for note in notes for key in (note.key, *found.bids_of(note))}
        if {note.vector for note in found.notes} == {self._vector}:
            forgotten[MADE] = None  # what is left in it was not made here
        yield from self._ask("update_collection", metadata=forgotten)

    def _remove(self) -> Operation[None]:
        aliases = (yield from self._ask("get_aliases"))["aliases"]
        for alias in aliases:
            if alias["alias_name"] == self._name:
                raise CollectionError(
                    f"{self._name} is an alias of the collection {alias['collection_name']}, and others may go by it; "
                    "to drop the collection, connect to it by its own name"
                )
        if (yield from self._ask("delete_collection")) is not True:
            raise CollectionError(f"the server did not drop the collection {self._name}; look whether it is there")

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors


_contract: type[Operations] = QdrantOperations
_ranks: type[RankOperations] = QdrantOperations
