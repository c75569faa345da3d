"""Final answers beside what a user would pick instead: recall, bytes, seconds to build, milliseconds to answer.

    python -m benchmarks.answers [--rows 20000] [--queries 300] [--model FOLDER] [--elasticsearch http://127.0.0.1:9200]

Debian package descriptions as MiniLM vectors (benchmarks/debian12.py). Recall@10 of the exact dense top 10, among the
documents that the filter keeps, with a 95 % interval over queries; bytes a document on disk after a merge, of the whole
index with its payload and what it keeps of the dense rows, by the engine's own statistics, or in memory where it says
so; p50 and p95 at one client that asks one query after the other, encoding included. "Changed": a fifth of the
documents written again and a tenth deleted, merged. Without --elasticsearch its rows are left out. `--model` holds what
`sparsevec fit --refine` wrote, else it is learned. Results: benchmarks/results/answers.json, .md and .svg.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from elasticsearch import Elasticsearch

from benchmarks.answers_table import picture, table
from benchmarks.debian12 import DATA, DIMENSION, RESULTS, SEED, Data
from benchmarks.machine import machine
from benchmarks.rivals import (
    FEW,
    MANY,
    WANTED,
    Built,
    ElasticKnn,
    FaissHnsw,
    QdrantEdge,
    Rabitq,
    System,
    fields,
    folder_bytes,
    store_bytes,
)
from sparsevec.answers.retriever import Retriever
from sparsevec.contract.connect import connect
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.learning.residual import learned_residual_codes
from sparsevec.encoder.model import Model
from sparsevec.encoder.recipe import ResidualRecipe
from sparsevec.encoder.residual import name_of
from sparsevec.encoder.store import ResidualConfig
from sparsevec.measure.intervals import interval
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, SparseVectors

WIDTHS = (50, 100, 200, 300)
STATES, FILTERS = ("fresh", "changed"), (None, MANY, FEW)
_WARM = 20


@dataclass(slots=True)
class Cell:
    """Of one state and filter."""

    recall: float
    interval: tuple[float, float]
    p50: float
    p95: float


@dataclass(slots=True)
class Row:
    name: str
    engine: str
    built: Built
    ours: bool = False
    cells: dict[str, Cell] = field(default_factory=dict)


class Ours:
    """A retriever over one collection; `shares` has the same collection, asked in another way."""

    filters = changes = True

    def __init__(
        self,
        name: str,
        encoder: SparseEncoder,
        documents: SparseVectors,
        url: str,
        *,
        shares: Ours | None = None,
        **options: Any,
    ) -> None:
        self.name, self._documents, self._url, self._shares = name, documents, url, shares
        self._adapter: Any = shares._adapter if shares else connect(url)
        self._retriever = Retriever(encoder, self._adapter, **options)
        self._built: Built | None = None

    def build(self, rows: Float32s) -> Built:
        if self._shares is not None:
            assert self._shares._built is not None
            return self._shares._built
        began = time.perf_counter()
        self._write(range(len(rows)), rows)
        ingest, began = time.perf_counter() - began, time.perf_counter()
        self._merge()
        merge = time.perf_counter() - began
        self._built = Built(self._bytes() / len(rows), ingest, merge)
        return self._built

    def _write(self, ids: Sequence[int], rows: Float32s) -> None:
        at = np.array(ids)
        payloads = [fields(row) for row in ids]
        report = self._retriever.add(list(ids), rows[at], payloads, vectors=self._documents[at])
        assert report.written == len(ids), report

    def _merge(self) -> None:
        self._adapter.count()  # every write is visible
        if self._url.startswith("elasticsearch"):
            client, index = self._elastic()
            client.indices.forcemerge(index=index, max_num_segments=1)
            client.indices.refresh(index=index)
        elif self._url.startswith("qdrant+edge"):
            self._adapter._shard.optimize()
            self._adapter._shard.flush()

    def _bytes(self) -> int:
        if self._url.startswith("elasticsearch"):
            return store_bytes(*self._elastic())
        return folder_bytes(Path(self._url.partition(":")[2]))

    def _elastic(self) -> tuple[Elasticsearch, str]:
        place, _, index = self._url.partition("://")[2].partition("?")[0].partition("/")
        return Elasticsearch(f"http://{place}", request_timeout=600), index

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        if self._shares is None:
            self._write(again, rows)
            self._adapter.delete([str(row) if self._theirs else row for row in gone])
            self._merge()

    @property
    def _theirs(self) -> bool:
        return not self._adapter.info().ours

    def ask(self, query: Float32s, field: str | None) -> list[int]:
        where = None if field is None else {field: WANTED}
        (hits,) = self._retriever.search(query, 10, where=where)
        return [int(id_) for id_ in hits.ids]

    def close(self) -> None:
        if self._shares is None:
            self._adapter.drop()
            self._adapter.close()


# ---- measuring


@dataclass(frozen=True, slots=True)
class Bench:
    rows: Float32s
    queries: Float32s
    again: list[int]
    gone: list[int]

    @classmethod
    def of(cls, data: Data, rows: int, queries: int) -> Bench:
        order = np.random.default_rng(0).permutation(rows)
        again, gone = order[: rows // 5].tolist(), order[rows // 5 : rows // 5 + rows // 10].tolist()
        return cls(data.documents[:rows], data.queries[:queries], again, gone)

    def truth(self, state: str, field: str | None) -> list[set[int]]:
        """The exact dense top 10 of each query, of those that are there and that the filter keeps."""
        kept = [row for row in range(len(self.rows)) if field is None or fields(row)[field] == WANTED]
        at = np.array(sorted(set(kept) - (set(self.gone) if state == "changed" else set())))
        return [set(at[np.argsort(-(self.rows[at] @ query), kind="stable")[:10]].tolist()) for query in self.queries]

    def measure(self, system: System, state: str, field: str | None) -> Cell:
        for query in self.queries[:_WARM]:
            system.ask(query, field)
        recalls, seconds = [], []
        for query, due in zip(self.queries, self.truth(state, field), strict=True):
            began = time.perf_counter()
            found = system.ask(query, field)
            seconds.append(time.perf_counter() - began)
            recalls.append(len(due & set(found)) / len(due))
        p50, p95 = (1000 * float(np.quantile(seconds, part)) for part in (0.5, 0.95))
        return Cell(float(np.mean(recalls)), interval(recalls), p50, p95)

    def run(self, engine: str, systems: Sequence[System]) -> Iterator[Row]:
        """Of one engine: all are built, then asked, then changed, then asked again."""
        rows = [Row(system.name, engine, system.build(self.rows), isinstance(system, Ours)) for system in systems]
        for state in STATES:
            for system in systems:
                if state == "changed" and system.changes:
                    system.change(self.again, self.gone, self.rows)
            for row, system in zip(rows, systems, strict=True):
                for one in FILTERS if state == "fresh" else (None,):
                    if (one is None or system.filters) and (state == "fresh" or system.changes):
                        row.cells[f"{state} {one or 'all'}"] = self.measure(system, state, one)
        for system in reversed(systems):
            system.close()
        yield from rows


# ---- what is measured


@dataclass(frozen=True, slots=True)
class Learned:
    encoder: SparseEncoder
    documents: SparseVectors
    coded: dict[int, SparseEncoder]
    """by bytes a document: the same encoder with residual codes"""

    @classmethod
    def at(cls, folder: Path | None, data: Data, rows: Float32s) -> Learned:
        if folder is not None:
            documents = SparseVectors.load(folder / "documents")[: len(rows)]
            return cls.of(SparseEncoder.load(folder), documents, data, rows)
        encoder = SparseEncoder(rows.shape[1], DIMENSION if len(rows) > 5000 else 2048)
        encoder.fit(rows, queries=data.sample, budget=Budget(nnz=32, flops=0.65))
        return cls.of(encoder, encoder.refine(rows, queries=data.sample), data, rows)

    @classmethod
    def of(cls, encoder: SparseEncoder, documents: SparseVectors, data: Data, rows: Float32s) -> Learned:
        return cls(encoder, documents, {width: coded(encoder, documents, data, rows, width) for width in WIDTHS})


def coded(encoder: SparseEncoder, documents: SparseVectors, data: Data, rows: Float32s, width: int) -> SparseEncoder:
    """With residual codes of that width, learned as `refine` learns them; the rest is the same."""
    model = encoder._fitted()
    head = model.tensors["weights"], model.tensors["mean"]
    learned, groups = learned_residual_codes(
        rows, documents, data.sample, head, width, ResidualRecipe(), SEED, Whole(None, {"residual": 1.0})
    )
    tensors = model.tensors | learned
    kept = ResidualConfig(bytes=width, groups=groups, name=name_of(tensors, tensors["mean"]))
    made = SparseEncoder(encoder.input_dim, encoder.output_dim, SEED)
    made._model = Model(model.config.model_copy(update={"residual": kept}), tensors)
    return made


def on_elasticsearch(base: str, learned: Learned) -> list[System]:
    encoder, documents = learned.encoder, learned.documents
    place = base.partition("://")[2]
    bbq = ElasticKnn(base, "bbq_hnsw", None)
    sparse = Ours("sparse order", encoder, documents, f"elasticsearch://{place}/answers-bench-ours", rerank=None)
    beside = f"elasticsearch://{place}/{bbq.index}?field=sparse"
    return [
        bbq,
        ElasticKnn(base, "bbq_hnsw", 9.9, shares=bbq),
        ElasticKnn(base, "int8_hnsw", None),
        ElasticKnn(base, "int8_flat", None),
        sparse,
        Ours("second look", encoder, documents, "", shares=sparse),
        *(
            Ours(_named(width), other, documents, f"elasticsearch://{place}/answers-bench-{width}", **_RESIDUAL)
            for width, other in learned.coded.items()
        ),
        Beside("dense rows of that bbq_hnsw index", encoder, documents, beside, rerank="dense", dense_field="emb"),
    ]


class Beside(Ours):
    """A field of ours in the index that a dense one made before."""

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        """The others have rewritten whole documents, so our vectors of these are written again."""
        assert not set(again) & set(gone)
        self._write(again, rows)
        self._merge()

    def build(self, rows: Float32s) -> Built:
        self._adapter.create(self._documents.dimension, fingerprint=self._documents.fingerprint)
        return super().build(rows)


def on_qdrant_edge(folder: Path, learned: Learned) -> list[System]:
    encoder, documents = learned.encoder, learned.documents
    sparse = Ours("sparse order", encoder, documents, f"qdrant+edge:{folder}/ours", rerank=None)
    return [
        QdrantEdge(folder),
        QdrantEdge(folder, "int8", 3),
        QdrantEdge(folder, "binary", 3),
        sparse,
        Ours("second look", encoder, documents, "", shares=sparse),
        *(
            Ours(_named(width), other, documents, f"qdrant+edge:{folder}/ours-{width}", **_RESIDUAL)
            for width, other in learned.coded.items()
        ),
    ]


_RESIDUAL: dict[str, Any] = {"rerank": "residual", "candidates": 200}


def _named(width: int) -> str:
    return f"residual codes of {width} bytes"


def main(
    data: Annotated[Path, typer.Option(help="the folder of debian12")] = DATA,
    rows: Annotated[int, typer.Option(help="documents")] = 20_000,
    queries: Annotated[int, typer.Option(help="dev queries")] = 300,
    model: Annotated[Path | None, typer.Option(help="what `sparsevec fit --refine -o` wrote")] = None,
    elasticsearch: Annotated[str | None, typer.Option(help="url of a node of 9.x")] = None,
    out: Annotated[Path, typer.Option(help="where the results go")] = RESULTS,
) -> None:
    given = Data.load(data)
    bench, folder = Bench.of(given, rows, queries), Path(tempfile.mkdtemp(prefix="sparsevec-answers-"))
    learned = Learned.at(model, given, bench.rows)
    engines: dict[str, list[System]] = {"local": [FaissHnsw(), Rabitq(folder, 1), Rabitq(folder, 4)]}
    if elasticsearch is not None:
        engines["Elasticsearch"] = on_elasticsearch(elasticsearch, learned)
    engines["qdrant-edge"] = on_qdrant_edge(folder, learned)
    found: list[Row] = []
    try:
        for engine, systems in engines.items():
            found += bench.run(engine, systems)
            written(found, f"{rows:,} documents, {queries:,} queries, {machine()}", out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def written(found: Sequence[Row], about: str, out: Path) -> None:
    lines = json.dumps({"about": about, "rows": [asdict(row) for row in found]}, indent=1)
    (out / "answers.json").write_text(lines + "\n")
    (out / "answers.md").write_text(table(about, json.loads(lines)["rows"]))
    picture(json.loads(lines)["rows"], out / "answers.svg")


if __name__ == "__main__":
    typer.run(main)
