"""scikit-learn: an encoder as a transformer, dense rows in, a sparse matrix out. Extra `scikit-learn`, and `train`.

    pipeline = make_pipeline(SparseCodes(nnz=32), LogisticRegression())
    GridSearchCV(pipeline, {"sparsecodes__nnz": [8, 16, 32]}).fit(dense, labels)

Rows are encoded as documents, without labels: `fit` learns from the training rows alone, so a search over folds is
honest. A row of zeros has no direction, and becomes a row of zeros.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from sparsevec import Budget, SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest

with guest("scikit-learn", "scikit-learn"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["SparseCodes"]


class SparseCodes(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Rows (n, d) to sparse, non-negative codes of length 1, a csr_matrix (n, output_dim) of float32.

    `nnz` and `flops` are the budget, as `sparsevec.Budget` takes them; `output_dim`, `similarity` and `random_state`
    (an int) go to `sparsevec.SparseEncoder`. Below 100 rows nothing can be learned, and codes that need no learning
    serve. After `fit`: `encoder_`, the SparseEncoder, and `n_features_in_`.
    """

    def __init__(
        self,
        output_dim: int = 1024,
        *,
        nnz: int | None = 32,
        flops: float | None = None,
        similarity: str = "cosine",
        random_state: int = 0,
    ) -> None:
        self.output_dim, self.nnz, self.flops = output_dim, nnz, flops
        self.similarity, self.random_state = similarity, random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803
        """Learn the encoder from rows (n, d). Raises InvalidInput for a budget that cannot be met, or rows of zeros
        alone, and ValueError as scikit-learn does for rows that are not finite numbers."""
        rows = validate_data(self, X, dtype=np.float32, ensure_min_features=2)  # one column has one direction, or two
        told = rows[_with_direction(rows)]
        if not len(told):
            raise InvalidInput("expected a row that is not all zeros: zeros have no direction to learn from")
        made: Any = SparseEncoder(rows.shape[1], self.output_dim, self.random_state, self.similarity)  # type: ignore[arg-type]
        self.encoder_ = made.fit(told, budget=Budget(nnz=self.nnz, flops=self.flops))
        self._n_features_out = self.output_dim
        return self

    def transform(self, X: Any) -> sp.csr_matrix:  # noqa: N803
        """Rows (n, d) to codes (n, output_dim)."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        told = _with_direction(rows)
        codes = self.encoder_.encode_document(rows[told])
        indptr = np.zeros(len(rows) + 1, np.int32)
        indptr[1:][told] = codes.row_nnz
        parts = codes.values.copy(), codes.indices.copy(), indptr.cumsum(dtype=np.int32)  # theirs to write to
        return sp.csr_matrix(parts, (len(rows), self.output_dim))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _with_direction(rows: Any) -> Any:
    return np.flatnonzero(np.linalg.norm(rows.astype(np.float64), axis=1) > 0)
