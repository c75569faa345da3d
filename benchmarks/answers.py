"""Final answers beside what a user would pick instead: recall, bytes, seconds to build, milliseconds to answer.

    python -m benchmarks.node elasticsearch9     # says its URL
    python -m benchmarks.answers MODELS [--part local] [--minutes 8] [--elasticsearch URL]

Debian package descriptions as MiniLM vectors (benchmarks/debian12.py). Recall@10 of the exact dense top 10, among the
documents that the filter keeps, with a 95 % interval over queries; bytes a document on disk after a merge, of the whole
index with its payload and what it keeps of the dense rows, by the engine's own statistics, or in memory where it says
so; p50 and p95 at one client, encoding included. Every query is asked of all systems of an engine, one after the other
and beginning with another one each time, so that what else the machine does falls on all of them; "x" is the median of
the ratios to the first of them. "Changed": a fifth of the documents written again and a tenth deleted, merged.

MODELS is a folder for models: what is not there yet is fitted first (minutes). It also holds which steps are finished
(`benchmarks.answers_run`): ENGINE.json, to be removed for a new measurement. So the same command goes on where an
earlier run stopped, by --minutes or a kill. An engine goes into the results when all of it is finished:
benchmarks/results/answers.json, .md and .svg.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from elasticsearch import Elasticsearch

from benchmarks.answers_run import Bench, Row, Steps, TimeIsUp, moments, rows_of, run
from benchmarks.answers_table import drawn
from benchmarks.debian12 import DATA, DIMENSION, RESULTS, SEED, Data
from benchmarks.machine import machine
from benchmarks.rivals import (
    Built,
    ElasticKnn,
    FaissHnsw,
    QdrantEdge,
    Rabitq,
    System,
    fields,
    folder_bytes,
    index_payloads,
    store_bytes,
    where,
)
from benchmarks.static_texts import Texts
from sparsevec.answers.retriever import Retriever
from sparsevec.contract.connect import connect
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.config import ResidualConfig
from sparsevec.encoder.learning.residual import learned_residual_codes
from sparsevec.encoder.model import Model
from sparsevec.encoder.recipe import ResidualRecipe
from sparsevec.encoder.residual import name_of
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, SparseVectors

_ENGINE = "elasticsearch://"
WIDTHS = (50, 100, 200, 300)  # of codes
SMALL = (50, 100, 200)  # of codes without packed weights
FITTING, LISTS = 160, (128, 96)  # the code of a document of 600 bytes in all, and weights of shorter queries
_LEARNED = 20_000  # rows
_LEASE = 40  # seconds after which a merge lets go of what was replaced: leases on it are renewed every 30


class Ours:
    """A retriever over one collection; `shares` has the same collection, asked in another way."""

    filters = changes = stays = True

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
        self.name, self._documents, self._url, self.shares = name, documents, url, shares
        self._adapter: Any = shares._adapter if shares else connect(url)
        self._retriever = Retriever(encoder, self._adapter, **options)

    def build(self, rows: Float32s) -> Built:
        self._make()
        began = time.perf_counter()
        self._write(range(len(rows)), rows)
        ingest, began = time.perf_counter() - began, time.perf_counter()
        self._merge()
        merge = time.perf_counter() - began
        return Built(self._bytes() / len(rows), ingest, merge)

    def _make(self) -> None:
        self._adapter.drop()
        about = {"fingerprint": self._documents.fingerprint, "code_bytes": self._retriever._ranking.code_bytes}
        self._adapter.create(self._documents.dimension, **about)
        if self._url.startswith("qdrant+edge"):
            index_payloads(self._adapter._shard)

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
        if self.shares is None:
            self._write(again, rows)
            self._adapter.delete([str(row) if self._theirs else row for row in gone])
            self._merge()

    @property
    def _theirs(self) -> bool:
        return not self._adapter.info().ours

    def ask(self, query: Float32s, filter_: str | None) -> list[int]:
        (hits,) = self._retriever.search(query, 10, where=where(filter_))
        return [int(id_) for id_ in hits.ids]

    def close(self) -> None:
        if self.shares is None:
            self._adapter.drop()
            self._adapter.close()


# ---- what is measured


@dataclass(frozen=True, slots=True)
class Learned:
    """An encoder, what it made of the documents, and by bytes a document the same with residual codes."""

    encoder: SparseEncoder
    documents: SparseVectors
    coded: Mapping[int, SparseEncoder]

    @classmethod
    def at(cls, folder: Path, data: Data | Texts, rows: Float32s, widths: Sequence[int], budget: Budget) -> Learned:
        """From a folder, which is filled with what is not there yet. Residual codes are learned from the first rows."""
        some = rows[:_LEARNED]
        if not (folder / "model").exists():
            encoder = SparseEncoder(rows.shape[1], DIMENSION if len(rows) > 5000 else 2048)
            encoder.fit(rows, queries=data.sample, budget=budget)
            encoder.refine(rows, queries=data.sample).save(folder / "documents")
            encoder.save(folder / "model")
        encoder, documents = SparseEncoder.load(folder / "model"), SparseVectors.load(folder / "documents")
        for width in widths:
            if not (folder / f"{width}").exists():
                coded(encoder, documents[: len(some)], data, some, width).save(folder / f"{width}")
        return cls(encoder, documents, {width: SparseEncoder.load(folder / f"{width}") for width in widths})


def coded(
    encoder: SparseEncoder, documents: SparseVectors, data: Data | Texts, rows: Float32s, width: int
) -> SparseEncoder:
    """With residual codes of that width, learned as `refine` learns them; the rest is the same."""
    model = encoder._fitted()
    head = model.tensors["weights"], model.tensors["mean"]
    learned, groups = learned_residual_codes(
        rows, documents, data.sample, head, width, ResidualRecipe(), SEED, Whole(None, {"residual": 1.0})
    )
    tensors = model.tensors | learned
    kept = ResidualConfig(bytes=width, groups=groups, name=name_of(tensors, tensors["mean"]), signed=True)
    made = SparseEncoder(encoder.input_dim, encoder.output_dim, SEED)
    made._model = Model(model.config.model_copy(update={"residual": kept}), tensors)
    return made


def on_elasticsearch(base: str, wide: Learned) -> list[System]:
    place = f"{_ENGINE}{base.partition('://')[2]}/answers-bench"
    bbq = ElasticKnn(base, "bbq_hnsw", None)
    sparse = Ours("sparse order", wide.encoder, wide.documents, f"{place}-ours", rerank=None)
    return [
        bbq,
        ElasticKnn(base, "bbq_hnsw", 9.9, shares=bbq),
        ElasticKnn(base, "int8_hnsw", None),
        ElasticKnn(base, "int8_flat", None),
        sparse,
        Ours("second look", wide.encoder, wide.documents, "", shares=sparse, rerank="second look"),
        *with_codes(place, wide, WIDTHS),
        *with_codes(f"{place}-small", wide, SMALL, "in favour of bytes", "?favour=bytes"),
        Beside(
            "dense rows of that bbq_hnsw index",
            wide.encoder,
            wide.documents,
            f"{_ENGINE}{base.partition('://')[2]}/{bbq.index}?field=sparse",
            rerank="dense",
            dense_field="emb",
        ),
    ]


def in_600_bytes(base: str, wide: Learned) -> list[System]:
    """What is due: .975 in 600 bytes a document, in one request, at 1.5 times the time of the engine's own."""
    place = f"{_ENGINE}{base.partition('://')[2]}/answers-fitting"
    bbq = ElasticKnn(base, "bbq_hnsw", None, of="fitting")
    (whole,) = with_codes(place, wide, [FITTING])
    about = wide.coded[FITTING], wide.documents, ""
    short = [
        Ours(f"{whole.name}, queries of {n} lists", *about, shares=whole, rerank="residual", query_nnz=n) for n in LISTS
    ]
    return [bbq, ElasticKnn(base, "bbq_hnsw", 9.9, shares=bbq), whole, *short]


def on_many_texts(base: str, learned: Learned) -> list[System]:
    place = f"{_ENGINE}{base.partition('://')[2]}/answers-texts"
    bbq = ElasticKnn(base, "bbq_hnsw", None, of="texts")
    sparse = Ours("sparse order", learned.encoder, learned.documents, f"{place}-ours", rerank=None)
    return [bbq, ElasticKnn(base, "bbq_hnsw", 9.9, shares=bbq), sparse, *with_codes(place, learned, learned.coded)]


def with_codes(
    url: str, learned: Learned, widths: Iterable[int], about: str = "", query: str = "", **options: Any
) -> list[Ours]:
    return [
        Ours(
            f"codes of {width} bytes{about and ', '}{about}",
            learned.coded[width],
            learned.documents,
            f"{url}-{width}{query}",
            rerank="residual",
            **options,
        )
        for width in widths
    ]


class Beside(Ours):
    """A field of ours in the index that a dense one made before."""

    def change(self, again: Sequence[int], gone: Sequence[int], rows: Float32s) -> None:
        """The others have rewritten whole documents, so our vectors of these are written again."""
        assert not set(again) & set(gone)
        self._write(again, rows)
        self._merge()

    def build(self, rows: Float32s) -> Built:
        built = super().build(rows)
        time.sleep(_LEASE)
        self._merge()
        return replace(built, bytes=self._bytes() / len(rows))

    def _make(self) -> None:
        if not self._adapter.info().exists:
            self._adapter.create(self._documents.dimension, fingerprint=self._documents.fingerprint)


def on_qdrant_edge(folder: Path, wide: Learned) -> list[System]:
    folder.mkdir(exist_ok=True)
    sparse = Ours("sparse order", wide.encoder, wide.documents, f"qdrant+edge:{folder}/ours", rerank=None)
    return [
        QdrantEdge(folder),
        QdrantEdge(folder, "int8", 3),
        QdrantEdge(folder, "binary", 3),
        sparse,
        Ours("second look", wide.encoder, wide.documents, "", shares=sparse, rerank="second look"),
        *with_codes(f"qdrant+edge:{folder}/ours", wide, WIDTHS),
    ]


def main(
    models: Annotated[Path, typer.Argument(help="folder of the models and of what is finished; made where it is not")],
    part: Annotated[
        list[str] | None, typer.Option(help="local, qdrant-edge, elasticsearch, ...; all by default")
    ] = None,
    minutes: Annotated[float, typer.Option(help="after which no step begins: exit code 1, to be run again")] = 1e6,
    texts: Annotated[bool, typer.Option(help="sentences as static embeddings, with --rows 200000")] = False,
    data: Annotated[Path, typer.Option(help="the folder of debian12")] = DATA,
    rows: Annotated[int, typer.Option(help="documents")] = 20_000,
    queries: Annotated[int, typer.Option(help="dev queries")] = 200,
    elasticsearch: Annotated[str, typer.Option(help="url of a node of 9.x")] = "http://127.0.0.1:9200",
    out: Annotated[Path, typer.Option(help="where the results go")] = RESULTS,
) -> None:
    until = time.monotonic() + 60 * minutes
    given = Texts.load(data.parent, rows, models / "texts.npz") if texts else Data.load(data)
    bench = Bench.of(given, rows, queries)
    widths = (100,) if texts else (*WIDTHS, FITTING)
    wide = Learned.at(models / "wide", given, bench.rows, widths, Budget(nnz=32, flops=0.65))
    engines: dict[str, Callable[[], list[System]]] = {
        "local": lambda: [FaissHnsw(), Rabitq(models, 1), Rabitq(models, 4)],
        "qdrant-edge": lambda: on_qdrant_edge(models / "qdrant-edge", wide),
        "elasticsearch": lambda: on_elasticsearch(elasticsearch, wide),
        "elasticsearch, 600 bytes": lambda: in_600_bytes(elasticsearch, wide),
    }
    if texts:
        engines = {"elasticsearch, texts": lambda: on_many_texts(elasticsearch, wide)}
    for engine in part or engines:
        systems = engines[engine]()
        settings = {"rows": rows, "queries": queries, "systems": [system.name for system in systems]}
        steps = Steps.of(models / f"{engine}.json", settings, until)
        try:
            run(bench, systems, steps)
        except TimeIsUp:
            print(f"{engine}: {len(steps.done)} steps are done; the same command goes on")
            raise typer.Exit(1) from None
        about = f"{rows:,} documents, {queries:,} queries, {machine()}, {moments(steps)}"
        written(engine, about, rows_of(systems, Ours, steps), out)


def written(engine: str, about: str, rows: Sequence[Row], out: Path) -> None:
    """Into the results, in place of what was there of this engine."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "answers.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    kept[engine] = {"about": about, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    drawn(out)


if __name__ == "__main__":
    typer.run(main)
