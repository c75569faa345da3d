"""A row of the tables: how good the rankings of one method are, what they cost, and how long a query took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.paper import baselines
from benchmarks.paper.baselines import Found
from benchmarks.paper.branches import Branch
from benchmarks.paper.data import Task
from sparsevec.answers.retrieval import Retrieval
from sparsevec.measure.cost import cost, touched
from sparsevec.measure.labels import Quality, by_label, quality, without_themselves
from sparsevec.measure.recall import Qrels
from sparsevec.vectors import Int64s, SparseVectors

__all__ = ["Row", "Yardstick"]

DEPTH = 100  # of the rankings whose average precision is given
HEAD_DIMENSION = 1024  # of the heads that are learned from the dense rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method at one setting. `None` where a figure has no meaning."""

    method: str
    setting: str
    precision: dict[str, float]
    """at each k of the collection"""
    multiplications: float
    """of a query-document pair, in the mean; of sparse codes this is F"""
    operations: float
    """the same with table look-ups, and with what a query needs before it meets a document, shared out over them"""
    microseconds: float
    """processor time of one query, asked alone"""
    bytes: float
    """of one document"""
    average_precision: float | None = None
    """mAP of the first hundred, of dense vectors and sparse codes"""
    dimension: int | None = None
    nnz: float | None = None
    query_nnz: float | None = None
    r_sub: float | None = None
    dead: int | None = None
    longest_list: float | None = None
    touched: float | None = None
    """share of the documents that have a dimension in common with a query"""
    weight: float | None = None
    """of the regulariser at the end of the training"""
    seconds: float | None = None
    """of the processor, all threads together, to train the branch"""


class Yardstick:
    """Measures the branches of one collection, and what else searches the rows of its dense branch."""

    def __init__(self, task: Task, dense: Branch) -> None:
        self._task, self._most = task, task.ks[-1] + task.leave_one_out
        self._judged: Qrels = by_label(task.gallery.labels, None if task.leave_one_out else task.queries.labels)
        self._gallery, self._queries = dense.gallery.to_dense(), dense.queries.to_dense()

    def branch(self, branch: Branch) -> Row:
        """One branch, searched as its method is: all rows, an inverted index, or SDH's hash table."""
        recipe, gallery, queries = branch.recipe, branch.gallery, branch.queries
        if recipe.method in ("features", "dense"):
            rows = gallery.to_dense(), queries.to_dense()
            row = self._row(baselines.exhaustive(*rows, self._most))
            deep = baselines.exhaustive(*rows, DEPTH + self._task.leave_one_out).rankings
            row = replace(row, method=recipe.method, average_precision=self._quality(deep).average_precision)
        elif recipe.active is not None:
            strengths = gallery.to_dense(), queries.to_dense()
            dense = self._gallery, self._queries
            row = self._row(baselines.hash_table(*dense, *strengths, self._most, active=recipe.active))
        else:
            row = self._sparse(recipe.method, gallery, queries)
        return replace(row, setting=recipe.setting, weight=branch.weight or None, seconds=branch.seconds)

    def rivals(self, heads: Sequence[int], seed: int) -> Iterator[Row]:
        """Every method that takes the dense rows as they are, at each of its settings; `heads`: non-zeros of a head."""
        for found in baselines.sweep(self._gallery, self._queries, self._most, seed=seed):
            if found.method != "dense":  # which was measured as a branch
                yield self._row(found)
        for nnz in heads:
            yield self._head("top-k autoencoder", "top_k_autoencoder", nnz, seed)
            yield self._head("CSR", "csr", nnz, seed)

    def _head(self, method: str, name: Literal["top_k_autoencoder", "csr"], nnz: int, seed: int) -> Row:
        gallery, queries = baselines.head(
            name, self._gallery, self._queries, dimension=HEAD_DIMENSION, nnz=nnz, seed=seed
        )
        return replace(self._sparse(method, gallery, queries), setting=f"d={HEAD_DIMENSION}, k={nnz}")

    def _sparse(self, method: str, gallery: SparseVectors, queries: SparseVectors) -> Row:
        row = self._row(baselines.inverted_index(method, "", gallery, queries, self._most))
        deep = Retrieval(gallery).search(queries, DEPTH + self._task.leave_one_out)
        spent = cost(queries, gallery)
        return replace(
            row,
            average_precision=self._quality([ranking.rows for ranking in deep]).average_precision,
            dimension=gallery.dimension,
            nnz=spent.active_dims,
            query_nnz=spent.query_active_dims,
            r_sub=spent.r_sub,
            dead=spent.dead_dims,
            longest_list=spent.max_document_frequency,
            touched=touched(queries, gallery),
        )

    def _row(self, found: Found) -> Row:
        n = len(self._gallery)
        return Row(
            method=found.method,
            setting=found.setting,
            precision={str(k): value for k, value in self._quality(found.rankings).precision.items()},
            multiplications=found.multiplications,
            operations=found.multiplications + found.lookups + found.preparation / n,
            microseconds=1e6 * found.seconds,
            bytes=found.bytes,
        )

    def _quality(self, rankings: Sequence[Int64s]) -> Quality:
        """A query's own row, where it is in the gallery, is no answer."""
        answers = without_themselves(rankings) if self._task.leave_one_out else rankings
        return quality(answers, self._judged, at=self._task.ks)
