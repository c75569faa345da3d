"""Whatever similarity the user's dense search ranks by, as the cosine of rows with a column or two more.

cosine: the rows as they are. dot: a document gets the column sqrt(R^2 - |x|^2), a query 0, so that all documents are R
long and the cosine is q.x / (R |q|): the order of the inner product (Bachrach et al., "Speeding Up the Xbox
Recommender System Using a Euclidean Transformation for Inner-Product Spaces", RecSys 2014; Neyshabur and Srebro, ICML
2015). l2: |q - x|^2 = |q|^2 - 2 (q.x - |x|^2 / 2), so with c = x - centre a document is (c, (r^2 - |c|^2) / 2r) and a
query (q - centre, r), of which the inner product has the order wanted; then as for dot. r is the usual length of c: any
other gives the same order, this one keeps the columns alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from sparsevec.dense import Dense, blocks
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.vectors import Float32s

__all__ = ["COLUMNS", "Near", "Similarity", "check_similarity", "declared_near", "misfit"]

Near: TypeAlias = Literal["cosine", "dot", "l2"]
COLUMNS: Mapping[str, int] = {"cosine": 0, "dot": 1, "l2": 2}
"""more than the user's rows have"""
_SPARE, _SPARE_OF_FEW, _FEW = 1.25, 2.0, 100
"""R over the longest document that was learned from, for later ones may be longer: a little, and more than a little
where there were fewer than 100, which say little of the others"""


def check_similarity(near: object) -> Near:
    """Raises InvalidInput for any other."""
    if near not in get_args(Near):
        raise InvalidInput(f"similarity must be {', '.join(map(repr, get_args(Near)))}, found {near!r}")
    return near  # type: ignore[return-value]


_DECLARED: Mapping[str, Near] = {
    "cosine": "cosine",
    "cosinesimil": "cosine",
    "dot": "dot",
    "dot_product": "dot",
    "innerproduct": "dot",
    "max_inner_product": "dot",
    "euclid": "l2",
    "l2": "l2",
    "l2_norm": "l2",
}
_ALIKE, _ASKING, _AMONG = 0.95, 100, 2000
"""overlap of two top tens from which on they are one order but for near ties; rows that ask, and that are ranked"""


def declared_near(similarity: str) -> Near | None:
    """What an engine's own word for it says; None for one that is none of these, as Qdrant's Manhattan."""
    return _DECLARED.get(similarity.lower())


def misfit(near: Near, similarity: str, rows: Dense) -> str | None:
    """Why an encoder for `near` orders `rows` (n, d) otherwise than a field that declares `similarity`; None if not.

    Rows of one length have one order, whatever it is called; how much lengths matter depends on how near the rows are,
    so they are ranked both ways.
    """
    declared = declared_near(similarity)
    if declared is None or declared == near or len(rows) < 2:
        return None
    some = rows[:: -(-len(rows) // _AMONG)].astype(np.float64)
    ours, theirs = _top(near, some), _top(declared, some)
    shared = np.mean([np.isin(one, other).mean() for one, other in zip(ours, theirs, strict=True)])
    if shared >= _ALIKE:
        return None
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return (
        f"the field ranks by {similarity!r}, the encoder was learned for similarity={near!r}, and the rows' lengths "
        f"({lengths.min():.3g} to {lengths.max():.3g}) make these two orders, whose top tens share {shared:.2f}; learn "
        f"it with SparseEncoder(..., similarity={declared!r}), or scale all rows to one length"
    )


def _top(near: Near, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The ten rows of n, or half of them, nearest to some of them, themselves left out, (q, 10)."""
    asking = np.arange(0, len(rows), -(-len(rows) // _ASKING))
    if near == "cosine":
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    scores = rows[asking] @ rows.T
    if near == "l2":
        scores -= 0.5 * np.square(rows).sum(axis=1)
    scores[np.arange(len(asking)), asking] = -np.inf
    top: npt.NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, : min(10, len(rows) // 2)]
    return top


@dataclass(frozen=True, slots=True)
class Similarity:
    """The reduction, as learned from a corpus. `centre` (input_dim,), `length` r and `reach` R in the users' unit."""

    near: Near
    centre: npt.NDArray[np.float64]
    length: float
    reach: float

    @classmethod
    def of(cls, near: Near, documents: Dense) -> Similarity:
        """For `documents` (n, input_dim); of none, as if they had length 1 around 0."""
        d = documents.shape[1]
        if near == "cosine" or not len(documents):
            return cls(near, np.zeros(d), 1.0, _SPARE * 2)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            centre = documents.mean(axis=0, dtype=np.float64) if near == "l2" else np.zeros(d)
            squares = np.concatenate(
                [np.square(block.astype(np.float64) - centre).sum(axis=1) for _, block in blocks(documents)]
            )
        if near == "l2" and not squares.any():  # one row, or equal ones: their own length is a scale, too
            squares += float(np.square(centre).sum()) or 1.0
        if not (np.isfinite(squares).all() and squares.any()):
            raise InvalidVectors(
                f"similarity={near!r} needs lengths that float64 can square, and not all 0; found documents of lengths "
                f"{np.sqrt(squares.min()):g} to {np.sqrt(squares.max()):g}; scale them all by one factor"
            )
        r = float(np.sqrt(squares.mean()))
        if near == "l2":
            squares += np.square((r**2 - squares) / (2 * r))
        spare = _SPARE_OF_FEW if len(documents) < _FEW else _SPARE
        return cls(near, centre, r, spare * float(np.sqrt(squares.max())))

    def documents(self, rows: Dense) -> Dense:
        """(n, input_dim) to (n, input_dim + COLUMNS). Raises InvalidVectors for rows longer than any learned from."""
        if self.near == "cosine":
            return rows
        n, d = rows.shape
        wide = np.empty((n, d + COLUMNS[self.near]), np.float32)
        for start, part, left in self._reduced(rows):
            if (left < 0).any():
                row = int(np.argmin(left >= 0))
                raise InvalidVectors(f"documents: row {start + row} {self._too_long(left[row])}")
            wide[start : start + len(part), :-1] = part
            wide[start : start + len(part), -1] = np.sqrt(left)
        return wide

    def faults(self, rows: Dense) -> dict[int, str]:
        """Of (n, input_dim), those that `documents` refuses, and why."""
        if self.near == "cosine":
            return {}
        return {
            start + row: f"its dense row {self._too_long(left[row])}"
            for start, _, left in self._reduced(rows)
            for row in np.flatnonzero(left < 0).tolist()
        }

    def _reduced(self, rows: Dense) -> Iterator[tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """In blocks: the first row's number, the columns before the last (b, .), and the square of the last (b,)."""
        for start, block in blocks(rows):
            with np.errstate(over="ignore"):  # what overflows is too long
                part = block.astype(np.float64) - self.centre
                if self.near == "l2":
                    extra = (self.length**2 - np.square(part).sum(axis=1)) / (2 * self.length)
                    part = np.concatenate([part, extra[:, None]], axis=1)
                part /= self.reach
                left = 1 - np.square(part).sum(axis=1)
            yield start, part, left

    def _too_long(self, left: float) -> str:
        return (
            f"is {np.sqrt(1 - left):.2f} times as long as similarity={self.near!r} was learned for; fit again with "
            f"rows like it, or leave it out"
        )

    def queries(self, rows: Dense) -> Dense:
        """(q, input_dim) to (q, input_dim + COLUMNS), of any length."""
        if self.near == "cosine":
            return rows
        wide = np.zeros((len(rows), rows.shape[1] + COLUMNS[self.near]))
        wide[:, : rows.shape[1]] = rows.astype(np.float64) - self.centre
        if self.near == "l2":
            wide[:, -2] = self.length
        wide[~wide.any(axis=1), -1] = 1  # a zero query by dot: all documents are equal, so any order is right
        return wide

    @property
    def tensors(self) -> dict[str, Float32s]:
        """What a model keeps of it beside its name: nothing for cosine."""
        if self.near == "cosine":
            return {}
        return {"similarity": np.append(self.centre, [self.length, self.reach]).astype(np.float32)}

    @classmethod
    def kept(cls, near: Near, tensors: Mapping[str, Float32s], input_dim: int) -> Similarity:
        """As `tensors` says."""
        if near == "cosine":
            return cls(near, np.zeros(input_dim), 1.0, 1.0)
        numbers = tensors["similarity"].astype(np.float64)
        return cls(near, numbers[:-2], float(numbers[-2]), float(numbers[-1]))

    def rounded(self) -> Similarity:
        """As it comes back from a model that was saved: learning and loading must see the same rows."""
        return type(self).kept(self.near, self.tensors, len(self.centre))
