"""What the paper claims, asked of the measured rows. An answer states its figures, whichever way it falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.paper.measure import Row

__all__ = ["Answer", "answers", "at_equal_nnz", "curve", "exponent", "height"]


@dataclass(frozen=True, slots=True)
class Answer:
    claim: str
    holds: bool | None
    """None: these rows cannot tell"""
    figures: str


def curve(rows: Sequence[Row], method: str, k: str) -> list[Row]:
    """The rows of a method that no other of it beats in both operations and precision at k, cheapest first."""
    best: list[Row] = []
    for row in sorted(
        (row for row in rows if row.method == method), key=lambda row: (row.operations, -row.precision[k])
    ):
        if not best or row.precision[k] > best[-1].precision[k]:
            best.append(row)
    return best


def height(rows: Sequence[Row], operations: float, k: str) -> float:
    """Precision at k of a curve at a price, between two of its rows along the logarithm; nan outside of it."""
    prices = [math.log(row.operations) for row in rows]
    return float(np.interp(math.log(operations), prices, [row.precision[k] for row in rows], math.nan, math.nan))


def at_equal_nnz(rows: Sequence[Row], dimension: int) -> list[tuple[float, float, float, float, float]]:
    """(nnz, F of FLOPs, F of L1, R_sub of FLOPs, R_sub of L1) at powers of two that both methods enclose.

    nnz is the geometric mean of documents and queries; between two rows F runs along the logarithms of both, and
    R_sub = F d / nnz^2 with it.
    """
    sides = [_by_nnz(rows, method, dimension) for method in ("FLOPs", "L1")]
    if not all(len(side) > 1 for side in sides):
        return []
    low, high = max(side[0][0] for side in sides), min(side[-1][0] for side in sides)
    found = []
    for nnz in (2**power for power in range(14) if low <= math.log(2**power) <= high):
        ours, theirs = (
            math.exp(np.interp(math.log(nnz), [x for x, _ in side], [y for _, y in side])) for side in sides
        )
        found.append((nnz, ours, theirs, ours * dimension / nnz**2, theirs * dimension / nnz**2))
    return found


def _by_nnz(rows: Sequence[Row], method: str, dimension: int) -> list[tuple[float, float]]:
    """(log nnz, log F), by nnz."""
    return sorted(
        (math.log(row.nnz * row.query_nnz) / 2, math.log(row.multiplications))
        for row in rows
        if row.method == method and row.dimension == dimension and row.nnz and row.query_nnz and row.multiplications
    )


def exponent(rows: Sequence[Row], method: str, dimension: int) -> float | None:
    """The slope of log F over log nnz, by least squares; 2 at equal uniformity."""
    points = _by_nnz(rows, method, dimension)
    if len(points) < 3:
        return None
    nnz, f = np.array(points).T
    return float(np.polyfit(nnz, f, 1)[0])


def answers(rows: Sequence[Row], k: str, queries: int) -> list[Answer]:
    """Every claim that these rows, judged with so many queries, can be asked about."""
    dimension = _widest_shared(rows)
    return [*_equal_nnz(rows, dimension), *_quadratic(rows, dimension), *_above(rows, k, queries)]


def _widest_shared(rows: Sequence[Row]) -> int:
    """The dimension at which FLOPs and L1 were both trained most often."""
    counted = [row.dimension for row in rows if row.method == "L1" and row.dimension]
    return max(set(counted), key=counted.count) if counted else 0


def _equal_nnz(rows: Sequence[Row], dimension: int) -> list[Answer]:
    pairs = at_equal_nnz(rows, dimension)
    lower, even = "At equal nnz FLOPs has a lower F than L1", "At equal nnz FLOPs has an R_sub nearer 1 than L1"
    if not pairs:
        return [Answer(claim, None, "no power of two lies between two rows of both") for claim in (lower, even)]
    ratios = "; ".join(f"nnz {n:g}: {a:.3g} to {b:.3g} ({b / a:.1f}x)" for n, a, b, _, _ in pairs)
    spreads = "; ".join(f"nnz {n:g}: {a:.2f} to {b:.2f}" for n, _, _, a, b in pairs)
    return [
        Answer(f"{lower} (d={dimension})", all(a < b for _, a, b, _, _ in pairs), ratios),
        Answer(f"{even} (d={dimension})", all(a < b for *_, a, b in pairs), spreads),
    ]


def _quadratic(rows: Sequence[Row], dimension: int) -> list[Answer]:
    slope = exponent(rows, "FLOPs", dimension)
    claim = f"F falls with the square of nnz while the spread stays even (FLOPs, d={dimension})"
    if slope is None:
        return [Answer(claim, None, "fewer than three rows")]
    return [Answer(claim, abs(slope - 2) < 0.25, f"F ~ nnz^{slope:.2f}")]


def _above(rows: Sequence[Row], k: str, queries: int) -> list[Answer]:
    ours, found = curve(rows, "FLOPs", k), []
    for method in ("L1", "SDH"):
        theirs, claim = curve(rows, method, k), f"The FLOPs curve lies above that of {method} (P@{k})"
        if not ours or not theirs:
            found.append(Answer(claim, None, "not both were measured"))
            continue
        leads = [(row.operations, _lead(ours, row, k)) for row in theirs]
        judged = [lead for _, lead in leads if not math.isnan(lead)]
        said = "; ".join(
            f"at {price:.3g} none of ours is as cheap" if math.isnan(lead) else f"at {price:.3g}: {lead:+.3f}"
            for price, lead in leads
        )
        holds = all(lead >= 0 for lead in judged) if judged else None
        error = math.sqrt(max(row.precision[k] * (1 - row.precision[k]) for row in theirs) / queries)
        figures = f"lead of FLOPs at the price of each {method} row: {said} (standard error of a row {error:.3f})"
        found.append(Answer(claim, holds, figures))
    return found


def _lead(ours: Sequence[Row], row: Row, k: str) -> float:
    """How much better a curve is than `row` at its price or less; nan when even its cheapest row costs more."""
    price = min(row.operations, ours[-1].operations)
    return height(ours, price, k) - row.precision[k]
