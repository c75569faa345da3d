"""How recall grows with dimensions, weights, F and documents: fitted to small runs, to say what larger ones find.

Two laws are tried, of d dimensions, k weights a document, F multiplications a pair and n documents:

    sum       recall = R - a d^-alpha - b F^-beta - c n^-gamma - e k^-kappa, c of either sign
    product   1 - recall = A d^-alpha F^-beta n^-gamma k^-kappa, whose exponents may bend with the others' logarithms

Least squares of recall over the square root of what is missed, which is about its standard error, and weak priors
where few runs say little. What a law misses of a configuration in its largest run is carried on, whole, by half or not
at all. Which law, and how much is carried, is what would have predicted the largest runs best from the smaller ones;
how far it was off there says how far the next prediction may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from sparsevec.measure.intervals import Interval
from sparsevec.postings import Float64s

__all__ = ["Law", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One measured recall."""

    dimension: int
    nnz: int
    query_nnz: int | None
    flops: float
    documents: int
    recall: float

    @property
    def configuration(self) -> Hashable:
        return self.dimension, self.nnz, self.query_nnz

    @property
    def shape(self) -> tuple[int, int]:
        return self.dimension, self.nnz


@dataclass(frozen=True, slots=True)
class _Form:
    """recall = of(parameters, columns), columns (m, 4) logarithms of d, k, F, n; each parameter with a prior."""

    name: str
    of: Callable[[Float64s, Float64s], Float64s]
    means: tuple[float, ...]
    deviations: tuple[float, ...]


def _sum(parameters: Float64s, columns: Float64s) -> Float64s:
    most, rows, *terms = parameters  # more documents may help or harm: the sign of their term is free
    shares, exponents = np.append(np.exp(terms[:3]), rows), np.exp(terms[3:])
    missed: Float64s = (shares * np.exp(-exponents * columns)).sum(axis=1) - rows
    return np.asarray(1 - np.exp(most) - missed)


def _product(parameters: Float64s, columns: Float64s) -> Float64s:
    d, k, f, n = columns.T
    terms = np.column_stack([np.ones(len(columns)), -d, -k, -f, -n, f * f, n * d, n * k, n * f, d * k])
    return np.asarray(1 - np.exp(np.minimum(terms @ parameters, 0.0)))


_MORE = (-0.05, -0.08)
"""More dimensions, and more weights, gain more from more rows: by so much the exponent of n changes for a factor e of
either. Second looks alone have -0.045 to -0.07 and -0.06 to -0.13 (descriptions, utterances, SIFT)."""
_FORMS = (  # the exponent of n may have either sign: more rows teach more, and lie closer
    _Form("sum", _sum, (-3.0, 0.0, *(-3.0,) * 3, *(math.log(0.3),) * 4), (2.0, 0.2, *(1.5,) * 3, *(0.7,) * 4)),
    _Form(
        "product", _product, (-1.5, 0.1, 0.1, 0.3, 0.0, 0.0, *_MORE, 0.0, 0.0), (2.0, *(0.3,) * 3, 0.2, *(0.05,) * 5)
    ),
)
_CARRIED = (0.0, 0.5, 1.0)
_CENTRE = np.log([4096, 32, 0.5, 4000])  # parameters are of a configuration in the middle, so that they are of order 1
_NOISE = 0.02  # of a recall over the square root of what it misses: three hundred queries, ten answers each
_LEAST_MISSED = 0.01


def _columns(seen: Sequence[Seen]) -> Float64s:
    rows = [(one.dimension, one.nnz, max(one.flops, 1e-4), one.documents) for one in seen]
    return np.asarray(np.log(np.array(rows, np.float64)) - _CENTRE)


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law."""

    form: str
    carried: float
    """of what it misses of a configuration, in the prediction of a larger run of the same"""
    sizes: tuple[int, ...]
    """of the runs, ascending"""
    missed: float | None
    """root mean square of what it would have been off on the largest runs; None with runs of one size"""
    freedom: int
    """shapes that this is known from, less one"""
    parameters: Float64s
    left: dict[Hashable, float]
    """of each configuration, recall less the law's, in its largest run"""

    @classmethod
    def fitted(cls, seen: Sequence[Seen]) -> Law:
        """To at least one."""
        sizes = tuple(sorted({one.documents for one in seen}))
        tries = [(form, carried) for form in _FORMS for carried in _CARRIED]
        if len(sizes) == 1:
            return _fitted(_FORMS[1], 1.0, seen, sizes, None, 0)
        smaller = [one for one in seen if one.documents < sizes[-1]]
        known = {one.configuration for one in smaller}
        largest = [one for one in seen if one.documents == sizes[-1] and one.configuration in known]
        if not largest:
            return _fitted(_FORMS[1], 1.0, seen, sizes, None, 0)
        off = [_off(_fitted(form, carried, smaller, sizes[:-1], None, 0), largest) for form, carried in tries]
        form, carried = tries[int(np.argmin(off))]
        return _fitted(form, carried, seen, sizes, min(off), len({one.shape for one in largest}) - 1)

    def predict(self, like: Seen, documents: int) -> tuple[float, Interval]:
        """Recall of the configuration of `like` among so many documents, and a 95 % prediction interval."""
        form = next(form for form in _FORMS if form.name == self.form)
        columns = _columns([like])
        columns[0, 3] = math.log(documents) - _CENTRE[3]
        expected = float(form.of(self.parameters, columns)[0])
        recall = min(1.0, max(0.0, expected + self.carried * self.left.get(like.configuration, 0.0)))
        half = self._half(1 - recall, documents)
        return recall, Interval(max(0.0, recall - half), min(1.0, recall + half))

    def _half(self, missed: float, documents: int) -> float:
        """Of the interval: what the last step was off, for each step of that size; by the prior where none was made."""
        beyond = math.log(max(1.0, documents / self.sizes[-1]))
        if self.missed is None:
            return 2 * math.hypot(_NOISE * math.sqrt(missed), _FORMS[1].deviations[4] * missed * beyond)
        steps = max(1.0, beyond / math.log(self.sizes[-1] / self.sizes[-2]))
        return float(student.ppf(0.975, max(2, self.freedom))) * self.missed * steps

    def __str__(self) -> str:
        if self.missed is None:
            return f"{self.form} law of runs of one size, {self.sizes[0]:,} rows"
        smaller = " and ".join(f"{size:,}" for size in self.sizes[:-1])
        return (
            f"{self.form} law; from {smaller} rows it would have predicted those of {self.sizes[-1]:,} to "
            f"{100 * self.missed:.1f} points (root mean square)"
        )


def _fitted(
    form: _Form, carried: float, seen: Sequence[Seen], sizes: tuple[int, ...], missed: float | None, freedom: int
) -> Law:
    columns, recall = _columns(seen), np.array([one.recall for one in seen])
    noise = _NOISE * np.sqrt(np.maximum(1 - recall, _LEAST_MISSED))
    means, deviations = np.array(form.means), np.array(form.deviations)

    def residuals(parameters: Float64s) -> Float64s:
        off = (form.of(parameters, columns) - recall) / noise
        return np.concatenate([off, (parameters - means) / deviations])

    parameters = least_squares(residuals, means).x
    left = recall - form.of(parameters, columns)
    by_size = sorted(zip(seen, left.tolist(), strict=True), key=lambda pair: pair[0].documents)
    return Law(form.name, carried, sizes, missed, freedom, parameters, {one.configuration: gap for one, gap in by_size})


def _off(law: Law, seen: Sequence[Seen]) -> float:
    return math.sqrt(float(np.mean([(law.predict(one, one.documents)[0] - one.recall) ** 2 for one in seen])))
