"""What a user would pick instead: the engines' own dense indexes and two local libraries, each behind the same five
methods as ours (`benchmarks.answers`). Settings are the makers' defaults where they have some, and said in the name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import qdrant_edge as edge
import rabitqlib
from elasticsearch import Elasticsearch
from elasticsearch.helpers import bulk

from sparsevec.vectors import Float32s

__all__ = [
    "Built",
    "ElasticKnn",
    "FaissHnsw",
    "QdrantEdge",
    "Rabitq",
    "System",
    "fields",
    "folder_bytes",
    "index_payloads",
    "store_bytes",
    "where",
]

MANY, FEW, RARE = "tens", "hundreds", "thousands"  # filters that keep 10 %, 1 % and .1 % of the documents
WANTED = {MANY: ("tens", 3), FEW: ("hundreds", 3), RARE: ("hundreds", 100)}  # the field and value of each


def fields(row: int) -> dict[str, int]:
    """The payload of the document of that number."""
    return {"tens": row % 10, "hundreds": 100 if row % 1000 == 500 else row % 100}


def where(filter_: str | None) -> dict[str, int] | None:
    """As field and value."""
    return None if filter_ is None else dict([WANTED[filter_]])


@dataclass(frozen=True, slots=True)
class Built:
    """Of one system: bytes on disk a document, or in memory where `memory`, and seconds."""

    bytes: float
    ingest: float
    merge: float
    memory: bool = False


class System(Protocol):
    """One way to search n documents, whose ids are their row numbers."""

    name: str
    filters: bool
    changes: bool
    stays: bool
    """whether what it built outlives this process"""

    @property
    def shares(self) -> System | None:
        """The one whose collection it asks in another way."""

    def build(self, rows: Float32s) -> Built:
        """In place of what is there."""

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        """Write those rows again, delete these, and merge."""

    def ask(self, query: Float32s, filter_: str | None) -> list[int]:
        """The ids of the best 10, of the documents that the filter of that name keeps."""

    def close(self) -> None: ...


# ---- Elasticsearch


_BBQ = 384  # columns from which on the server chooses bbq_hnsw by itself


class ElasticKnn:
    """`knn` on a dense_vector of cosine similarity, 100 candidates. `oversample`: how many times k are rescored."""

    filters = changes = stays = True

    def __init__(
        self, url: str, kind: str, oversample: float | None, *, shares: ElasticKnn | None = None, of: str = "bench"
    ) -> None:
        self.name = f"{kind}{', default' if oversample is None else f', oversample {oversample:g}'}"
        self._client, self._kind, self._oversample = Elasticsearch(url, request_timeout=600), kind, oversample
        self.index: str = shares.index if shares else f"answers-{of}-{kind}"
        self.shares = shares

    def build(self, rows: Float32s) -> Built:
        self._client.options(ignore_status=404).indices.delete(index=self.index)
        emb: dict[str, Any] = {"type": "dense_vector", "dims": rows.shape[1], "similarity": "cosine"}
        if self._kind != "bbq_hnsw" or rows.shape[1] < _BBQ:
            emb["index_options"] = {"type": self._kind}
        properties = {"emb": emb, **{name: {"type": "integer"} for name in fields(0)}}
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        self._client.indices.create(index=self.index, settings=settings, mappings={"properties": properties})
        began = time.perf_counter()
        self._write(range(len(rows)), rows)
        ingest, began = time.perf_counter() - began, time.perf_counter()
        self._merge()
        merge = time.perf_counter() - began
        return Built(store_bytes(self._client, self.index) / len(rows), ingest, merge)

    def _write(self, ids: Sequence[int], rows: Float32s) -> None:
        documents = ({"_index": self.index, "_id": str(row), "emb": rows[row].tolist(), **fields(row)} for row in ids)
        bulk(self._client, documents, chunk_size=500)

    def _merge(self) -> None:
        self._client.indices.refresh(index=self.index)
        self._client.indices.forcemerge(index=self.index, max_num_segments=1)
        self._client.indices.refresh(index=self.index)

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        if self.shares is not None:
            return
        self._write(again, rows)
        deletes = ({"_op_type": "delete", "_index": self.index, "_id": str(row)} for row in gone)
        missed: Any = bulk(self._client, deletes, raise_on_error=False)[1]
        assert all(one["delete"]["status"] == 404 for one in missed), missed  # gone since a run that was stopped
        self._merge()

    def ask(self, query: Float32s, filter_: str | None) -> list[int]:
        knn: dict[str, Any] = {"field": "emb", "query_vector": query.tolist(), "k": 10, "num_candidates": 100}
        if self._oversample is not None:
            knn["rescore_vector"] = {"oversample": self._oversample}
        if filter_ is not None:
            knn["filter"] = {"term": where(filter_)}
        found = self._client.search(index=self.index, knn=knn, size=10, source=False, filter_path="hits.hits._id")
        return [int(hit["_id"]) for hit in found.get("hits", {}).get("hits", [])]

    def close(self) -> None:
        if self.shares is None:
            self._client.options(ignore_status=404).indices.delete(index=self.index)


def store_bytes(client: Elasticsearch, index: str) -> int:
    """Of the primary shards, on disk, by the engine's own analysis of the last commit: its statistics are up to ten
    seconds old (index.store.stats_refresh_interval), which made wrong figures of right ones."""
    client.indices.flush(index=index)
    return int(client.indices.disk_usage(index=index, run_expensive_tasks=True)[index]["store_size_in_bytes"])


# ---- Qdrant's engine


class QdrantEdge:
    """HNSW of Qdrant's embedded engine (m 16, ef_construct 100, hnsw_ef 128). `quantized`: int8 or binary, rescored."""

    filters = changes = stays = True
    shares = None

    def __init__(self, folder: Path, quantized: str | None = None, oversampling: float = 1) -> None:
        self.name = f"HNSW {quantized or 'float32'}" + (f", rescored x{oversampling:g}" if quantized else "")
        self._path, self._quantized, self._oversampling = folder / f"edge-{quantized}", quantized, oversampling
        self._opened: edge.EdgeShard | None = None

    @property
    def _shard(self) -> edge.EdgeShard:
        if self._opened is None:
            self._opened = edge.EdgeShard.load(str(self._path))
        return self._opened

    def build(self, rows: Float32s) -> Built:
        kinds: dict[str, Callable[[], Any]] = {
            "int8": lambda: edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=True),
            "binary": lambda: edge.BinaryQuantizationConfig(always_ram=True),
        }
        chosen = kinds[self._quantized]() if self._quantized else None
        vector = edge.EdgeVectorParams(rows.shape[1], edge.Distance.Cosine, quantization_config=chosen)
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True)
        config = edge.EdgeConfig(vectors={"": vector}, hnsw_config=edge.HnswIndexConfig(16, 100, 1000))
        self._opened = edge.EdgeShard.create(str(self._path), config)
        index_payloads(self._opened)
        began = time.perf_counter()
        self._write(range(len(rows)), rows)
        ingest, began = time.perf_counter() - began, time.perf_counter()
        self._shard.optimize()
        merge = time.perf_counter() - began
        self._shard.flush()
        return Built(folder_bytes(self._path) / len(rows), ingest, merge)

    def _write(self, ids: Sequence[int], rows: Float32s) -> None:
        numbers = list(ids)
        for start in range(0, len(numbers), 500):
            points = [edge.Point(row, rows[row].tolist(), fields(row)) for row in numbers[start : start + 500]]
            self._shard.update(edge.UpdateOperation.upsert_points(points))

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        self._write(again, rows)
        self._shard.update(edge.UpdateOperation.delete_points(list(gone)))
        self._shard.optimize()
        self._shard.flush()

    def ask(self, query: Float32s, filter_: str | None) -> list[int]:
        quantization = (
            edge.QuantizationSearchParams(rescore=True, oversampling=self._oversampling) if self._quantized else None
        )
        only = None
        if filter_ is not None:
            field, value = WANTED[filter_]
            only = edge.Filter(must=[edge.FieldCondition(field, match=edge.MatchValue(value))])
        request = edge.QueryRequest(
            10,
            query=edge.Query.Nearest(query.tolist()),
            filter=only,
            with_payload=False,
            params=edge.SearchParams(hnsw_ef=128, quantization=quantization),
        )
        return [int(point.id) for point in self._shard.query(request)]

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        shutil.rmtree(self._path, ignore_errors=True)


def index_payloads(shard: edge.EdgeShard) -> None:
    """Without an index of a field, a filter reads the payload of every point that it is asked about."""
    for name in fields(0):
        shard.update(edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Integer))


def folder_bytes(path: Path) -> int:
    """Blocks of the segments; the log before them, which is allocated whole, is left out."""
    return sum(512 * file.stat().st_blocks for file in path.rglob("*") if file.is_file() and "wal" not in file.parts)


# ---- local libraries, as yardsticks


class FaissHnsw:
    """faiss IndexHNSWFlat, 16 links, ef 40 while building and 64 in a search."""

    filters, changes, stays = True, False, False
    shares = None
    name = "faiss HNSW16, ef 64"

    def build(self, rows: Float32s) -> Built:
        faiss.omp_set_num_threads(1)
        self._rows = len(rows)
        self._index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        began = time.perf_counter()
        self._index.add(rows)
        ingest = time.perf_counter() - began
        return Built(len(faiss.serialize_index(self._index)) / len(rows), ingest, 0, memory=True)

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        raise NotImplementedError("faiss' HNSW removes nothing")

    def ask(self, query: Float32s, filter_: str | None) -> list[int]:
        given: dict[str, Any] = {"efSearch": 64}
        if filter_ is not None:
            field, value = WANTED[filter_]
            ids = np.array([row for row in range(self._rows) if fields(row)[field] == value])
            given["sel"] = faiss.IDSelectorBatch(ids)
        _, found = self._index.search(query[None], 10, params=vars(faiss)["SearchParametersHNSW"](**given))
        return [int(row) for row in found[0] if row >= 0]

    def close(self) -> None:
        del self._index


class Rabitq:
    """rabitqlib's IVF codes, one cluster, so that every code is scanned."""

    filters = changes = stays = False
    shares = None

    def __init__(self, folder: Path, bits: int) -> None:
        self.name, self._bits, self._path = f"rabitqlib, {bits} bit, all codes", bits, folder / f"rabitq-{bits}"

    def build(self, rows: Float32s) -> Built:
        self._index = rabitqlib.IvfIndex(rows.shape[1], len(rows), 1, self._bits, "ip")
        began = time.perf_counter()
        self._index.build(rows, rows.mean(axis=0, keepdims=True), np.zeros(len(rows), np.uint32))
        ingest = time.perf_counter() - began
        self._index.save(str(self._path))
        return Built(self._path.stat().st_size / len(rows), ingest, 0, memory=True)

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        raise NotImplementedError("not tried")

    def ask(self, query: Float32s, filter_: str | None) -> list[int]:
        assert filter_ is None
        found = self._index.search(query[None], 10, 1)
        return [int(row) for row in np.asarray(found[0]).ravel()[:10]]

    def close(self) -> None:
        del self._index
