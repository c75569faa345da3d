"""How much of dense search survives in sparse vectors, at what cost, and what others make of the same.

    python -m benchmarks.debian12 [--data ../shared/data/debian12] [--row NAME]... [--again]

20,000 Debian package descriptions as MiniLM vectors (384 columns); 8,000 package synopses as the sample of queries;
judged with 2,000 others that no row has seen. Every row is made in a process of its own, so that its memory is its own;
a row that is already in the results is not made again. Results: benchmarks/results/debian12.json and .md.

R10 is the overlap of the sparse with the exact dense top 10, @100 the share of the dense top 10 inside the sparse top
100, "2nd look" the R10 of these 100 in the order that the second look gives them, which needs no bytes beside the
sparse field, nDCG@10 that of the known item after the sparse top 100 were re-ranked with the dense vectors. F is the
expected number of multiplications of a query-document pair, R_sub its ratio to that of dimensions used equally often:
below 1, queries avoid the dimensions that many documents use.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias, TypedDict

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from sparsevec.contract.searches import products
from sparsevec.dense import best, nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.calibration import document_cut, query_purse
from sparsevec.encoder.head import Projection, encoded
from sparsevec.measure.cost import usage
from sparsevec.measure.intervals import Interval, interval
from sparsevec.measure.recall import Qrels, dense_top, evaluate, recalls, sparse_top
from sparsevec.measure.recall import judged as measured
from sparsevec.vectors import Float32s, Int64s, SparseVectors

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared/data/debian12"
RESULTS = ROOT / "benchmarks/results"
NNZ, FLOPS, DIMENSION, SEED = 32, 0.65, 8192, 0
HELD_OUT = 512


@dataclass(frozen=True, slots=True)
class Data:
    """Unit rows; `answers` (q,) is the row of the one document that each dev query is about."""

    documents: Float32s
    sample: Float32s
    queries: Float32s
    answers: Int64s

    @classmethod
    def load(cls, folder: Path) -> Data:
        with np.load(folder / "minilm_20k.npz") as arrays:
            documents, sample, queries = (unit_rows(arrays[name]) for name in ("docs", "q_train", "q_dev"))
            row = {name: number for number, name in enumerate(arrays["doc_ids"].tolist())}
            answers = [row[name.removeprefix("q-")] for name in arrays["q_dev_ids"].tolist()]
        return cls(documents, sample, queries, np.array(answers))

    @property
    def qrels(self) -> Qrels:
        return {query: {answer: 1} for query, answer in enumerate(self.answers.tolist())}


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of the table. `None` where a figure has no meaning."""

    dimension: int
    nnz: float | None = None
    query_nnz: float | None = None
    flops: float | None = None
    r_sub: float | None = None
    recall_10: float | None = None
    recall_10_interval: tuple[float, float] | None = None
    """95 %, over queries"""
    second_look: float | None = None
    """R10 of the sparse top 100 in the order of the second look"""
    recall_10_at_100: float | None = None
    ndcg_10: float | None = None
    dead: int | None = None
    longest_list: float | None = None
    seconds: float | None = None
    """of training, fit and refine together, on this machine"""
    cpu_seconds: float | None = None
    """of all threads of the run, judging included: what the seconds would be alone on one core"""
    peak_mb: float | None = None
    machine: str = ""
    note: str = ""


# ---- judging


Maker: TypeAlias = Callable[[Data], Iterator[Figures]]


class Quality(TypedDict):
    recall_10: float
    recall_10_interval: Interval | None
    recall_10_at_100: float
    ndcg_10: float | None


def judged(data: Data, candidates: Sequence[Int64s]) -> Quality:
    """R10, @100 and nDCG@10 of up to 100 candidates of each query, best first, by the package's own ruler."""
    found = measured(data.documents, data.queries, candidates, qrels=data.qrels)
    return {
        "recall_10": float(found.recall_10.mean()),
        "recall_10_interval": interval(found.recall_10),
        "recall_10_at_100": float(found.recall_10_at_100.mean()),
        "ndcg_10": None if found.ndcg_10 is None else float(found.ndcg_10.mean()),
    }


def sparse_figures(data: Data, queries: SparseVectors, documents: SparseVectors, seconds: float) -> Figures:
    """Everything about one pair of sparse sides."""
    found = evaluate(data.documents, data.queries, documents, queries, qrels=data.qrels)
    return Figures(
        dimension=documents.dimension,
        nnz=found.active_dims,
        query_nnz=found.query_active_dims,
        flops=found.flops,
        r_sub=found.r_sub,
        dead=found.dead_dims,
        longest_list=found.max_document_frequency,
        seconds=seconds,
        recall_10=found.recall_10,
        recall_10_interval=found.recall_10_interval,
        recall_10_at_100=found.recall_10_at_100,
        ndcg_10=found.ndcg_10,
    )


def looked_again(data: Data, encoder: SparseEncoder, documents: SparseVectors, figures: Figures) -> Figures:
    """`figures` with what the second look makes of the candidates."""
    candidates = [np.sort(rows) for rows in sparse_top(documents, encoder.encode_query(data.queries), 100)]
    looks = encoder.encode_second_look(data.queries)
    ordered = [rows[best(products(look, documents[rows])[0], 10)] for rows, look in zip(candidates, looks, strict=True)]
    return replace(figures, second_look=judged(data, ordered)["recall_10"])


# ---- the rows


def dense(data: Data) -> Iterator[Figures]:
    everything = judged(data, dense_top(data.documents, data.queries, 100))
    yield Figures(dimension=384, nnz=384, query_nnz=384, flops=384, seconds=0, **everything)


def pca(data: Data) -> Iterator[Figures]:
    began = time.perf_counter()
    mean = data.documents.mean(axis=0)
    _, _, directions = np.linalg.svd(data.documents - mean, full_matrices=False)
    seconds = time.perf_counter() - began
    documents, queries = (unit_rows((rows - mean) @ directions[:NNZ].T) for rows in (data.documents, data.queries))
    everything = judged(data, dense_top(documents, queries, 100))
    yield Figures(dimension=NNZ, nnz=NNZ, query_nnz=NNZ, flops=NNZ, seconds=seconds, **everything)


def baseline(name: str) -> Maker:
    """A head of `baselines`, cut to 32 weights a document: queries for the F that ours may spend, then as documents."""

    def make(data: Data) -> Iterator[Figures]:
        from benchmarks import baselines

        began = time.perf_counter()
        head = getattr(baselines, name)(data.documents, DIMENSION, NNZ, SEED)
        seconds = time.perf_counter() - began
        projection = Projection(head.weights, head.bias, head.mean)
        cut = document_cut(data.documents, projection, NNZ, 16)
        documents = encoded(data.documents, projection, cut)
        bought = query_purse([data.sample[:HELD_OUT]], projection, usage(documents), FLOPS, 16)
        for same in (bought, (cut, None)):
            yield sparse_figures(data, encoded(data.queries, projection, *same), documents, seconds)

    return make


def ours(dimension: int, budget: Budget, *, sample: bool = True) -> Maker:
    """The head, then the same head refined."""

    def make(data: Data) -> Iterator[Figures]:
        queries, began = data.sample if sample else None, time.perf_counter()
        encoder = SparseEncoder(384, dimension, SEED).fit(data.documents, queries, budget=budget)
        fitted = time.perf_counter() - began
        documents = encoder.encode_document(data.documents)
        figures = sparse_figures(data, encoder.encode_query(data.queries), documents, fitted)
        yield looked_again(data, encoder, documents, figures)
        began = time.perf_counter()
        documents = encoder.refine(data.documents, queries)
        seconds = fitted + time.perf_counter() - began
        figures = sparse_figures(data, encoder.encode_query(data.queries), documents, seconds)
        yield looked_again(data, encoder, documents, figures)

    return make


def few_lists(nnz: int, flops: float) -> Maker:
    """Queries of 64 weights at most, trained for that, refined."""

    def make(data: Data) -> Iterator[Figures]:
        began = time.perf_counter()
        budget = Budget(nnz=nnz, flops=flops, query_nnz=64)
        encoder = SparseEncoder(384, DIMENSION, SEED).fit(data.documents, data.sample, budget=budget)
        documents = encoder.refine(data.documents, data.sample)
        seconds = time.perf_counter() - began
        yield judged_lists(data, encoder, documents, seconds)

    return make


def judged_lists(data: Data, encoder: SparseEncoder, documents: SparseVectors, seconds: float | None) -> Figures:
    queries = encoder.encode_query(data.queries)
    found = sparse_top(documents, queries, 200)
    at_200 = recalls(data.documents, data.queries, found, nearest(data.documents, data.queries, 10))
    figures = sparse_figures(data, queries, documents, seconds or 0)
    figures = replace(figures, seconds=seconds, note=f"@200 {at_200.mean():.3f} ({interval(at_200)})")
    return looked_again(data, encoder, documents, figures)


def newcomers(data: Data) -> Iterator[Figures]:
    """Fitted and refined on 16,000 documents; 4,000 others come later and are encoded by the head alone."""
    began = time.perf_counter()
    fitted, new = data.documents[:16_000], data.documents[16_000:]
    encoder = SparseEncoder(384, DIMENSION, SEED).fit(fitted, data.sample, budget=A)
    before = found_by_age(data, encoder.encode_query(data.queries), encoder.encode_document(data.documents))
    corpus = encoder.refine(fitted, data.sample)
    seconds = time.perf_counter() - began
    documents = SparseVectors.concat([corpus, encoder.encode_document(new)])
    queries = encoder.encode_query(data.queries)
    after = found_by_age(data, queries, documents)
    note = (
        f"of the dense top 10, {after[0]:.3f} of the fitted documents are found and {after[1]:.3f} of the new; "
        f"by the head alone {before[0]:.3f} and {before[1]:.3f}"
    )
    yield replace(sparse_figures(data, queries, documents, seconds), note=note)


def found_by_age(data: Data, queries: SparseVectors, documents: SparseVectors) -> tuple[float, float]:
    """Share of the dense top 10 in the sparse top 10, of the first 16,000 documents and of the others."""
    truth = nearest(data.documents, data.queries, 10).rows
    found = sparse_top(documents, queries, 10)
    hit = np.array([np.isin(due, hits) for due, hits in zip(truth, found, strict=True)])
    return float(hit[truth < 16_000].mean()), float(hit[truth >= 16_000].mean())


A, B = Budget(nnz=NNZ, flops=FLOPS), Budget(nnz=64, flops=1.2)
RUNS: dict[tuple[str, ...], Maker] = {
    ("dense, exact",): dense,
    ("PCA, 32 components",): pca,
    ("random projection + top-k",): baseline("random_projection"),
    ("top-k autoencoder",): baseline("top_k_autoencoder"),
    ("CSR",): baseline("csr"),
    ("ReLU + L1", "ReLU + L1, queries as long as documents"): baseline("relu_l1"),
    ("ReLU + FLOPs",): baseline("relu_flops"),
    ("sparsevec head", "sparsevec refined"): ours(8192, A),
    ("sparsevec head, 16384", "sparsevec refined, 16384"): ours(16384, A),
    ("sparsevec head, 64", "sparsevec refined, 64"): ours(8192, B),
    ("sparsevec refined, queries of 64",): few_lists(NNZ, FLOPS),
    ("sparsevec refined, 64, queries of 64",): few_lists(64, 1.2),
    ("sparsevec head, no query sample", "sparsevec refined, no query sample"): ours(8192, A, sample=False),
    ("sparsevec refined, 4,000 newcomers",): newcomers,
}
ROWS = [name for names in RUNS for name in names]


# ---- running and showing


def made(names: tuple[str, ...], folder: Path) -> dict[str, Figures]:
    """The rows of one run, in a process of its own."""
    rows = dict(zip(names, RUNS[names](Data.load(folder)), strict=False))
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak, seconds = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    where = f"{machine()}, Python {platform.python_version()}"
    return {name: replace(figures, peak_mb=peak, cpu_seconds=seconds, machine=where) for name, figures in rows.items()}


def load_results(path: Path) -> dict[str, Figures]:
    if not path.exists():
        return {}
    kept = json.loads(path.read_text())
    return {name: Figures(**kept[name]) for name in ROWS if name in kept}


LOOKED = [name for name in ROWS if name.startswith("sparsevec") and "newcomers" not in name]
OLDER = (  # of those that are kept without a second look
    "of an earlier version (2026-11-21), which bounded a query's F in the mean of the queries that it had learned for, "
    "so that queries of another kind, as without a sample all are, could spend more"
)
COLUMNS = (
    "",
    "d",
    "nnz doc/query",
    "F",
    "R_sub",
    "R10",
    "2nd look",
    "@100",
    "nDCG@10",
    "dead",
    "longest list",
    "s",
    "CPU s",
    "MB",
)


def cells(name: str, row: Figures) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lengths = f"{number(row.nnz, '.1f')} / {number(row.query_nnz, '.1f')}"
    forms = [(row.flops, ".3g" if (row.flops or 0) > 4 else ".3f"), (row.r_sub, ".2f"), (row.recall_10, ".3f")]
    forms += [
        (row.second_look, ".3f"),
        (row.recall_10_at_100, ".3f"),
        (row.ndcg_10, ".3f"),
        (row.dead, "d"),
        (row.longest_list, ".3f"),
    ]
    forms += [(row.seconds, ".0f"), (row.cpu_seconds, ".0f"), (row.peak_mb, ".0f")]
    return [name, str(row.dimension), lengths, *(number(value, form) for value, form in forms)]


def markdown(results: dict[str, Figures]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(cells(name, row)) + " |" for name, row in results.items()]
    notes = [f"- {name}: {row.note}" for name, row in results.items() if row.note]
    older = [name for name, row in results.items() if name in LOOKED and row.second_look is None]
    if older:
        notes.append(f"- {'; '.join(older)}: {OLDER}")
    machines = sorted({row.machine for row in results.values()})
    about = (__doc__ or "").split("\n\n")
    return "\n".join(["# debian12", "", about[2], "", about[3], "", *lines, "", *notes, "", *machines, ""])


def main(
    data: Annotated[Path, typer.Option(help="Folder with minilm_20k.npz.")] = DATA,
    row: Annotated[list[str] | None, typer.Option(help="Only this row; may be given several times.")] = None,
    again: Annotated[bool, typer.Option(help="Make rows again that are in the results already.")] = False,
    results: Annotated[Path, typer.Option(help="Where the tables are kept.")] = RESULTS,
) -> None:
    """Make the table of rows, one process each, and keep it as JSON and Markdown."""
    console = Console()
    if not (data / "minilm_20k.npz").exists():
        console.print(f"{data} has no minilm_20k.npz: nothing to measure; say where it is with --data")
        raise typer.Exit(1)
    if unknown := set(row or ()) - set(ROWS):
        console.print(f"no row is called {', '.join(sorted(unknown))}; the rows are: {'; '.join(ROWS)}")
        raise typer.Exit(1)
    results.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    for names in RUNS:
        known = load_results(results / "debian12.json")
        if not set(names) & set(row or ROWS) or (known.keys() >= set(names) and not again):
            continue
        with console.status(" and ".join(names)), ProcessPoolExecutor(1, mp_context=spawn) as process:
            found = process.submit(made, names, data).result()
        known = load_results(results / "debian12.json") | found  # read again: another run may have added rows meanwhile
        (results / "debian12.json").write_text(
            json.dumps({key: asdict(value) for key, value in known.items()}, indent=1)
        )
        (results / "debian12.md").write_text(markdown(load_results(results / "debian12.json")))
    table = Table(*COLUMNS)
    for name, figures in load_results(results / "debian12.json").items():
        table.add_row(*cells(name, figures))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
