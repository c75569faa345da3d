"""Linear decoders of sparse codes: dense rows, as nearly as codes tell them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sparsevec.vectors import Float32s

__all__ = ["ridge_decoder"]


def ridge_decoder(stored: sp.csr_array, rows: Float32s, ridge: float, steps: int) -> Float32s:
    """W (dimension, columns) of least |rows - stored W|^2 + ridge |W|^2, by conjugate gradients, a column each."""
    columns = stored.T.tocsr()
    residual = np.asarray(columns @ rows)
    weights, direction = np.zeros_like(residual), residual.copy()
    size = np.square(residual).sum(axis=0)
    for _ in range(steps):
        pushed = columns @ (stored @ direction) + ridge * direction
        stride = size / np.maximum((direction * pushed).sum(axis=0), 1e-30)
        weights += stride * direction
        residual -= stride * pushed
        before, size = size, np.square(residual).sum(axis=0)
        direction = residual + size / np.maximum(before, 1e-30) * direction
    return weights.astype(np.float32, copy=False)
