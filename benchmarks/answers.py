"""Final answers beside what a user would pick instead: recall, bytes, seconds to build, milliseconds to answer.

    python -m benchmarks.answers MODELS [--part local] [--rows 20000] [--queries 300] [--elasticsearch URL]

Debian package descriptions as MiniLM vectors (benchmarks/debian12.py). Recall@10 of the exact dense top 10, among the
documents that the filter keeps, with a 95 % interval over queries; bytes a document on disk after a merge, of the whole
index with its payload and what it keeps of the dense rows, by the engine's own statistics, or in memory where it says
so; p50 and p95 at one client, encoding included. Every query is asked of all systems of an engine, one after the other
and beginning with another one each time, so that what else the machine does falls on all of them; "x" is the median of
the ratios to the first of them. "Changed": a fifth of the documents written again and a tenth deleted, merged.

MODELS is a folder for models: what is not there yet is fitted first (minutes). A part that is not named stays as it is
in the results, and so do systems that are not: benchmarks/results/answers.json, .md and .svg.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from elasticsearch import Elasticsearch

from benchmarks.answers_table import drawn
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
from sparsevec.encoder.head import Float64s
from sparsevec.encoder.learning.residual import learned_residual_codes
from sparsevec.encoder.model import Model
from sparsevec.encoder.recipe import ResidualRecipe
from sparsevec.encoder.residual import name_of
from sparsevec.encoder.store import ResidualConfig
from sparsevec.measure.intervals import interval
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, SparseVectors

_ENGINE = "elasticsearch://"
WIDTHS, SHORT = (50, 100, 200, 300), (100, 160)  # of codes, beside queries of any length and of 64 lists
FILTERS = (None, MANY, FEW)
_WARM = 20
_LEASE = 40  # seconds after which a merge lets go of what was replaced: leases on it are renewed every 30


@dataclass(slots=True)
class Cell:
    """Of one state and filter."""

    recall: float
    interval: tuple[float, float]
    p50: float
    p95: float
    ratio: float
    """median, over queries, of the time to that of the engine's first system"""


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

    def measure(self, systems: Sequence[System], state: str, field: str | None) -> list[Cell]:
        """Of all systems, each query by each of them before the next."""
        for system in systems:
            for query in self.queries[:_WARM]:
                system.ask(query, field)
        truth = self.truth(state, field)
        recalls, seconds = np.empty((2, len(systems), len(self.queries)))
        for number, (query, due) in enumerate(zip(self.queries, truth, strict=True)):
            for at in np.roll(range(len(systems)), -number).tolist():
                began = time.perf_counter()
                found = systems[at].ask(query, field)
                seconds[at, number] = time.perf_counter() - began
                recalls[at, number] = len(due & set(found)) / len(due)
        return [self._cell(*one, seconds[0]) for one in zip(recalls, seconds, strict=True)]

    @staticmethod
    def _cell(recalls: Float64s, seconds: Float64s, first: Float64s) -> Cell:
        p50, p95 = (1000 * float(np.quantile(seconds, part)) for part in (0.5, 0.95))
        found = interval(recalls)
        assert found is not None  # many queries
        return Cell(float(recalls.mean()), found, p50, p95, float(np.median(seconds / first)))

    def run(self, engine: str, systems: Sequence[System]) -> Iterator[Row]:
        """Of one engine: all are built, then asked, then changed, then asked again."""
        rows = [Row(system.name, engine, system.build(self.rows), isinstance(system, Ours)) for system in systems]
        for state, one in [("fresh", one) for one in FILTERS] + [("changed", None)]:
            if state == "changed":
                for system in systems:
                    if system.changes:
                        system.change(self.again, self.gone, self.rows)
            can = [at for at, system in enumerate(systems) if (state == "fresh" or system.changes)]
            can = [at for at in can if one is None or systems[at].filters]
            if can:
                for at, cell in zip(can, self.measure([systems[at] for at in can], state, one), strict=True):
                    rows[at].cells[f"{state} {one or 'all'}"] = cell
        for system in reversed(systems):
            system.close()
        yield from rows


# ---- what is measured


@dataclass(frozen=True, slots=True)
class Learned:
    """An encoder, what it made of the documents, and by bytes a document the same with residual codes."""

    encoder: SparseEncoder
    documents: SparseVectors
    coded: Mapping[int, SparseEncoder]

    @classmethod
    def at(cls, folder: Path, data: Data, rows: Float32s, widths: Sequence[int], budget: Budget) -> Learned:
        """From a folder, which is filled with what is not there yet."""
        if not (folder / "model").exists():
            encoder = SparseEncoder(rows.shape[1], DIMENSION if len(rows) > 5000 else 2048)
            encoder.fit(rows, queries=data.sample, budget=budget)
            encoder.refine(rows, queries=data.sample).save(folder / "documents")
            encoder.save(folder / "model")
        encoder, documents = SparseEncoder.load(folder / "model"), SparseVectors.load(folder / "documents")
        for width in widths:
            if not (folder / f"{width}").exists():
                coded(encoder, documents, data, rows, width).save(folder / f"{width}")
        return cls(encoder, documents, {width: SparseEncoder.load(folder / f"{width}") for width in widths})


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


def on_elasticsearch(base: str, wide: Learned, short: Learned) -> list[System]:
    place = base.partition("://")[2]
    bbq = ElasticKnn(base, "bbq_hnsw", None)
    sparse = Ours("sparse order", wide.encoder, wide.documents, f"{_ENGINE}{place}/answers-bench-ours", rerank=None)
    return [
        bbq,
        ElasticKnn(base, "bbq_hnsw", 9.9, shares=bbq),
        ElasticKnn(base, "int8_hnsw", None),
        ElasticKnn(base, "int8_flat", None),
        sparse,
        Ours("second look", wide.encoder, wide.documents, "", shares=sparse, rerank="second look"),
        *with_codes(f"{_ENGINE}{place}/answers-bench", wide),
        *with_codes(f"{_ENGINE}{place}/answers-bench-short", short, ", queries of 64 lists", candidates=200),
        Beside(
            "dense rows of that bbq_hnsw index",
            wide.encoder,
            wide.documents,
            f"{_ENGINE}{place}/{bbq.index}?field=sparse",
            rerank="dense",
            dense_field="emb",
        ),
    ]


def with_codes(url: str, learned: Learned, about: str = "", **options: Any) -> list[Ours]:
    return [
        Ours(f"codes of {width} bytes{about}", one, learned.documents, f"{url}-{width}", rerank="residual", **options)
        for width, one in learned.coded.items()
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
        built = super().build(rows)
        time.sleep(_LEASE)
        self._merge()
        self._built = replace(built, bytes=self._bytes() / len(rows))
        return self._built


def on_qdrant_edge(folder: Path, wide: Learned) -> list[System]:
    sparse = Ours("sparse order", wide.encoder, wide.documents, f"qdrant+edge:{folder}/ours", rerank=None)
    return [
        QdrantEdge(folder),
        QdrantEdge(folder, "int8", 3),
        QdrantEdge(folder, "binary", 3),
        sparse,
        Ours("second look", wide.encoder, wide.documents, "", shares=sparse, rerank="second look"),
        *with_codes(f"qdrant+edge:{folder}/ours", wide),
    ]


def main(
    models: Annotated[Path, typer.Argument(help="folder of the models; made where they are not there")],
    part: Annotated[list[str] | None, typer.Option(help="local, qdrant-edge, elasticsearch; all by default")] = None,
    only: Annotated[list[str] | None, typer.Option(help="how the names of the systems begin; all by default")] = None,
    data: Annotated[Path, typer.Option(help="the folder of debian12")] = DATA,
    rows: Annotated[int, typer.Option(help="documents")] = 20_000,
    queries: Annotated[int, typer.Option(help="dev queries")] = 300,
    elasticsearch: Annotated[str, typer.Option(help="url of a node of 9.x")] = "http://127.0.0.1:9200",
    out: Annotated[Path, typer.Option(help="where the results go")] = RESULTS,
) -> None:
    given = Data.load(data)
    bench, folder = Bench.of(given, rows, queries), Path(tempfile.mkdtemp(prefix="sparsevec-answers-"))
    wide = Learned.at(models / "wide", given, bench.rows, WIDTHS, Budget(nnz=32, flops=0.65))
    short = Learned.at(models / "short", given, bench.rows, SHORT, Budget(nnz=32, flops=0.65, query_nnz=64))
    engines: dict[str, Callable[[], list[System]]] = {
        "local": lambda: [FaissHnsw(), Rabitq(folder, 1), Rabitq(folder, 4)],
        "qdrant-edge": lambda: on_qdrant_edge(folder, wide),
        "elasticsearch": lambda: on_elasticsearch(elasticsearch, wide, short),
    }
    about = f"{rows:,} documents, {queries:,} queries, {machine()}"
    try:
        for engine in part or engines:
            began = time.strftime("%Y-%m-%d")
            systems = [one for one in engines[engine]() if not only or one.name.startswith(tuple(only))]
            found = list(bench.run(engine, systems))
            written(engine, found, f"{about}, load average {os.getloadavg()[1]:.0f}, {began}", out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def written(engine: str, found: Sequence[Row], about: str, out: Path) -> None:
    """Into the results, in place of what was there of these systems; others stay, and say of which run they are."""
    kept: dict[str, Any] = json.loads((out / "answers.json").read_text()) if (out / "answers.json").exists() else {}
    before, rows = kept.get(engine, {"about": "", "rows": []}), {row.name: asdict(row) for row in found}
    earlier = {row["name"]: row | {"earlier": row.get("earlier", before["about"])} for row in before["rows"]}
    kept[engine] = {"about": about, "rows": list((earlier | rows).values())}
    (out / "answers.json").write_text(json.dumps(kept, indent=1) + "\n")
    drawn(out)


if __name__ == "__main__":
    typer.run(main)
