"""`qdrant+edge:PATH`: Qdrant's own storage, index and scoring, embedded (qdrant-edge-py), in a folder of ours.

PATH holds `sparsevec.json` (format, dimension, fingerprint and identity) and `shard/`, which is the engine's. A folder
with anything else in it is refused and left as it is. One adapter of one process at a time can open it; its threads may
share that adapter, and asyncio reaches it through `await sparsevec.aconnect(...)`, each call in a thread.

What "written" means: the write is in the engine's write-ahead log, in the hands of the operating system, so it survives
kill -9 of this process. It is on disk for good, safe from a power cut too, after `close`, and after every 16,384
documents; between these a power cut may cost the latest writes, never the earlier ones. The engine cannot survive a
full disk (the process dies of a bus error, and what was reported as written is there afterwards), so every write looks
at the free space first and is refused with StorageFailed where it may not fit.

The engine trusts its caller: a vector with fewer values than indices, for one, ends in its log and can never be opened
again. `SparseVectors` cannot be malformed, and nothing else goes in.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np

from sparsevec.contract.adapter import (
    Adapter,
    Documents,
    Failure,
    Finding,
    Hits,
    Info,
    Missing,
    Page,
    UInt8s,
    Version,
    Written,
    says_the_contract,
)
from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import (
    Id,
    Payload,
    Queries,
    check_batch,
    check_codes,
    check_ids,
    check_k,
    check_options,
    check_queries,
    check_size,
    check_space,
    ids_or_where,
)
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.operations import Connection
from sparsevec.contract.searches import Search
from sparsevec.contract.urls import Url
from sparsevec.errors import ClientMissing, CollectionError, InvalidInput
from sparsevec.vectors import Float32s, SparseVectors

from .qdrant_core.embedded import Folder, Marker, close_shard, engine_errors
from .qdrant_core.ids import ORIGINAL, id_from_wire
from .qdrant_core.payloads import dense_from_wire, has_null, payload_from_wire
from .qdrant_core.records import (
    CODE,
    VECTOR,
    Bring,
    code_params,
    codes_of,
    documents_of,
    filter_of,
    having,
    kept_of,
    names_of,
    operations_of,
    place_of,
    plain,
    point_of,
    rows_of,
    vectors_of,
    vectors_to_wire,
)
from .qdrant_core.shard_search import MOST, ShardSearch

try:
    import qdrant_edge as edge
except ImportError as error:
    raise ClientMissing.extra("qdrant-edge-py", "qdrant") from error

__all__ = ["PAYLOAD_KINDS", "QdrantEdgeAdapter"]

PAYLOAD_KINDS = ("keyword", "integer", "float", "bool", "datetime", "uuid")
"""Kinds of a payload index."""

_FLUSH_EVERY = 16_384  # documents; bounds what the log must replay after a crash to about a second
_WEIGHT_BYTES = 12  # of an index and a weight, in the log and on disk
_CAN = Capabilities(rescores=True)


@says_the_contract
class QdrantEdgeAdapter(Connection):
    """The embedded engine in the folder `path`, made by `create`; its parent must be there."""

    def __init__(self, path: str) -> None:
        """Open what is there. Raises CollectionError when it is not ours or another process has it open."""
        if not path:
            raise InvalidInput("the embedded engine needs a folder: qdrant+edge:PATH")
        self._folder = Folder(Path(path).absolute())
        super().__init__(path, f"qdrant+edge:{self._folder}")
        self._unflushed = 0
        self._writing = threading.RLock()
        self._marker = self._folder.read()
        self._shard = None if self._marker is None else self._load()

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        url.expect_options()
        if credentials or url.host:
            raise InvalidInput("the embedded engine's url is qdrant+edge:PATH, without host, options and credentials")
        return cls(url.path)

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls(origin.partition(":")[2])

    @property
    def _name(self) -> str:
        return f"qdrant-edge {version('qdrant-edge-py')}"

    def info(self) -> Info:
        self.check_open()
        if (marker := self._marker) is None:
            return Info(self._name, _CAN, exists=False)
        about = (marker.dimension, marker.fingerprint, marker.identity)
        return Info(self._name, _CAN, True, True, *about, code_bytes=marker.code_bytes)

    def check(self) -> list[Finding]:
        self.check_open()
        marker = self._marker
        about = "no collection yet" if marker is None else f"a collection of dimension {marker.dimension}"
        with engine_errors(self._folder):
            disk = self._folder.space_finding()
        return [
            Finding("fine", "version", self._name),
            Finding("fine", "collection", f"{self._folder} holds {about}"),
            disk,
        ]

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        marker = Marker(dimension, fingerprint, uuid4().hex, code_bytes)
        self.check_open()
        codes = {} if marker.code_bytes is None else {CODE: code_params(marker.code_bytes)}
        config = edge.EdgeConfig(vectors=codes, sparse_vectors={VECTOR: edge.EdgeSparseVectorParams()})
        with self._writing, engine_errors(self._folder):
            if self._marker is not None:
                raise CollectionError(
                    f"{self._folder} holds a collection already; drop() it first, or use another path"
                )
            self._folder.check_space(0)
            with self._folder.making():
                self._shard = edge.EdgeShard.create(str(self._folder.shard), config)
                self._folder.mark(marker)
            self._marker = marker

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        check_options(self._name, _CAN, versions=versions, routing=routing, missing=missing)
        _, marker = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, marker.dimension)
        codes = check_codes(codes, vectors, marker.code_bytes)
        size = vectors.nnz * _WEIGHT_BYTES + len(ids) * (512 + 4 * (marker.code_bytes or 0))
        size += sum(len(json.dumps(payload)) for payload in payloads if payload)
        points, rows = [point_of(id_) for id_ in ids], vectors_to_wire(vectors, codes)
        with self._writing:  # from here on one after the other; what is above goes on beside another write
            shard, _ = self._existing()
            self._join(vectors)
            self._folder.check_space(size)
            with engine_errors(self._folder):
                found = shard.retrieve(points, with_payload=any(map(has_null, payloads)), with_vector=False)
            known = {record.id: record.payload or {} for record in found}
            make = missing in (None, "create")
            absent = {} if make else {id_: point for id_, point in zip(ids, points, strict=True) if point not in known}
            documents = [d for d in zip(ids, points, rows, payloads, strict=True) if d[0] not in absent]
            operations = list(operations_of(documents, known))
            with engine_errors(self._folder):
                for operation in operations:
                    shard.update(operation)
                self._flush_now_and_then(len(documents))
        written = tuple(document[0] for document in documents)
        reason = "it is not there"
        if missing == "skip":
            return Written(written, skipped=dict.fromkeys(absent, reason))
        return Written(written, failed=dict.fromkeys(absent, Failure(reason, kind="missing")))

    def _join(self, vectors: SparseVectors) -> None:
        """The vectors' space must be the collection's; the first vectors of a collection say which that is (C18)."""
        _, marker = self._existing()
        check_space(vectors, marker.fingerprint)
        if marker.fingerprint is None and vectors.fingerprint is not None and not self.count():
            marker = replace(marker, fingerprint=vectors.fingerprint)
            with engine_errors(self._folder):
                self._folder.mark(marker)
            self._marker = marker

    def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        depth = min(search.depth(k), MOST)
        shard, marker = self._existing()
        asked = check_queries(queries, marker.dimension, marker.fingerprint)
        second = search.second_look(asked, marker.dimension, marker.fingerprint)
        search.check_codes(marker.code_bytes)
        one = ShardSearch(self._folder, shard, Bring.of(search, marker), conditions(where, "qdrant"))
        if after is not None:
            return [one.read_on(asked[0], k, after)]
        if second is None:
            return [one.bring.hits(one.best(query, depth)) for query in asked]
        return [one.rescored(*queries, k, depth) for queries in zip(asked, second, strict=True)]

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        shard, marker = self._existing()
        checked = check_ids(ids)
        points = {point_of(id_): id_ for id_ in checked}
        with engine_errors(self._folder):
            records = shard.retrieve(list(points), with_payload=True, with_vector=names_of(marker))
        found = {points[record.id]: (record, vectors) for record, vectors in having(records)}
        present = [id_ for id_ in checked if id_ in found]
        return documents_of(present, [found[id_] for id_ in present], marker, dense)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        most = min(check_k(most, "most"), MOST - 1)
        shard, marker = self._existing()
        wanted = conditions(where, "qdrant")
        with engine_errors(self._folder):
            exact, filter_ = filter_of(wanted, shard)
            holding = edge.Filter(must=[edge.HasVectorCondition(VECTOR), *([filter_] if filter_ else [])])
            few = edge.ScrollRequest(limit=most + 1, with_payload=False, with_vector=False, filter=holding)
            points, _ = shard.scroll(few)  # which ends sooner than to count all
            if len(points) > most:
                return None
            records = shard.retrieve([one.id for one in points], with_payload=True, with_vector=names_of(marker))
        found = having(kept_of(records, wanted, exact=exact))
        ids = [id_from_wire(plain(record.id), record.payload) for record, _ in found]
        return documents_of(ids, found, marker, dense)

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> Iterator[Page]:
        """In the order of the engine's ids, so a scan goes on at any time. `dense` is a field of the payload."""
        place, size, wanted = place_of(after), check_size(size), conditions(where, "qdrant")
        while True:
            shard, marker = self._existing()
            names = names_of(marker) if codes else [VECTOR]
            with engine_errors(self._folder):
                exact, filter_ = filter_of(wanted, shard)
                whole = payloads or dense is not None or not exact
                payload: Any = True if whole else edge.PayloadSelector.Include([ORIGINAL])
                about = {"with_payload": payload, "with_vector": names, "filter": filter_}
                records, place = shard.scroll(edge.ScrollRequest(offset=place, limit=size, **about))
            records = kept_of(records, wanted, exact=exact)
            if records:
                held = [vectors_of(record) for record in records]
                ids = tuple(id_from_wire(plain(record.id), record.payload) for record in records)
                yield Page(
                    ids=ids,
                    after=None if place is None else json.dumps(plain(place)),
                    holds=np.array([VECTOR in one for one in held], bool),
                    vectors=rows_of(held, marker) if vectors else None,
                    payloads=tuple(payload_from_wire(record.payload) for record in records) if payloads else None,
                    dense=None
                    if dense is None
                    else tuple(dense_from_wire((record.payload or {}).get(dense)) for record in records),
                    codes=codes_of(ids, held, marker) if codes else None,
                )
            if place is None:
                return

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        shard, _ = self._existing()
        if (ids := ids_or_where(ids, where)) is None:
            ids = [id_ for page in self.scan(where=where) for id_ in page.held]
        points = [point_of(id_) for id_ in check_ids(ids)]
        with self._writing, engine_errors(self._folder):
            shard.update(edge.UpdateOperation.delete_points(points))

    def count(self, where: Where | None = None) -> int:
        shard, _ = self._existing()
        with engine_errors(self._folder):
            exact, filter_ = filter_of(conditions(where, "qdrant"), shard)
        if not exact:
            return sum(len(page.held) for page in self.scan(where=where))
        holding = edge.Filter(must=[edge.HasVectorCondition(VECTOR), *([filter_] if filter_ else [])])
        with engine_errors(self._folder):
            return shard.count(edge.CountRequest(exact=True, filter=holding))

    def drop(self) -> None:
        self.check_open()
        with self._writing, engine_errors(self._folder):
            if self._shard is not None:
                close_shard(self._shard)
            self._shard = self._marker = None
            self._folder.clear()

    def close(self) -> None:
        if self._close_once():
            with self._writing, engine_errors(self._folder):
                if self._shard is not None:
                    close_shard(self._shard)
                self._shard = None

    def index_payload(self, field: str, kind: str) -> None:
        """Give a field of the payload an index, so that a filter on it need not read every document.

        `field` may lead through objects, `a.b`, and lists of them, `a[].b`. `kind`: one of `PAYLOAD_KINDS`; a filter
        finds what such an index holds, and one of integers holds no float. Raises InvalidInput for another kind.
        """
        if kind not in PAYLOAD_KINDS:
            raise InvalidInput(
                f"expected one of {', '.join(PAYLOAD_KINDS)} as the kind of an index, found {kind!r:.80}"
            )
        shard, _ = self._existing()
        schema = getattr(edge.PayloadSchemaType, kind.capitalize())
        with self._writing, engine_errors(self._folder):
            shard.update(edge.UpdateOperation.create_field_index(field, schema))

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    def slack(self, vectors: SparseVectors) -> Float32s:
        return np.zeros(vectors.nnz, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- the engine

    def _load(self) -> edge.EdgeShard:
        with engine_errors(self._folder):
            return edge.EdgeShard.load(str(self._folder.shard))

    def _existing(self) -> tuple[edge.EdgeShard, Marker]:
        self.check_open()
        shard, marker = self._shard, self._marker
        if shard is None or marker is None:
            raise CollectionError(f"{self._folder} holds no collection yet; create(dimension) makes one")
        return shard, marker

    def _flush_now_and_then(self, written: int) -> None:
        self._unflushed += written
        if self._shard is not None and self._unflushed >= _FLUSH_EVERY:
            self._shard.flush()
            self._unflushed = 0


_contract: type[Adapter] = QdrantEdgeAdapter
