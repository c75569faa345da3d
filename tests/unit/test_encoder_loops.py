"""The compiled loops of one query: bounds that hold, and the bits that numpy gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevec.compiler import Loops
from sparsevec.dense import Dense, largest
from sparsevec.encoder.head import LOOPS, Cut, Float64s, Projection, Purse, _sparse, encoded
from sparsevec.encoder.newcomers import Newcomers, packed
from sparsevec.encoder.recipe import NewcomerRecipe
from sparsevec.encoder.residual import ResidualCodes, shapes
from sparsevec.errors import InvalidInput
from sparsevec.vectors import Float32s, SparseVectors
from tests import strategies
from tests.unit.test_engine import BROKEN_NUMBA, IN_PYTHON, NOWHERE_TO_CACHE, WITHOUT_NUMBA


@pytest.fixture(scope="module", autouse=True)
def loops() -> Any:
    pytest.importorskip("numba")
    LOOPS.load(wait=True)
    assert LOOPS.get() is not None
    return LOOPS.get()


def in_numpy(compute: Callable[[], Any]) -> Any:
    with patch.object(LOOPS, "_module", None):
        return compute()


# ---- the largest activations of few rows

sizes = st.sampled_from([0.0, 1e-12, 1e-4, 1.0, 1.0 + 2.0**-23, 3e4])


@st.composite
def projections(draw: st.DrawFn) -> Projection:
    """Rows of very different lengths, zeros, equal ones and such as are nearly so; entries that tie."""
    dimension, columns, seed = draw(st.integers(1, 130)), draw(st.integers(1, 70)), draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((dimension, columns))
    if draw(st.booleans()):
        weights = np.rint(weights)
    different = draw(st.integers(1, dimension))
    weights = weights[generator.integers(0, different, dimension)]
    weights *= generator.choice(draw(st.lists(sizes, min_size=1, max_size=3)), dimension)[:, None]
    weights *= draw(st.sampled_from([1e-20, 1e-3, 1.0, 1e10]))
    bias = draw(st.sampled_from([0.0, 1e-3, 1e4])) * np.rint(2 * generator.standard_normal(dimension))
    mean = draw(st.sampled_from([0.0, 0.1])) * generator.standard_normal(columns)
    return Projection(weights.astype(np.float32), bias.astype(np.float32), mean.astype(np.float32))


@st.composite
def some_rows(draw: st.DrawFn, columns: int, most: int = 4) -> Float64s:
    """With one entry, equal ones, or of any kind."""
    n, generator = draw(st.integers(1, most)), np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = generator.standard_normal((n, columns)) * draw(st.sampled_from([1e-300, 1e-30, 1.0, 1e300]))
    kind = draw(st.sampled_from(["any", "ones", "one entry"]))
    if kind == "ones":
        rows = np.sign(rows)
    if kind == "one entry":
        rows *= np.arange(columns) == draw(st.integers(0, columns - 1))
    return rows


def bounds(loops: Any, projection: Projection, row: Dense, groups: int) -> tuple[Float64s, Float32s, Float64s]:
    """The activations of a row (1, columns), and what bounds them from below, by groups, and from above."""
    x, lows, highs = np.empty(row.shape[1]), np.empty(groups, np.float32), np.empty(projection.dimension)
    asked = row[0], projection._mean, projection._longest, projection._error_of_bias
    loops.bounds(*projection._small, projection._bias, *asked, x, lows, highs)
    assert x.tobytes() == projection._fixed(row).tobytes()
    return projection(row)[0], lows, highs


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_activation_is_outside_its_bounds(loops: Any, data: st.DataObject) -> None:
    projection = data.draw(projections())
    groups = -(-projection.dimension // data.draw(st.integers(1, projection.dimension)))
    exact, lows, highs = bounds(loops, projection, data.draw(some_rows(len(projection._mean)))[:1], groups)
    starts = range(0, projection.dimension, -(-projection.dimension // groups))
    assert (exact <= highs).all()
    assert (lows[: len(starts)] <= np.maximum.reduceat(exact, starts)).all()
    assert (lows[len(starts) :] == -np.inf).all()


@pytest.mark.parametrize("columns", [1, 2, 48])
def test_nor_is_one_of_the_row_that_8_bits_serve_worst(loops: Any, columns: int) -> None:
    weights = np.random.default_rng(columns).standard_normal((300, columns), np.float32)
    projection = Projection(weights, np.zeros(300, np.float32), np.zeros(columns, np.float32))
    small, steps, _ = projection._small
    lost = projection._weights * projection._scale - steps[:, None] * small
    lost[~lost.any(axis=1)] = 1
    for at, worst in enumerate(lost):
        exact, lows, highs = bounds(loops, projection, worst[None], 300)
        assert lows[at] <= exact[at] <= highs[at]


@pytest.mark.parametrize("most", [4, 40])
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_largest_of_few_and_of_many_rows_are_those_of_all_computed_exactly(most: int, data: st.DataObject) -> None:
    projection = data.draw(projections())
    rows, k = data.draw(some_rows(len(projection._mean), most)), data.draw(st.integers(1, projection.dimension))
    (found,), (plain,) = projection.largest(rows, k), in_numpy(lambda: list(projection.largest(rows, k)))
    due = [part.tobytes() for part in largest(projection(rows), k)]
    assert [part.tobytes() for part in found] == due
    assert [part.tobytes() for part in plain] == due


@pytest.mark.parametrize("columns", [5, 384, 5000])
@pytest.mark.parametrize("k", [1, 40, 250])
def test_eight_bits_leave_out_none_of_the_largest(columns: int, k: int) -> None:
    generator = np.random.default_rng(k)
    weights, bias = generator.standard_normal((1003, columns), np.float32), generator.standard_normal(1003, np.float32)
    rows = np.asfortranarray(generator.standard_normal((3, columns), np.float32))
    weights[500], rows[1] = 3, 2  # whose product is as large as it can be
    projection = Projection(np.asfortranarray(weights), bias, np.full(columns, 0.01, np.float32))
    (found,) = projection.largest(rows, k)
    (due,) = in_numpy(lambda: list(projection.largest(rows, k)))
    assert [part.tobytes() for part in found] == [part.tobytes() for part in due]


def test_few_rows_are_not_computed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    zeros = np.zeros(2000, np.float32), np.zeros(48, np.float32)
    projection = Projection(generator.standard_normal((2000, 48), np.float32), *zeros)
    monkeypatch.delattr(Projection, "_exact")
    monkeypatch.delattr(Projection, "_candidates")
    (found,) = projection.largest(generator.standard_normal((4, 48), np.float32), 10)
    assert found[0].shape == (4, 10)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_rows_are_cut_to_the_bits_of_numpy(data: st.DataObject) -> None:
    """Also where nothing fired, nothing can be paid for, or all of a row is as strong."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dimension, n = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 5))
    activations = np.rint(data.draw(st.sampled_from([1.0, 30.0])) * generator.standard_normal((n, dimension)))
    found = largest(activations + data.draw(st.sampled_from([0.0, 5.0, -40.0])), data.draw(st.integers(1, dimension)))
    cut = Cut(dimension, data.draw(st.sampled_from([0.0, 0.2, 0.9])), data.draw(st.sampled_from([1, 4, 11, 16])))
    prices = generator.random(dimension) ** 3
    purse = Purse(prices, data.draw(st.sampled_from([0.0, 0.3, 4.0]))) if data.draw(st.booleans()) else None
    made = _sparse(*found, cut, dimension, purse)
    assert made == in_numpy(lambda: _sparse(*found, cut, dimension, purse))
    assert made == SparseVectors(made.indptr, made.indices, made.values, dimension)  # by all rules


@pytest.mark.parametrize("n", [1, 4, 5])
def test_some_dimensions_have_the_activations_of_all(n: int) -> None:
    generator = np.random.default_rng(n)
    weights, bias = generator.standard_normal((300, 48), np.float32), generator.standard_normal(300, np.float32)
    projection, rows = Projection(weights, bias, np.zeros(48, np.float32)), generator.standard_normal((n, 48))
    columns = np.array([7, 3, 299])
    assert projection.at(rows, columns).tobytes() == projection(rows)[:, columns].tobytes()
    with pytest.raises(IndexError):
        projection.at(rows, np.array([300]))


# ---- newcomers


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_newcomers_are_the_bits_of_numpy(data: st.DataObject) -> None:
    """Where everybody, some or nobody that asks near a row shares a dimension with it."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dimension, columns = data.draw(st.sampled_from([40, 300])), data.draw(st.integers(1, 30))
    asking, near = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 80))
    shared = data.draw(st.sampled_from([1, 10, 39]))
    codes = SparseVectors.from_dense(
        np.where(generator.random((asking, shared)) < 0.5, generator.random((asking, shared), np.float32), 0)
    )
    sums = data.draw(st.sampled_from([0.1, 10.0, 1e3])) * generator.standard_normal((2, asking))
    tensors = packed(generator.standard_normal((asking, columns), np.float32), sums, codes)
    weights = generator.standard_normal((dimension, columns), np.float32)
    head = Projection(weights, np.zeros(dimension, np.float32), np.zeros(columns, np.float32))
    scale = data.draw(st.sampled_from([0.5, 20.0, 1e6]))
    newcomers = Newcomers(tensors, scale, 0.05, 1.1, replace(NewcomerRecipe(), near=near))
    rows, nnz = generator.standard_normal((data.draw(st.integers(1, 6)), columns)), data.draw(st.integers(1, 12))

    def made() -> SparseVectors:
        return newcomers.encoded(rows, head, Cut(nnz), nnz)

    assert made() == in_numpy(made)


# ---- residual scores


def some_codes(dimension: int, columns: int, groups: int, seed: int, name: str = "ab") -> ResidualCodes:
    generator = np.random.default_rng(seed)
    sizes = generator.multinomial(columns - groups, np.full(groups, 1 / groups)) + 1
    made = {
        name: generator.standard_normal(shape, np.float32) / np.float32(4)
        for name, shape in shapes(dimension, columns, sizes.tolist()).items()
    }
    made["residual_gains"] = np.sort(np.abs(made["residual_gains"]))
    made["residual_codewords"][::3] = np.round(made["residual_codewords"][::3])
    mean = 0.1 * generator.standard_normal(columns)
    return ResidualCodes(made, mean.astype(np.float32), sizes.tolist(), name)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_residual_scores_are_the_bits_of_numpy(data: st.DataObject) -> None:
    dimension, columns = data.draw(st.sampled_from([1, 7, 64, 1000])), data.draw(st.integers(1, 70))
    stored = data.draw(strategies.vectors(dimension=dimension, weights=strategies.signed_weights, min_rows=1))
    seed, groups = data.draw(st.integers(0, 2**32)), data.draw(st.integers(1, columns))
    residuals, generator = some_codes(dimension, columns, groups, seed), np.random.default_rng(seed)
    codes = generator.integers(0, 256, (len(stored), residuals.width)).astype(np.uint8)
    (query,) = data.draw(some_rows(columns))[:1]
    scores = residuals.scores(query[None], stored, codes)
    assert scores.tobytes() == in_numpy(lambda: residuals.scores(query[None], stored, codes)).tobytes()
    assert scores.tobytes() == residuals.scores(query[None], stored, np.asfortranarray(codes)).tobytes()


def test_a_code_of_another_model_or_of_one_other_byte_is_found_out() -> None:
    """Also of a model whose name begins alike, of which no single byte would tell."""
    generator = np.random.default_rng(0)
    ours, rows = some_codes(40, 30, 6, 0), generator.standard_normal((50, 30), np.float32)
    codes = ours.encoded(rows, SparseVectors.from_dense(np.eye(50, 40, dtype=np.float32) / 4))
    ours.check(codes, range(50))
    for byte in range(ours.width):
        changed = codes[:1].copy()
        changed[:, byte] += generator.integers(1, 256, 1, dtype=np.uint8)
        with pytest.raises(InvalidInput, match="of document 0 was made by another model than ab, or was changed since"):
            ours.check(changed, [0])
    with pytest.raises(InvalidInput, match="another model than ab1"):
        some_codes(40, 30, 6, 0, "ab1").check(codes, range(50))


def test_codes_that_are_not_as_many_as_vectors_are_not_read_beyond_their_end() -> None:
    residuals, stored = some_codes(7, 9, 3, 0), SparseVectors([0, 1, 2], [0, 1], [1.0, 2.0], 7)
    with pytest.raises(ValueError, match="shape"):
        residuals.scores(np.ones((1, 9), np.float32), stored, np.zeros((3, residuals.width), np.uint8))


# ---- threads and processes


def test_many_threads_at_once_get_the_same_bits() -> None:
    generator = np.random.default_rng(0)
    zeros = np.zeros(3000, np.float32), np.zeros(48, np.float32)
    projection = Projection(generator.standard_normal((3000, 48), np.float32), *zeros)
    rows, residuals = generator.standard_normal((200, 48), np.float32), some_codes(3000, 48, 9, 0)
    codes = generator.integers(0, 256, (200, residuals.width)).astype(np.uint8)
    stored = encoded(rows, projection, Cut(20))

    def asked(row: int) -> tuple[SparseVectors, bytes]:
        one = rows[row : row + 1]
        return encoded(one, projection, Cut(20)), residuals.scores(one, stored, codes).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(asked, range(200))) == in_numpy(lambda: list(map(asked, range(200))))


ASKED = """if True:
    import hashlib, sys
    import numpy as np
    from sparsevec.encoder.head import LOOPS, Cut, Float64s, Projection, Purse, _sparse, encoded
    generator = np.random.default_rng(0)
    weights, rows = generator.standard_normal((500, 48), np.float32), generator.standard_normal((40, 48), np.float32)
    projection = Projection(weights, np.zeros(500, np.float32), np.zeros(48, np.float32))
    def asked():
        vectors = [encoded(row[None], projection, Cut(20)) for row in rows]
        return hashlib.sha256(b"".join(one.indices.tobytes() + one.values.tobytes() for one in vectors)).hexdigest()
    first = asked()
    LOOPS.load(wait=True)
    print(first == asked(), LOOPS.get() is not None)
"""


@pytest.mark.parametrize(
    ("circumstance", "compiled"),
    [("", True), (WITHOUT_NUMBA, False), (BROKEN_NUMBA, False), (IN_PYTHON, False), (NOWHERE_TO_CACHE, True)],
)
def test_without_numba_or_a_folder_to_cache_in_queries_have_the_same_bits(circumstance: str, compiled: bool) -> None:
    answer = subprocess.run([sys.executable, "-c", circumstance + ASKED], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == (f"True {compiled}\n", "")


def test_loops_are_compiled_after_as_many_uses_as_they_are_worth(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    loops = Loops("sparsevec.no_such_loops", worth=3)
    assert [loops.get(), loops.get()] == [None, None]
    assert loops._thread is None
    assert loops.get() is None
    loops.load(wait=True)
    assert loops.get() is None
    assert "no_such_loops goes without numba" in caplog.text


def test_where_no_thread_can_be_started_numpy_answers() -> None:
    loops = Loops("sparsevec.encoder.loops")
    with patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
        assert loops.get() is None
        loops.load(wait=True)
    assert loops.get() is None
