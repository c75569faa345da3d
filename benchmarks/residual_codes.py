"""Three ways in which a hit can bring what its final score needs, in bytes, in recall and in milliseconds.

    python -m benchmarks.residual_codes MODELS [--data ../shared/data/debian12]

MODELS is a folder for models: what is not there yet is fitted and refined first (minutes). Results:
benchmarks/results/residual_codes.md.

20,000 Debian package descriptions (MiniLM, 384 columns) and refined codes of 32 weights, d 8192; recall@10 of the exact
dense top 10 after re-ranking the sparse top 100 or 300. The last 2,000 queries of q_train were kept out of the sample,
and everything was chosen on them; the 2,000 dev queries were asked once, for this table.

- residual: the product's. The hit brings its sparse vector, as the field keeps it, and the code of the residual.
- packed: the same code, and the sparse vector packed into it: gaps of the dimensions by Rice codes, weights in 6 bits.
- plain: a code of the dense row itself, by the same learner, and c times the hit's own sparse score.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.debian12 import DATA, DIMENSION, RESULTS, SEED, A, Data
from benchmarks.machine import machine
from sparsevec.dense import Nearest, nearest
from sparsevec.encoder import SparseEncoder
from sparsevec.encoder.head import Float64s
from sparsevec.encoder.learning.residual import learned_residual_codes
from sparsevec.encoder.recipe import ResidualRecipe
from sparsevec.encoder.residual import ResidualCodes, UInt8s, name_of
from sparsevec.measure.intervals import interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, Int64s, SparseVectors

KEPT_OUT = 2000  # of q_train, from its end
WIDTHS = (60, 110, 200, 300)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
WEIGHT_BITS, TIMED = 6, 300
TRIED = """\
Tried, and no better than a tenth of a point: codebooks and basis learned from cross-fitted residuals too, a ridge of
1.5 for the decoder, the scale of a row chosen after coding; a linear map of what the head's weights decode, in place of
one factor (later documents +.006 at 60 bytes, -.002 at 200, each by twice its standard error), and the codes that the
same documents would get as later ones among those learned from (.002 either way, and the fitted ones -.003). Worth it:
components weighted by the queries' second moment (.019 at 60 bytes, .012 at 110), codewords moved to the means (.005),
a length for each row (.003), the head's weights as the decoder's prior (explains .80 to .83 of later documents instead
of .79).
"""
FITTED = 16_000  # documents of the second model, to which the others come later


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries with their sparse candidates (q, 300), best first, the sparse scores, and what is due."""

    rows: Float32s
    candidates: Int64s
    scores: Float32s
    documents: Float32s
    truth: Nearest

    @classmethod
    def of(cls, rows: Float32s, documents: Float32s, queries: SparseVectors, vectors: SparseVectors) -> Asked:
        candidates = np.stack(sparse_top(vectors, queries, 300))
        stored, asking = vectors.to_scipy(), queries.to_scipy()
        scores = [(stored[near] @ asking[[q]].T).toarray()[:, 0] for q, near in enumerate(candidates)]
        return cls(rows, candidates, np.stack(scores), documents, nearest(documents, rows, 10))

    def found(self, scores: Float32s, k: int) -> list[Int64s]:
        order = np.argsort(-scores[:, :k], axis=1, kind="stable")[:, :10]
        return list(np.take_along_axis(self.candidates[:, :k], order, axis=1))

    def recall(self, scores: Float32s, k: int) -> Float64s:
        return recalls(self.documents, self.rows, self.found(scores, k), self.truth)


@dataclass(frozen=True, slots=True)
class Coded:
    """Documents with codes of one width."""

    residuals: ResidualCodes
    vectors: SparseVectors
    codes: UInt8s

    def scores(self, asked: Asked) -> Float32s:
        return np.stack([self.one(asked, number, 300) for number in range(len(asked.rows))])

    def one(self, asked: Asked, number: int, k: int) -> Float32s:
        near = asked.candidates[number, :k]
        return self.residuals.scores(asked.rows[number : number + 1], self.vectors[near], self.codes[near])

    def milliseconds(self, asked: Asked, k: int) -> float:
        spent = []
        for number in range(TIMED):
            near = asked.candidates[number, :k]
            vectors, codes = self.vectors[near], self.codes[near]
            began = time.perf_counter()
            self.residuals.scores(asked.rows[number : number + 1], vectors, codes)
            spent.append(time.perf_counter() - began)
        return 1e3 * float(np.median(spent))


def coded(
    encoder: SparseEncoder, data: Data, vectors: SparseVectors, sample: Float32s, width: int, learned: int
) -> Coded:
    """Codes of all documents, learned from the first `learned` of them."""
    tensors, mean = encoder._fitted().tensors, encoder._fitted().tensors["mean"]
    made, sizes = learned_residual_codes(
        data.documents[:learned],
        vectors[:learned],
        sample,
        (tensors["weights"], mean),
        width,
        ResidualRecipe(),
        SEED,
        Whole(None, {}),
    )
    residuals = ResidualCodes(made, mean, sizes, name_of(made, mean))
    return Coded(residuals, vectors, residuals.encoded(data.documents, vectors))


def packed(vectors: SparseVectors) -> tuple[SparseVectors, float]:
    """The vectors with weights of 6 bits, and the mean bytes of a row so packed."""
    step = vectors.values.max() / (2**WEIGHT_BITS - 0.5)
    weights = np.maximum(np.rint(vectors.values / step), 1).astype(np.float32) * step
    small = SparseVectors(vectors.indptr, vectors.indices, weights, vectors.dimension)
    starts = vectors.indptr[:-1]
    gaps = np.diff(vectors.indices, prepend=-1) - 1
    gaps[starts] = vectors.indices[starts]
    quotients = min(float((gaps >> low).mean() + 1 + low) for low in range(4, 12))  # unary quotient, then `low` bits
    return small, (8 + len(gaps) / len(vectors) * (quotients + WEIGHT_BITS)) / 8


def without(vectors: SparseVectors) -> SparseVectors:
    """As many rows that say nothing: the residual is then all of the dense row."""
    return SparseVectors(np.zeros(len(vectors) + 1, np.int64), [], [], vectors.dimension)


def model(folder: Path, data: Data, sample: Float32s, n: int) -> tuple[SparseEncoder, SparseVectors]:
    """Fitted and refined on the first n documents; the others encoded as those that come later are."""
    if not (folder / "refined").exists():
        encoder = SparseEncoder(384, DIMENSION, SEED).fit(data.documents[:n], sample, budget=A)
        encoder.refine(data.documents[:n], sample).save(folder / "docs")
        encoder.save(folder / "refined")
    encoder, vectors = SparseEncoder.load(folder / "refined"), SparseVectors.load(folder / "docs")
    later = encoder.encode_document(data.documents[n:])
    return encoder, SparseVectors.concat([vectors, later]) if len(later) else vectors


# ---- the tables


def ways(models: Path, data: Data, sample: Float32s, held: Float32s) -> Iterator[str]:
    encoder, vectors = model(models / "m20", data, sample, len(data.documents))
    chosen, dev = (Asked.of(rows, data.documents, encoder.encode_query(rows), vectors) for rows in (held, data.queries))
    pairs = [json.dumps(dict(vectors[row])) for row in range(0, len(vectors), 100)]
    as_json = round(float(np.mean([len(text) for text in pairs])))
    as_binary = round(8 * vectors.nnz / len(vectors))
    small, bytes_packed = packed(vectors)
    yield "| way | bytes stored | bytes read a candidate | kept-out @100 | @300 | dev @100 | dev @300 | ms 100 / 300 |"
    yield "|---|---|---|---|---|---|---|---|"
    for width in WIDTHS:
        made = coded(encoder, data, vectors, sample, width, len(vectors))
        read = f"{width} + {as_binary} (binary) or {as_json} (JSON)"
        yield line("**residual**", width, read, made, (chosen, dev), 0.0)
        if width - bytes_packed >= 8:
            made = coded(encoder, data, small, sample, round(width - bytes_packed), len(vectors))
            yield line(f"packed ({bytes_packed:.0f} of them)", width, str(width), made, (chosen, dev), 0.0)
        made = coded(encoder, data, without(vectors), sample, width, len(vectors))
        scores = made.scores(chosen)
        share = max(SHARES, key=lambda c: float(chosen.recall(scores + np.float32(c) * chosen.scores, 300).mean()))
        yield line(f"plain, c = {share}", width, str(width), made, (chosen, dev), share)


def line(way: str, width: int, read: str, made: Coded, asked: tuple[Asked, Asked], share: float) -> str:
    cells = []
    for some in asked:
        scores = made.scores(some) + np.float32(share) * some.scores
        for k in (100, 300):
            found = some.recall(scores, k)
            cells.append(f"{found.mean():.3f}" + (f" ({interval(found)})" if some is asked[1] and k == 300 else ""))
    spent = " / ".join(f"{made.milliseconds(asked[0], k):.1f}" for k in (100, 300))
    print(way, width, *cells, spent, flush=True)
    return " | ".join([f"| {way}", str(width), read, *cells, f"{spent} |"])


def newcomers(models: Path, data: Data, sample: Float32s) -> Iterator[str]:
    """Of the dense top 10 of the dev queries, what is found of documents that were fitted, and of later ones."""
    encoder, vectors = model(models / "m16", data, sample, FITTED)
    asked = Asked.of(data.queries, data.documents, encoder.encode_query(data.queries), vectors)
    due = asked.truth.rows
    later = due >= FITTED
    yield "| bytes | found of those fitted | of those that came later | returned / due | of all |"
    yield "|---|---|---|---|---|"
    exact = [data.documents[near] @ query for near, query in zip(asked.candidates, data.queries, strict=True)]
    for width in ("exact rows", *WIDTHS):
        made = None if isinstance(width, str) else coded(encoder, data, vectors, sample, width, FITTED)
        found = np.stack(asked.found(np.stack(exact) if made is None else made.scores(asked), 300))
        hit = (due[:, :, None] == found[:, None, :]).any(axis=2)
        figures = hit[~later].mean(), hit[later].mean(), (found >= FITTED).sum() / later.sum(), hit.mean()
        print("later", width, *figures, flush=True)
        yield f"| {width} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |"


def main(
    models: Annotated[Path, typer.Argument(help="Folder of the models; made where they are not there.")],
    data: Annotated[Path, typer.Option(help="Folder with minilm_20k.npz.")] = DATA,
    results: Annotated[Path, typer.Option(help="Where the table is kept.")] = RESULTS,
) -> None:
    """Measure and write residual_codes.md."""
    rows = Data.load(data)
    sample, held = rows.sample[:-KEPT_OUT], rows.sample[-KEPT_OUT:]
    about = (__doc__ or "").split("\n\n", 3)[3]
    lines = ["# Residual codes, and what a hit must bring", "", about, *ways(models, rows, sample, held), ""]
    lines += [
        f"## Documents that come later: fitted on {FITTED:,}, {len(rows.documents) - FITTED:,} later, k' = 300",
        "",
    ]
    lines += [*newcomers(models, rows, sample), "", TRIED, machine(), ""]
    (results / "residual_codes.md").write_text("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
