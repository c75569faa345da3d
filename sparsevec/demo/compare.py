"""What one could do without learning, and whether what was learned is better: said in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparsevec.demo.corpus import Corpus
from sparsevec.demo.report import Curve
from sparsevec.dense import unit_rows as unit
from sparsevec.encoder import SparseEncoder
from sparsevec.measure.cost import usage
from sparsevec.measure.intervals import paired_interval
from sparsevec.measure.recall import Evaluation, Judged, evaluate, evaluate_dense, judged, sparse_top
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["HEAD", "OURS", "UNTRAINED", "Compared", "Learned", "Side", "compared", "shortcoming", "too_few"]

OURS, HEAD, UNTRAINED = "sparsevec", "sparsevec, before fitting to the corpus", "nearest of some documents"
RANDOM, PCA, DENSE, WORDS = "random projection", "PCA", "dense", "the words of the texts"

_BLOCK = 2048  # rows projected at a time
_ENOUGH = 0.9  # of the dense top 10 in the sparse top 100: less, and re-ranking has too little to work with


# ---- the judgement


class Side(NamedTuple):
    """One row of the table, and what each query got, for comparisons in pairs."""

    evaluation: Evaluation
    judged: Judged


def shortcoming(untrained: Side, head: Side, ours: Side) -> str | None:
    """What is poor about `ours`, fitted to the corpus, in a sentence; None where nothing is.

    The untrained baseline is one that costs no more multiplications.
    """
    if _below(ours, untrained):
        return f"it finds less than the untrained baseline ({UNTRAINED}): {_beside(ours, untrained)}"
    if _below(ours, head):
        return f"fitting to the corpus made it worse than the head alone: {_beside(ours, head)}"
    return too_few(ours.evaluation)


def _below(ours: Side, other: Side) -> bool:
    """By more than a 95 % interval of the difference, over the same queries."""
    mine, theirs = ours.judged, other.judged
    pairs = (mine.recall_10, theirs.recall_10), (mine.recall_10_at_100, theirs.recall_10_at_100)
    return any(paired_interval(*pair).high < 0 for pair in pairs)


def _beside(ours: Side, other: Side) -> str:
    mine, theirs = ours.evaluation, other.evaluation
    return (
        f"recall@10 {mine.recall_10:.3f} against {theirs.recall_10:.3f}, @100 {mine.recall_10_at_100:.3f} against "
        f"{theirs.recall_10_at_100:.3f}"
    )


def too_few(ours: Evaluation) -> str | None:
    """Why a re-ranking of the candidates would not help, or None."""
    if ours.recall_10_at_100 >= _ENOUGH:
        return None
    return (
        f"only {ours.recall_10_at_100:.0%} of the dense top 10 are in the sparse top 100, which is all that a "
        "re-ranking can reach; allow more weights (nnz) or more multiplications"
    )


# ---- the demo's table and curves


@dataclass(frozen=True, slots=True)
class Learned:
    """What a demo has learned."""

    encoder: SparseEncoder
    head: SparseVectors
    """documents as the head alone encodes them"""
    head_queries: SparseVectors
    documents: SparseVectors
    """refined"""
    queries: SparseVectors


@dataclass(frozen=True, slots=True)
class Compared:
    """What a page shows of a demo's quality."""

    rows: dict[str, Evaluation]
    """the table by name, ours last"""
    curves: list[Curve]
    """ours first"""
    usages: dict[str, npt.NDArray[np.float64]]
    """how often dimensions are used, ours first"""
    poor: str | None
    """in a sentence, where it is"""


def compared(corpus: Corpus, learned: Learned, nnz: int) -> Compared:
    def sparse(documents: SparseVectors, queries: SparseVectors) -> Evaluation:
        return evaluate(corpus.dense, corpus.asked, documents, queries, qrels=corpus.answers)

    def side(evaluation: Evaluation, documents: SparseVectors, queries: SparseVectors) -> Side:
        found = sparse_top(documents, queries, 100)
        return Side(evaluation, judged(unit(corpus.dense), unit(corpus.asked), found))

    rows, asked = corpus.dense, corpus.asked
    dimension = learned.documents.dimension
    whole = evaluate_dense(rows, asked, unit(rows), unit(asked), qrels=corpus.answers)
    pca = _pca(corpus)
    ks = [k for k in (nnz // 2, nnz, 2 * nnz) if k]
    random = projected(rows, asked, random_directions(rows.shape[1], dimension), ks)
    landmarks = projected(rows, asked, some_documents(rows, dimension), ks)
    at_random = {k: sparse(*codes) for k, codes in random.items()}
    nearby = {k: sparse(*codes) for k, codes in landmarks.items()}
    head = sparse(learned.head, learned.head_queries)
    ours = sparse(learned.documents, learned.queries)
    shorter = [m for m in (nnz // 4, nnz // 2, nnz, 2 * nnz) if 0 < m < ours.query_active_dims]
    curve = [sparse(learned.documents, learned.encoder.encode_query(asked, nnz=m)) for m in shorter]
    middle = list(pca)[len(pca) // 2]
    table = {
        DENSE: whole,
        f"{PCA}, {middle} dimensions": pca[middle],
        f"{RANDOM}, {nnz} largest": at_random[nnz],
        UNTRAINED: nearby[nnz],
        HEAD: head,
        OURS: ours,
    }
    curves = [
        Curve(OURS, [*curve, ours]),
        Curve(PCA, list(pca.values())),
        Curve(RANDOM, list(at_random.values())),
        Curve(UNTRAINED, list(nearby.values())),
        Curve(DENSE, [whole]),
    ]
    usages = {OURS: usage(learned.documents), UNTRAINED: usage(landmarks[nnz][0])}
    cheap = max((k for k in ks if nearby[k].flops <= ours.flops), default=ks[0])
    poor = shortcoming(
        side(nearby[cheap], *landmarks[cheap]),
        side(head, learned.head, learned.head_queries),
        side(ours, learned.documents, learned.queries),
    )
    return Compared(table, curves, usages | _word_usage(corpus, dimension), poor)


def _word_usage(corpus: Corpus, dimension: int) -> dict[str, npt.NDArray[np.float64]]:
    """The share of texts that hold each of the `dimension` commonest words; nothing where the texts are no words."""
    words = Counter(
        word for payload in corpus.payloads for word in set(re.findall(r"[^\W\d_]{2,}", payload["text"].lower()))
    )
    shares = np.array([count / len(corpus.payloads) for _, count in words.most_common(dimension)])
    return {WORDS: shares} if len(shares) > 1 else {}


def _pca(corpus: Corpus) -> dict[int, Evaluation]:
    """A 24th, 12th, 6th and third of the principal components of unit rows, compared by cosine."""
    rows, asked = _centred(corpus.dense, corpus.asked)
    axes = np.linalg.eigh(np.atleast_2d(np.cov(rows.T)))[1][:, ::-1].astype(np.float32)
    rows, asked = rows @ axes, asked @ axes
    sizes = sorted({max(1, rows.shape[1] // share) for share in (24, 12, 6, 3)})
    codes = {m: (unit(_not_zero(rows[:, :m])), unit(_not_zero(asked[:, :m]))) for m in sizes}
    return {m: evaluate_dense(corpus.dense, corpus.asked, *both, qrels=corpus.answers) for m, both in codes.items()}


def _not_zero(rows: Float32s) -> Float32s:
    """Rows of zeros have no direction: all of these are alike."""
    return np.where(rows.any(axis=1, keepdims=True), rows, np.float32(1))


# ---- sparse codes without learning


def random_directions(columns: int, dimension: int) -> Float32s:
    """(columns, dimension)."""
    return np.random.default_rng(0).standard_normal((columns, dimension), np.float32)


def some_documents(dense: Float32s, dimension: int) -> Float32s:
    """`dimension` documents as directions (d, dimension), some more than once when there are fewer."""
    return _centred(dense, dense[:1])[0][np.random.default_rng(0).permutation(dimension) % len(dense)].T


def projected(
    dense: Float32s, asked: Float32s, directions: Float32s, ks: Iterable[int]
) -> dict[int, tuple[SparseVectors, SparseVectors]]:
    """By k, the k largest projections of documents and of queries on `directions` (d, dimension)."""
    rows, queries = _centred(dense, asked)
    return {k: (_largest(rows, directions, k), _largest(queries, directions, k)) for k in ks}


def _centred(dense: Float32s, asked: Float32s) -> tuple[Float32s, Float32s]:
    """Unit documents and queries, less the documents' mean."""
    rows = unit(dense)
    mean = rows.mean(axis=0)
    return rows - mean, unit(asked) - mean


def _largest(rows: Float32s, directions: Float32s, k: int) -> SparseVectors:
    """Rows (n, d) projected, with all but their k largest entries gone, at length 1."""
    k = min(k, directions.shape[1])
    starts = range(0, len(rows), _BLOCK)
    return SparseVectors.concat([_cut(rows[start : start + _BLOCK] @ directions, k) for start in starts])


def _cut(projections: Float32s, k: int) -> SparseVectors:
    threshold = np.partition(projections, -k, axis=1)[:, -k, None]
    kept = np.where(projections >= np.maximum(threshold, 0), projections, 0)
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    return SparseVectors.from_dense(kept / np.where(lengths > 0, lengths, 1))
