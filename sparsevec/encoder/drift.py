"""Whether the codes that a collection holds still suit its documents, or it is time to refine again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsevec.dense import Dense, nearest, unit_rows
from sparsevec.encoder.figures import spacing
from sparsevec.encoder.model import Model
from sparsevec.errors import InvalidInput
from sparsevec.measure.cost import cost
from sparsevec.measure.intervals import Interval, interval, paired_interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.vectors import Int64s, SparseVectors

__all__ = ["Drift", "drift", "found_of_themselves"]

_ASKING, _SEARCHED = 512, 20_000  # documents that ask, and that are searched: as for the figures of a fit
_BUDGET = 1.05  # of F and of nnz, before it counts as broken
_THEIRS = 0.25  # of a code's dimensions that its row has: half where it was cut longer, a twentieth by chance


@dataclass(frozen=True, slots=True)
class Drift:
    """What documents of today, asked as queries, find of each other in the codes that are stored."""

    documents: int
    """searched"""
    newcomers: int
    """of these, whose codes are what the encoder gives today: they came after the last `refine`; 0 for a head"""
    recall_10: float
    recall_10_interval: Interval
    flops: float
    active_dims: float
    found: float | None
    """share of the fitted documents among the dense top tens that the sparse top tens have; None without any"""
    found_newcomers: float | None
    """the same of the newcomers"""
    reasons: tuple[str, ...]
    """to refine again, in words; none where all is as it was"""

    @property
    def refine_again(self) -> bool:
        return bool(self.reasons)


def drift(model: Model, rows: Dense, asking: Dense, codes: SparseVectors) -> Drift:
    """For rows (n, columns) as documents and as queries, and their stored codes. InvalidInput for codes of others."""
    rows, asking, codes, own = _some(rows, asking, codes)
    _check_theirs(model.documents(rows[own], None), codes[own])
    units, asked = unit_rows(rows), unit_rows(asking[own])
    truth = nearest(units, asked, 10, itself=own)
    queries = model.queries(asking[own], None)
    found = sparse_top(codes, queries, 10, itself=own)
    at_10, spent = recalls(units, asked, found, truth), cost(queries, codes)
    new = _newcomers(model, rows, codes)
    hit = _hit(truth.rows, found)
    fitted, later = _share(hit, ~new[truth.rows]), _share(hit, new[truth.rows])
    between = interval(at_10)
    return Drift(
        documents=len(rows),
        newcomers=int(new.sum()),
        recall_10=float(at_10.mean()),
        recall_10_interval=between,
        flops=spent.flops,
        active_dims=spent.active_dims,
        found=fitted,
        found_newcomers=later,
        reasons=tuple(_reasons(model, spent.flops, spent.active_dims, between, hit, new[truth.rows], new[own])),
    )


def found_of_themselves(model: Model, rows: Dense, asking: Dense, codes: SparseVectors) -> npt.NDArray[np.float64]:
    """What fitted documents that ask find of their dense top tens, each (q,): with what `drift` compares later."""
    rows, asking, codes, own = _some(rows, asking, codes)
    units = unit_rows(rows)
    truth = nearest(units, unit_rows(asking[own]), 10, itself=own)
    shares: npt.NDArray[np.float64] = _hit(
        truth.rows, sparse_top(codes, model.queries(asking[own], None), 10, itself=own)
    ).mean(axis=1)
    return shares


def _some(rows: Dense, asking: Dense, codes: SparseVectors) -> tuple[Dense, Dense, SparseVectors, Int64s]:
    """The documents that are searched, as they ask, their codes, and which of them ask."""
    step = spacing(len(rows), _SEARCHED)
    rows, asking, codes = rows[::step], asking[::step], codes[np.arange(0, len(codes), step)]
    return rows, asking, codes, np.arange(0, len(rows), spacing(len(rows), _ASKING))


def _hit(due: Int64s, found: Sequence[Int64s]) -> npt.NDArray[np.bool_]:
    """Which of the dense top tens (q, 10) the sparse top tens have."""
    return np.array([np.isin(one, rows) for one, rows in zip(due, found, strict=True)])


def _check_theirs(today: SparseVectors, codes: SparseVectors) -> None:
    """Refining chooses among the dimensions that the head gives a row."""
    ours, theirs = (vectors.to_scipy().astype(bool) for vectors in (today, codes))
    share = ours.multiply(theirs).nnz / max(1, theirs.nnz)
    if share < _THEIRS:
        raise InvalidInput(
            f"{share:.0%} of the codes' dimensions are those that their rows have in this encoder: they are codes of "
            "other documents, or in another order; expected the code of each row, in the order of the rows"
        )


def _newcomers(model: Model, rows: Dense, codes: SparseVectors) -> npt.NDArray[np.bool_]:
    """(n,) whose stored code is what the encoder gives a document that comes today, fitted or as the head has it."""
    if model.config.stage != "refined":
        return np.zeros(len(rows), bool)
    new = _same(model.documents(rows, None), codes)
    rest = np.flatnonzero(~new)
    new[rest] = _same(model.later_documents(rows[rest], None), codes[rest])
    return new


def _same(today: SparseVectors, codes: SparseVectors) -> npt.NDArray[np.bool_]:
    same = np.zeros(len(codes), bool)
    for number in np.flatnonzero(today.row_nnz == codes.row_nnz):
        ours, theirs = today[int(number)], codes[int(number)]
        same[number] = np.array_equal(ours.indices, theirs.indices) and np.allclose(
            ours.values, theirs.values, rtol=2**-7
        )  # backends keep 8 bits of a weight, or more
    return same


def _of_fitted(
    hit: npt.NDArray[np.bool_], new: npt.NDArray[np.bool_], asking_new: npt.NDArray[np.bool_]
) -> Interval | None:
    """What fitted documents find of the fitted ones that are due; None where none are."""
    rows = np.flatnonzero(~asking_new & ~new.all(axis=1))
    return interval(np.array([hit[row][~new[row]].mean() for row in rows])) if len(rows) else None


def _share(hit: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> float | None:
    return float(hit[of].mean()) if of.any() else None


def _reasons(
    model: Model,
    flops: float,
    nnz: float,
    between: Interval,
    hit: npt.NDArray[np.bool_],
    new: npt.NDArray[np.bool_],
    asking_new: npt.NDArray[np.bool_],
) -> list[str]:
    """new: which of the dense top tens are newcomers (q, 10); asking_new: which of those that ask (q,)."""
    config, said = model.config, []
    allowed = max(config.flops, config.figures.allowed_flops or 0)  # among too few to learn from, more than the budget
    if flops > _BUDGET * allowed:
        said.append(f"a query costs F {flops:.3f}, the budget is {allowed:.3g}: documents use other dimensions now")
    if nnz > _BUDGET * config.nnz:
        said.append(f"documents have {nnz:.1f} weights, the budget is {config.nnz}")
    asked = next((kind for kind in config.figures.kinds if kind.kind == "documents"), None)
    spread = (between.high - between.low) / 2 * math.sqrt(len(hit))  # of one document's share, then as now
    kept = None if asked is None else asked.recall_10 - spread / math.sqrt(asked.queries)
    before, own = config.figures.of_themselves, _of_fitted(hit, new, asking_new)
    if before is not None and own is not None:
        between, kept = own, before.low
    if kept is not None and between.high < kept:
        said.append(f"documents find {between} of their dense top 10, {kept:.3f} or more when this was learned")
    both = new.any(axis=1) & ~new.all(axis=1)
    if both.any():
        later, fitted = (
            np.array([row[of].mean() for row, of in zip(hit[both], which[both], strict=True)]) for which in (new, ~new)
        )
        if (less := paired_interval(later, fitted)).high < 0:
            said.append(f"newcomers are found less often than fitted documents, by {-less.high:.3f} to {-less.low:.3f}")
    return said
