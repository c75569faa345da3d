"""What anybody's embeddings give, at one setting: learned codes beside directions that nobody learned and a 1-bit scan.

    python -m benchmarks.embeddings [--data ../shared/data] [--set NAME]... [--again]

4,000 rows of each set, no sample of queries, output dimension 4,096, 32 weights a document, F .65, seed 0. Documents
stand in for queries while it learns; the set's own queries, which it has never seen, judge. R10 is the overlap of the
sparse with the exact dense top 10, @100 the share of the dense top 10 in the sparse top 100, both with a 95 % interval
over the queries; F is what these queries spend. "Says" is what the encoder reports of itself, for documents that ask.
"No learning" are directions of random documents and mixtures of them, within the same budget; "1-bit scan" reads every
document, as one bit a component and a scale. Results: benchmarks/results/embeddings.json and docs/embeddings.md.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from rich.console import Console

from benchmarks.machine import machine
from sparsevec.dense import nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.calibration import document_cut, query_purse
from sparsevec.encoder.head import Projection, encoded
from sparsevec.encoder.one_bit import one_bit_top
from sparsevec.encoder.untrained import random_directions
from sparsevec.measure.cost import cost, usage
from sparsevec.measure.intervals import Interval, interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.vectors import Float32s, Int64s, SparseVectors

ROOT = Path(__file__).parents[1]
DATA, RESULTS, PAGE = (
    ROOT.parent / "shared/data",
    ROOT / "benchmarks/results/embeddings.json",
    ROOT / "docs/embeddings.md",
)
ROWS, DIMENSION, NNZ, FLOPS, SEED, ASKED = 4000, 4096, 32, 0.65, 0, 500


class Rows(NamedTuple):
    documents: Float32s
    queries: Float32s


# ---- the sets


def debian(data: Path) -> Rows:
    with np.load(data / "debian12/minilm_20k.npz") as arrays:
        return Rows(arrays["docs"][:ROWS].astype(np.float32), arrays["q_dev"][:ASKED].astype(np.float32))


def named(folder: str) -> Callable[[Path], Rows]:
    def rows(data: Path) -> Rows:
        with np.load(data / folder / "minilm.npz") as arrays:
            return Rows(arrays["docs"][:ROWS].astype(np.float32), arrays["queries"][:ASKED].astype(np.float32))

    return rows


def rotated(data: Path) -> Rows:
    """To 768 columns by a random isometry, and noise of a twentieth of the length."""
    generator = np.random.default_rng(SEED)
    isometry = np.linalg.qr(generator.standard_normal((768, 384)))[0].T

    def turned(rows: Float32s) -> Float32s:
        noisy = rows @ isometry + 0.05 * generator.standard_normal((len(rows), 768)) / np.sqrt(768)
        return np.asarray(noisy, np.float32)

    documents, queries = debian(data)
    return Rows(turned(documents), turned(queries))


def lsa(data: Path) -> Rows:
    """256 singular vectors of TF-IDF."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    def texts(name: str, count: int) -> list[str]:
        with gzip.open(data / "debian12" / name, "rt", encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines][:count]
        return [f"{each.get('title', '')} {each['text']}" for each in found]

    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    documents = words.fit_transform(texts("docs.jsonl.gz", ROWS))
    factors = TruncatedSVD(256, random_state=SEED).fit(documents)
    queries = factors.transform(words.transform(texts("queries.dev.jsonl.gz", ASKED)))
    kept = np.abs(queries).max(axis=1) > 0
    return Rows(factors.transform(documents).astype(np.float32), queries[kept].astype(np.float32))


def sift(data: Path) -> Rows:
    with np.load(data / "sift10k/sift10k.npz") as arrays:
        base = arrays["base"].astype(np.float32)
    return Rows(base[:ROWS], base[ROWS : ROWS + ASKED])


def cifar(data: Path) -> Rows:
    """256 principal components of the pixels."""
    from PIL import Image

    parts = []
    for file in sorted((data / "cifar100").glob("train_*.webp"))[:5]:
        sheet = np.asarray(Image.open(file).convert("RGB"))
        down, across = sheet.shape[0] // 32, sheet.shape[1] // 32
        parts.append(sheet.reshape(down, 32, across, 32, 3).transpose(0, 2, 1, 3, 4).reshape(down * across, -1))
    pixels = np.concatenate(parts)[: ROWS + ASKED].astype(np.float32)
    centred = pixels - pixels[:ROWS].mean(axis=0)
    _, directions = np.linalg.eigh(centred[:ROWS].T @ centred[:ROWS])
    components = centred @ directions[:, -256:]
    return Rows(components[:ROWS], components[ROWS:])


def noise(_: Path) -> Rows:
    rows = np.random.default_rng(SEED).standard_normal((ROWS + ASKED, 128), np.float32)
    return Rows(rows[:ROWS], rows[ROWS:])


def clusters(_: Path) -> Rows:
    """50 directions, and noise of a third of their length."""
    generator = np.random.default_rng(SEED)
    directions = generator.standard_normal((50, 384))
    rows = directions[generator.integers(50, size=ROWS + ASKED)] + generator.standard_normal((ROWS + ASKED, 384)) / 3
    return Rows(rows[:ROWS].astype(np.float32), rows[ROWS:].astype(np.float32))


def copies(data: Path) -> Rows:
    """1,000 documents, and three near copies of each."""
    documents, queries = debian(data)
    four = np.repeat(documents[: ROWS // 4], 4, axis=0)
    four += np.random.default_rng(SEED).standard_normal(four.shape, np.float32) * np.float32(0.1 / np.sqrt(384))
    return Rows(four, queries)


def equal(data: Path) -> Rows:
    documents, queries = debian(data)
    return Rows(
        np.concatenate([documents[: ROWS * 7 // 10], np.repeat(documents[:1], ROWS * 3 // 10, axis=0)]), queries
    )


def few(data: Path) -> Rows:
    documents, queries = debian(data)
    return Rows(documents[:200], queries)


def leaning(by: float) -> Callable[[Path], Rows]:
    """Moved by `by` lengths in one direction, as many popular models' rows are."""

    def rows(data: Path) -> Rows:
        direction = np.random.default_rng(SEED).standard_normal(384)
        shift = (by * direction / np.linalg.norm(direction)).astype(np.float32)
        documents, queries = debian(data)
        return Rows(unit_rows(documents) + shift, unit_rows(queries) + shift)

    return rows


SETS: dict[str, Callable[[Path], Rows]] = {
    "Debian, MiniLM": debian,
    "a common direction, mean cosine .91": leaning(3.0),
    "1,000 documents and 3 near copies each": copies,
    "30 % equal rows": equal,
    "50 tight clusters": clusters,
    "82 documents (ADI)": named("adi"),
    "200 documents": few,
    "SciFact, MiniLM": named("scifact"),
    "CIFAR-100 pixels, 256 components": cifar,
    "LSA of TF-IDF, 256 factors": lsa,
    "SIFT, raw": sift,
    "Debian, turned to 768 columns, noise": rotated,
    "Gaussian noise, 128 columns": noise,
}


# ---- one of them


@dataclass(frozen=True, slots=True)
class Found:
    """What the set's own queries find, and spend."""

    recall_10: float
    recall_10_interval: Interval
    recall_10_at_100: float
    recall_10_at_100_interval: Interval
    flops: float | None = None
    nnz: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    columns: int
    queries: int
    stages: dict[str, Found]
    """head, refined, no learning, 1-bit scan"""
    stage: str
    """which is kept"""
    says: str
    said_recall_10: float
    seconds: float
    machine: str


def made(name: str, data: Path) -> Row:
    documents, queries = SETS[name](data)
    units, asked = unit_rows(documents), unit_rows(queries)
    truth = nearest(units, asked, 10)

    def found(candidates: list[Int64s], sides: tuple[SparseVectors, SparseVectors] | None = None) -> Found:
        at_10, at_100 = (recalls(units, asked, [rows[:k] for rows in candidates], truth) for k in (10, 100))
        spent = None if sides is None else cost(sides[1], sides[0])
        return Found(
            float(at_10.mean()),
            interval(at_10),
            float(at_100.mean()),
            interval(at_100),
            None if spent is None else spent.flops,
            None if spent is None else spent.active_dims,
        )

    def sparse(stored: SparseVectors, asking: SparseVectors) -> Found:
        return found(sparse_top(stored, asking, 100), (stored, asking))

    began = time.process_time()
    encoder = SparseEncoder(documents.shape[1], DIMENSION, SEED).fit(documents, budget=Budget(nnz=NNZ, flops=FLOPS))
    stages = {"head": sparse(encoder.encode_document(documents), encoder.encode_query(queries))}
    stored = encoder.refine(documents)
    seconds = time.process_time() - began
    stages["refined"] = sparse(stored, encoder.encode_query(queries))
    stages["no learning"] = sparse(*unlearned(units, documents, queries))
    stages["1-bit scan"] = found(one_bit_top(units, asked, 100))
    figures = encoder.figures
    says = "; ".join(figures.warnings)
    return Row(
        documents.shape[1], len(queries), stages, encoder.config.stage, says, figures.recall_10, seconds, machine()
    )


def unlearned(units: Float32s, documents: Float32s, queries: Float32s) -> tuple[SparseVectors, SparseVectors]:
    tensors = random_directions(units[:2000], DIMENSION, SEED)
    projection = Projection(tensors["weights"], tensors["bias"], tensors["mean"])
    stored = encoded(documents, projection, document_cut(documents[:500], projection, NNZ, 14))
    bought = query_purse([documents[:500]], projection, usage(stored), FLOPS, 12)
    return stored, encoded(queries, projection, *bought)


# ---- all of them


def markdown(rows: dict[str, Row]) -> str:
    about = (__doc__ or "").split("\n\n")
    lines = [
        "| set | columns | head R10 / @100 / F | kept R10 / @100 / F | which | says R10 | no learning | 1-bit scan |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        stages = row.stages
        last = stages["refined"]
        kept = f"**{cell(last)}** (@100 {Interval(*last.recall_10_at_100_interval)})"
        rest = f"{row.stage} | {row.said_recall_10:.3f} | {cell(stages['no learning'])} | {cell(stages['1-bit scan'])}"
        lines.append(f"| {name} | {row.columns} | {cell(stages['head'])} | {kept} | {rest} |")
    said = [f"- {name}: {row.says}" for name, row in rows.items() if row.says]
    where = sorted({row.machine for row in rows.values()})
    return "\n".join(["# Anybody's embeddings", "", about[0], "", about[2], "", *lines, "", *said, "", *where, ""])


def cell(found: Found) -> str:
    spent = "" if found.flops is None else f" / {found.flops:.3f}"
    return f"{found.recall_10:.3f} / {found.recall_10_at_100:.3f}{spent}"


def load(path: Path) -> dict[str, Row]:
    kept = json.loads(path.read_text()) if path.exists() else {}
    rows = {}
    for name in SETS:
        if name in kept:
            stages = {stage: Found(**found) for stage, found in kept[name].pop("stages").items()}
            rows[name] = Row(**kept[name], stages=stages)
    return rows


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets.")] = DATA,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this one; may be given several times.")] = None,
    again: Annotated[bool, typer.Option(help="Make those again that are in the results.")] = False,
) -> None:
    """Make the table, a process for each set, and keep it as JSON and as a page."""
    console = Console()
    if unknown := set(only or ()) - set(SETS):
        console.print(f"no set is called {', '.join(sorted(unknown))}; the sets are: {'; '.join(SETS)}")
        raise typer.Exit(1)
    spawn = multiprocessing.get_context("spawn")
    for name in only or SETS:
        if name in load(RESULTS) and not again:
            continue
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            row = process.submit(made, name, data).result()
        rows = load(RESULTS) | {name: row}
        rows = {name: rows[name] for name in SETS if name in rows}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps({key: asdict(value) for key, value in rows.items()}, indent=1) + "\n")
        PAGE.write_text(markdown(rows))
        console.print(f"{name}: {cell(row.stages['head'])} -> {cell(row.stages['refined'])} ({row.stage}) {row.says}")


if __name__ == "__main__":
    typer.run(main)
