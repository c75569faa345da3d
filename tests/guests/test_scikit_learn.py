"""The transformer: scikit-learn's own estimator checks, in a pipeline and a grid search."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import sparsevec as sv
from sparsevec.errors import InvalidInput
from sparsevec.integrations.scikit_learn import SparseCodes
from sparsevec.vectors import Float32s

Int64s = np.ndarray[tuple[int], np.dtype[np.int64]]


@parametrize_with_checks([SparseCodes(64, nnz=8)])  # type: ignore[untyped-decorator]
def test_their_own_checks_pass(estimator: SparseCodes, check: object) -> None:
    check(estimator)  # type: ignore[operator]


@pytest.fixture(scope="module")
def rows() -> tuple[Float32s, Int64s]:
    dense, labels = make_blobs(180, 24, centers=12, cluster_std=5.0, random_state=0)  # halves need no learning
    return dense.astype(np.float32), labels % 4


def test_codes_are_those_of_the_encoder(rows: tuple[Float32s, Int64s]) -> None:
    dense, _ = rows
    codes = SparseCodes(256, nnz=8).fit(dense)
    expected = sv.SparseEncoder(24, 256).fit(dense, budget=sv.Budget(nnz=8)).encode_document(dense)
    assert isinstance(made := codes.transform(dense), sp.csr_matrix)
    assert sv.SparseVectors.from_scipy(made) == expected
    assert codes.encoder_.fingerprint == expected.fingerprint


@pytest.mark.parametrize("classifier", [LogisticRegression(), MultinomialNB(), KNeighborsClassifier()], ids=repr)
def test_classifiers_of_theirs_read_the_codes(rows: tuple[Float32s, Int64s], classifier: object) -> None:
    scores = cross_val_score(make_pipeline(SparseCodes(256, nnz=8), classifier), *rows, cv=2)
    assert min(scores) > 0.75  # chance is .25


def test_a_grid_search_chooses_a_budget(rows: tuple[Float32s, Int64s]) -> None:
    pipeline = make_pipeline(SparseCodes(256), LogisticRegression())
    search = GridSearchCV(pipeline, {"sparsecodes__nnz": [1, 16]}, cv=2).fit(*rows)
    assert search.best_params_ == {"sparsecodes__nnz": 16}
    assert search.best_estimator_[0].encoder_.config.nnz == 16


def test_zeros_become_zeros(rows: tuple[Float32s, Int64s]) -> None:
    dense = rows[0].copy()
    dense[[3, 7]] = 0
    codes = SparseCodes(256, nnz=8).fit_transform(dense)
    assert np.flatnonzero(np.diff(codes.indptr) == 0).tolist() == [3, 7]
    with pytest.raises(InvalidInput, match="zeros"):
        SparseCodes().fit(np.zeros((5, 3)))


def test_a_budget_that_cannot_be_met_says_so_in_a_search(rows: tuple[Float32s, Int64s]) -> None:
    pipeline = make_pipeline(SparseCodes(256), LogisticRegression())
    with pytest.raises(InvalidInput, match="nnz"):
        GridSearchCV(pipeline, {"sparsecodes__nnz": [0]}, cv=2, error_score="raise").fit(*rows)
