"""Dense rows at the door: what `fit`, `refine` and `encode_*` accept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sparsevec.errors import InvalidVectors
from sparsevec.vectors import Float32s

__all__ = ["Dense", "blocks", "checked", "unit_rows"]

Dense = npt.NDArray[np.floating]


def checked(dense: npt.ArrayLike, input_dim: int, what: str = "dense vectors") -> Dense:
    """`dense` as a floating array (n, input_dim), finite and without zero rows; raises InvalidVectors."""
    rows = np.asarray(dense)
    if rows.ndim != 2:
        raise InvalidVectors(
            f"{what} must have shape (n, {input_dim}), found shape {rows.shape}; one row is x[None, :]"
        )
    if rows.shape[1] != input_dim:
        raise InvalidVectors(f"{what} must have {input_dim} columns (input_dim), found {rows.shape[1]}")
    if rows.dtype.kind not in "fiu":
        raise InvalidVectors(f"{what} must be real numbers, found {rows.dtype}")
    if rows.dtype.kind != "f":
        rows = rows.astype(np.float64)
    for start, block in blocks(rows):
        if (fault := _fault(block, start)) is not None:
            raise InvalidVectors(f"{what}: {fault}")
    return rows


def _fault(block: Dense, start: int) -> str | None:
    largest = np.abs(block).max(axis=1)
    if not np.isfinite(largest).all():
        row = int(np.argmin(np.isfinite(largest)))
        return f"row {start + row} holds NaN or infinity; leave it out or repair it"
    if (largest == 0).any():
        return f"row {start + int(np.argmin(largest))} is zero and has no direction; leave it out"
    return None


def blocks(rows: Dense, size: int = 8192) -> Iterator[tuple[int, Dense]]:
    """(first row, block of at most `size` rows), in order."""
    return ((start, rows[start : start + size]) for start in range(0, len(rows), size))


def unit_rows(rows: Dense) -> Float32s:
    """Each row over its length, (n, input_dim) float32; scaled by its largest entry first, so nothing overflows."""
    units = np.empty(rows.shape, np.float32)
    for start, block in blocks(rows):
        block = block.astype(np.float64)
        block /= np.abs(block).max(axis=1, keepdims=True)
        units[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return units
