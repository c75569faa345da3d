"""Rows in pandas frames and Arrow arrays, where these are installed, give the same array as the rows themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparsevec.dense import dense_rows
from sparsevec.errors import InvalidVectors

pd: Any = pytest.importorskip("pandas")
pa: Any = pytest.importorskip("pyarrow")

ROWS = np.arange(1.0, 13).reshape(4, 3).astype(np.float32)


@pytest.mark.parametrize(
    "held",
    [
        lambda x: pd.DataFrame(x),
        lambda x: pd.Series(list(x)),
        lambda x: pd.Series(x.tolist()),
        lambda x: pd.DataFrame({"embedding": x.tolist()}),
        lambda x: pa.array(x.tolist()),
        lambda x: pa.array(x.tolist(), pa.list_(pa.float32(), 3)),
        lambda x: pa.array([[9.0] * 3, *x.tolist()], pa.list_(pa.float32(), 3))[1:],
        lambda x: pa.chunked_array([x[:1].tolist(), x[1:].tolist()]),
        lambda x: pa.table({"embedding": x.tolist()}),
    ],
)
def test_frames_and_arrow_lists_are_rows(held: Callable[[Any], Any]) -> None:
    np.testing.assert_array_equal(dense_rows(held(ROWS), 3).astype(np.float32), ROWS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: pd.Series([[1.0, 2, 3], [1.0]]), "row 0 has 3 numbers, row 1 has 1"),
        (lambda: pa.array([[1.0, 2, 3], [1.0]]), "row 0 has 3 numbers, row 1 has 1"),
        (lambda: pa.array([[1.0, 2, 3], None]), "row 1 is null"),
        (lambda: pa.array([1.0, 2]), "an Arrow list of numbers a row, found double"),
        (lambda: pa.table({"a": [1], "b": [2]}), "a table of 2"),
        (lambda: pd.DataFrame({"text": ["a", "b", "c"]}), "real numbers, found"),
    ],
)
def test_what_holds_no_rows_is_refused(wrong: Callable[[], Any], says: str) -> None:
    with pytest.raises(InvalidVectors, match=says):
        dense_rows(wrong(), 3)
