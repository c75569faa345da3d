"""How good rankings are, by judgements or by class labels: precision and recall at k, mAP, nDCG.

The measures are trec_eval's, computed by ir-measures (the extra `cli`); ours is only who is relevant to whom: by label,
all documents of the query's class. Precision at k divides by k however few were found. Average precision and nDCG are
those of the ranking as given: what it was cut off counts as not found, so compare rankings of one depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import check_k, check_several
from sparsevec.errors import ClientMissing, InvalidInput, described, printable
from sparsevec.vectors import Int64s

__all__ = ["Qrels", "Quality", "by_label", "check_rows", "ndcgs", "quality", "run_quality", "without_themselves"]

Qrels = Mapping[int, Mapping[int, int]]
"""The relevance of document rows, by query row; what is not named is not relevant."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the `queries` that have a relevant document; the mappings are from k to the measure at k."""

    queries: int
    precision: Mapping[int, float]
    recall: Mapping[int, float]
    ndcg: Mapping[int, float]
    average_precision: float
    """mAP, of the rankings as deep as they were given"""


def quality(rankings: Sequence[Int64s], relevant: Qrels, *, at: Iterable[int] = (1, 4, 16)) -> Quality:
    """Judge the `rankings`, document rows (m,) best first for each query, by the `relevant` rows of each query.

    A query that `relevant` does not name, or for which it names nobody with a grade above 0, does not count; one whose
    ranking is empty counts as 0. 5,000 rankings of 100 among 15,000 documents of 100 classes take a second or two.
    Raises ClientMissing without ir-measures, InvalidInput when nothing can be judged or a ranking repeats a row.
    """
    measures, relevant, rankings = _ir_measures(), _qrels(relevant), _rows(rankings)
    depths = sorted({check_k(k) for k in check_several("depths", at)})
    judged = _with_relevant(relevant)
    _check(rankings, judged)
    average, kinds = measures.AP, (measures.P, measures.R, measures.nDCG)
    asked = [average, *(measure @ k for measure in kinds for k in depths)]
    found = measures.calc_aggregate(asked, *_as_trec(rankings, judged))
    precision, recall, ndcg = ({k: float(found[measure @ k]) for k in depths} for measure in kinds)
    return Quality(len(judged), precision, recall, ndcg, float(found[average]))


def ndcgs(rankings: Sequence[Int64s], relevant: Qrels, k: int) -> npt.NDArray[np.float64]:
    """nDCG at k of the `rankings`, for each query that has a `relevant` document, in ascending order of their numbers.

    Raises ClientMissing without ir-measures, InvalidInput when no query has one.
    """
    measures, relevant, rankings = _ir_measures(), _qrels(relevant), _rows(rankings)
    judged = _with_relevant(relevant)
    _check(rankings, judged)
    found = measures.iter_calc([measures.nDCG @ check_k(k)], *_as_trec(rankings, judged))
    by_query = {metric.query_id: float(metric.value) for metric in found}
    return np.array([by_query[str(query)] for query in sorted(judged)])


def _with_relevant(relevant: Qrels) -> Qrels:
    """Of the queries for which it names somebody with a grade above 0: of the others nothing can be found."""
    return {query: rows for query, rows in relevant.items() if any(grade > 0 for grade in rows.values())}


def _qrels(relevant: Any) -> Qrels:
    expected = "expected relevant documents as {query row: {document row: grade}}, all whole numbers, found"
    if not isinstance(relevant, Mapping) or not all(isinstance(grades, Mapping) for grades in relevant.values()):
        raise InvalidInput(f"{expected} {type(relevant).__name__}; sparsevec.files.read_qrels makes it of a file")
    each = {id(grades): grades for grades in relevant.values()}.values()  # those of a label are one
    numbers = chain(relevant, *(chain(grades, grades.values()) for grades in each))
    if odd := next((described(one) for one in numbers if not _is_small(one)), None):
        raise InvalidInput(
            f"{expected} {odd} among them; each must be below 2**31, and sparsevec.files.read_qrels makes rows of ids"
        )
    return relevant


def check_rows(relevant: Qrels, n: int) -> None:
    """Raises InvalidInput unless all that is relevant are rows of n documents: of others none could be found."""
    each = {id(grades): grades for grades in _qrels(relevant).values()}.values()
    if (odd := next((row for grades in each for row in grades if not 0 <= row < n), None)) is not None:
        raise InvalidInput(
            f"expected relevant documents as rows of {n:,} documents, whole numbers in [0, {n}), found {odd}; "
            "sparsevec.files.read_qrels makes rows of ids"
        )


def _is_small(number: Any) -> bool:
    """Whether trec_eval counts with it: a grade that wraps in C is worth nothing there."""
    return isinstance(number, int | np.integer) and -(2**31) <= int(number) < 2**31 - 1


def _rows(rankings: Sequence[Any]) -> list[Int64s]:
    """Lists of rows too, as arrays."""
    try:
        found = list(map(np.asarray, check_several("rankings", rankings)))
    except ValueError as error:  # of several lengths
        raise InvalidInput(f"expected rankings of rows, whole numbers (m,): {error}") from error
    odd = next((rows for rows in found if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu")), None)
    if odd is not None:
        raise InvalidInput(f"expected rankings of rows, whole numbers (m,), found {odd.dtype} of shape {odd.shape}")
    return found


def run_quality(run: Path, qrels: Path, measure: str = "nDCG@10") -> dict[str, float]:
    """The measure of each judged query of a TREC run, by query id; a query that the run does not answer counts as 0.

    `measure` as ir-measures spells it: nDCG@10, AP, P@5. Raises InvalidInput for files that are not TREC's, for a run
    that answers none of the judged queries, and for a measure that is not known; ClientMissing without ir-measures.
    """
    measures = _ir_measures()
    try:
        wanted = measures.parse_measure(measure)
        wanted.validate_params()
        if wanted.params.get("cutoff", 1) < 1:
            raise ValueError("trec_eval ends the process at a cutoff below 1")
    except (AttributeError, AssertionError, NameError, TypeError, ValueError, SyntaxError) as error:
        raise InvalidInput(f"expected a measure such as nDCG@10, AP or P@5, found {measure!r:.60}") from error
    judged = _trec(measures.read_trec_qrels, qrels, "lines of `query 0 document grade`")
    ranked = _trec(measures.read_trec_run, run, "lines of `query Q0 document rank score name`")
    found = dict.fromkeys((line.query_id for line in judged), 0.0)
    if not found:
        raise InvalidInput(f"expected judgements in {printable(qrels)}, found none")
    _check_run(ranked, run, found.keys(), qrels)
    try:
        return found | {one.query_id: float(one.value) for one in measures.iter_calc([wanted], judged, ranked)}
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # of the library that computes it
        raise InvalidInput(f"{measure!r:.60} cannot be computed of these files: {printable(error, 300)}") from error


def _check_run(ranked: Sequence[Any], run: Path, judged: Set[str], qrels: Path) -> None:
    answered = {line.query_id for line in ranked}
    if wrong := next((line for line in ranked if not math.isfinite(line.score)), None):
        name = printable(wrong.query_id)
        raise InvalidInput(f"expected finite scores in {printable(run)}, found {wrong.score} for query {name}")
    if not judged & answered:
        theirs, asked = (printable(min(names, default="none")) for names in (answered, judged))
        raise InvalidInput(
            f"no query that {printable(run)} answers is judged in {printable(qrels)}: expected the same query ids, "
            f"found {theirs} in the one and {asked} in the other"
        )


def _trec(read: Any, path: Path, expected: str) -> list[Any]:
    try:
        return list(read(str(path)))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InvalidInput(f"expected {expected} in {path}: {error}") from error


def _ir_measures() -> Any:
    try:
        import ir_measures
    except ImportError:
        raise ClientMissing.extra("ir-measures", "cli") from None
    return ir_measures


def _as_trec(rankings: Sequence[Int64s], judged: Qrels) -> tuple[dict[str, Any], dict[str, Any]]:
    """qrels and run."""
    run = {str(query): _positions(rankings[query]) for query in judged}
    return {str(query): {str(row): int(grade) for row, grade in rows.items()} for query, rows in judged.items()}, run


def _check(rankings: Sequence[Int64s], judged: Qrels) -> None:
    if not judged:
        raise InvalidInput("expected relevant documents for at least one query, found none")
    if strangers := [query for query in judged if not 0 <= query < len(rankings)]:
        raise InvalidInput(f"query {strangers[0]} has relevant documents, but there are {len(rankings)} rankings")
    for query in judged:
        rows = rankings[query]
        if rows.size and (rows.min() < 0 or len(np.unique(rows)) < len(rows)):
            raise InvalidInput(f"ranking {query} must name rows of documents, each once; found {rows.tolist()!r:.80}")


def _positions(ranking: Int64s) -> dict[str, float]:
    """A score for each row that falls with its position: the library sorts by score, and ties by name."""
    return {str(row): -float(position) for position, row in enumerate(ranking.tolist())}


def by_label(labels: npt.ArrayLike, query_labels: npt.ArrayLike | None = None) -> Qrels:
    """Relevant to a query: the documents of its label. `labels` (n,) are of the documents, `query_labels` (q,).

    Without `query_labels` the documents ask for one another (leave-one-out), and none is relevant to itself; take each
    out of its own ranking with `without_themselves`. Queries of a label that no document has are left out.
    Raises InvalidInput for labels that are not one array of integers or strings.
    """
    classes, documents = np.unique(_labels(labels), return_inverse=True)
    rows = np.split(
        np.argsort(documents, kind="stable"), np.cumsum(np.bincount(documents, minlength=len(classes)))[:-1]
    )
    members = {label: dict.fromkeys(rows[number].tolist(), 1) for number, label in enumerate(classes.tolist())}
    asked = _labels(labels if query_labels is None else query_labels).tolist()
    if query_labels is not None:
        return {query: members[label] for query, label in enumerate(asked) if label in members}  # shared, not copied
    others = {query: {row: 1 for row in members[label] if row != query} for query, label in enumerate(asked)}
    return {query: rows for query, rows in others.items() if rows}


def _labels(labels: npt.ArrayLike) -> npt.NDArray[np.generic]:
    try:
        array = np.asarray(labels)
    except ValueError as error:  # of several lengths
        raise InvalidInput(f"labels must be integers or strings of shape (n,): {error}") from error
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise InvalidInput(f"labels must be integers or strings of shape (n,), found {array.dtype} {array.shape}")
    return array


def without_themselves(rankings: Sequence[Int64s]) -> list[Int64s]:
    """The rankings of documents that asked for one another: the i-th without row i. Ask for one more than k."""
    return [ranking[ranking != query] for query, ranking in enumerate(_rows(rankings))]
