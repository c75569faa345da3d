"""Whether queries take the milliseconds that their encoder was learned for, and what they find in that time.

    python -m benchmarks.milliseconds URL... [--rows 20000] [--share 0.85]... [--data ../shared/data/debian12]

Debian package descriptions as MiniLM vectors. At each URL a collection of their codes (32 weights, F .65) is made and
its latency model fitted; then encoders are learned with `Budget(nnz=32, milliseconds=…, engine=model)`, for shares of
the time that queries of the first take. Milliseconds are medians at the client, of 200 dev queries for ten hits, one at
a time, each query asked of all collections of the engine in turn. R10 is the overlap with the exact dense top 10, @100
the share of it in the sparse top 100. Rows are kept engine by engine: benchmarks/results/milliseconds.json and .md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import sparsevec as sv
from benchmarks.debian12 import DATA, DIMENSION, RESULTS, SEED, A, Data
from benchmarks.machine import machine
from benchmarks.timing import table
from sparsevec.contract.urls import Url
from sparsevec.measure.cost import cost
from sparsevec.measure.recall import judged, sparse_top
from sparsevec.postings import Float64s

HITS, QUERIES, ROUNDS = 10, 200, 3


@dataclass(frozen=True, slots=True)
class Found:
    """Of one encoder."""

    asked: float | None
    """milliseconds of the budget; None: of F alone"""
    measured: float
    query_nnz: float
    flops: float
    recall_10: float
    recall_10_at_100: float


class Served:
    """Codes of the documents by one encoder, in a collection of their own."""

    def __init__(self, url: str, encoder: sv.SparseEncoder, data: Data) -> None:
        self.codes, self.queries = encoder.encode_document(data.documents), encoder.encode_query(data.queries[:QUERIES])
        self.adapter = sv.connect(url)
        self.adapter.drop()
        self.adapter.create(encoder.output_dim)
        sv.ingest(self.adapter, np.arange(len(self.codes)), self.codes).require_complete()

    def found(self, asked: float | None, seconds: Float64s, data: Data) -> Found:
        found = judged(data.documents, data.queries[:QUERIES], sparse_top(self.codes, self.queries, 100))
        spent, lists = cost(self.queries, self.codes).flops, self.queries.nnz / len(self.queries)
        at_10, at_100 = float(found.recall_10.mean()), float(found.recall_10_at_100.mean())
        return Found(asked, 1e3 * float(np.median(seconds)), lists, spent, at_10, at_100)


def timed(served: Sequence[Served]) -> Float64s:
    """(collections, queries): seconds, the median of three rounds after one to warm up."""
    seconds = np.empty((1 + ROUNDS, len(served), QUERIES))
    for one in seconds:
        for query in range(QUERIES):
            for at in np.roll(range(len(served)), -query).tolist():
                asking = served[at].queries[query : query + 1]
                began = time.perf_counter()
                served[at].adapter.search(asking, HITS)
                one[at, query] = time.perf_counter() - began
    middle: Float64s = np.median(seconds[1:], axis=0)
    return middle


def measured(url: str, data: Data, shares: Sequence[float]) -> tuple[sv.LatencyModel, list[Found]]:
    place = Url.parse(url)

    def named(which: str) -> str:
        return str(replace(place, path=f"{place.path}-{which}"))

    wanted: list[float | None] = [None]
    served = [Served(named("first"), _learned(data, A), data)]
    try:
        model = sv.latency_model(served[0].adapter, served[0].codes).model_copy(update={"hits": HITS})
        usual = 1e3 * float(np.median(timed(served)))
        for share in shares:
            wanted.append(share * usual)
            budget = sv.Budget(nnz=32, milliseconds=share * usual, engine=model)
            served.append(Served(named(f"{100 * share:.0f}"), _learned(data, budget), data))
        seconds = timed(served)
    finally:
        for one in served:
            one.adapter.drop()
            one.adapter.close()
    return model, [one.found(asked, spent, data) for one, asked, spent in zip(served, wanted, seconds, strict=True)]


def _learned(data: Data, budget: sv.Budget) -> sv.SparseEncoder:
    return sv.SparseEncoder(data.documents.shape[1], DIMENSION, SEED).fit(data.documents, data.sample, budget=budget)


def markdown(kept: dict[str, Any]) -> str:
    about = [part.replace("\n", " ") for part in (__doc__ or "").split("\n\n")]
    columns = ("engine", "budget, ms", "measured, ms", "lists a query", "F", "R10", "@100")
    rows = [
        (
            engine,
            "none, F .65" if found.asked is None else f"{found.asked:.2f}",
            f"{found.measured:.2f}",
            f"{found.query_nnz:.0f}",
            f"{found.flops:.3f}",
            f"{found.recall_10:.3f}",
            f"{found.recall_10_at_100:.3f}",
        )
        for engine, one in kept.items()
        for found in (Found(**row) for row in one["rows"])
    ]
    where = [f"- {engine}: {one['about']}" for engine, one in kept.items()]
    return "\n".join(["# Budgets of milliseconds", "", about[0], "", about[2], "", table(columns, rows), *where, ""])


def main(
    urls: Annotated[list[str], typer.Argument(help="Where collections are made; names are added to, and dropped.")],
    rows: Annotated[int, typer.Option(help="Documents.")] = 20_000,
    share: Annotated[list[float] | None, typer.Option(help="Of the usual time; by default .85 and .7.")] = None,
    data: Annotated[Path, typer.Option(help="Folder with minilm_20k.npz.")] = DATA,
) -> None:
    """Make the table, and keep it as JSON and Markdown."""
    whole = Data.load(data)
    some = replace(whole, documents=whole.documents[:rows])
    path = RESULTS / "milliseconds.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for url in urls:
        model, found = measured(url, some, share or (0.85, 0.7))
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        about = f"{len(some.documents):,} documents, {machine()}, load a core {load:.1f}; {model}"
        kept[model.engine] = {"about": about.replace("\n", " "), "rows": [asdict(one) for one in found]}
        path.write_text(json.dumps(kept, indent=1) + "\n")
        path.with_suffix(".md").write_text(markdown(kept))


if __name__ == "__main__":
    typer.run(main)
