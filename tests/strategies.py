"""Hypothesis strategies that aim at trouble: empty rows and batches, ties, one dimension, the ends of ranges."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sparsevec.contract.checks import Id
from sparsevec.vectors import SparseVectors

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_MIN = float(np.finfo(np.float32).tiny)

_ties = st.sampled_from([0.5, 1.0, 2.0])  # sums of these are exact, so equal scores are common
_any_size = st.floats(FLOAT32_MIN, 1e6, width=32)
_signs = st.sampled_from([-1.0, 1.0])

positive_weights = st.one_of(_ties, _any_size)
signed_weights = st.builds(lambda weight, sign: weight * sign, positive_weights, _signs)
any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(bool)
dimensions = st.sampled_from([1, 2, 7, 64, 2**16, 2**31, 2**31 + 1, 2**32])


@st.composite
def vectors(
    draw: st.DrawFn,
    *,
    dimension: int | None = None,
    weights: st.SearchStrategy[float] = positive_weights,
    min_rows: int = 0,
    max_rows: int = 8,
    max_nnz: int = 6,
) -> SparseVectors:
    """A batch; few dimensions near both ends are preferred, so that rows share them."""
    dimension = draw(dimensions) if dimension is None else dimension
    indices = st.one_of(
        st.integers(0, min(dimension, 4) - 1),
        st.integers(max(0, dimension - 2), dimension - 1),
        st.integers(0, dimension - 1),
    )
    rows = st.dictionaries(indices, weights, max_size=max_nnz)
    return SparseVectors.from_rows(draw(st.lists(rows, min_size=min_rows, max_size=max_rows)), dimension=dimension)


ids: st.SearchStrategy[Id] = st.one_of(
    st.integers(0, 3),
    st.sampled_from([2**63, 2**64 - 1, "42", "0", "é", "a b", "00000000-0000-0000-0000-000000000001"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20),
)


def distinct_ids(n: int) -> st.SearchStrategy[list[Id]]:
    """n ids, each once; 42 and "42" may both be among them."""
    return st.lists(ids, min_size=n, max_size=n, unique_by=lambda id_: (type(id_), id_))


not_ids = st.one_of(
    st.sampled_from([-1, 2**64, 1.0, True, None, b"x", "", "\ud800", ()]),
)
