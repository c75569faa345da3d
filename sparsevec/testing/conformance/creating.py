"""C1, C13: a collection is made once, and forgotten without a trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.errors import CollectionError, InvalidVectors
from sparsevec.testing.conformance.documents import (
    DIMENSION,
    ask,
    fill,
    rows,
)
from sparsevec.testing.conformance.suite import Suite

__all__ = ["Creating"]


class Creating(Suite):
    def test_c1_create_makes_an_empty_collection(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        assert adapter.count() == 0
        assert adapter.info().dimension == DIMENSION
        assert ask(adapter, {1: 1.0}).ids == ()

    def test_c1_a_second_create_is_an_error_and_changes_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        with pytest.raises(CollectionError):
            adapter.create(DIMENSION)
        assert ask(adapter, {1: 1.0}).ids == (1,)

    def test_c1_of_several_creates_at_once_one_makes_the_collection(self, adapter: Adapter) -> None:
        adapters = [adapter, *(self.another(adapter) for _ in range(3))]
        start = Barrier(len(adapters))

        def create(number: int) -> int | None:
            start.wait()
            try:
                adapters[number].create(DIMENSION + number)
            except CollectionError:
                return None
            return DIMENSION + number

        with ThreadPoolExecutor(len(adapters)) as pool:
            made = [dimension for dimension in pool.map(create, range(len(adapters))) if dimension is not None]
        assert len(made) == 1
        assert adapter.info().dimension == made[0]

    def test_c1_a_dimension_of_numpys_is_one(self, adapter: Adapter) -> None:
        dimension: Any = np.int64(DIMENSION)
        adapter.create(dimension)
        adapter.upsert([1], rows({1: 1.0}))
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert adapter.info().dimension == DIMENSION

    def test_c1_a_dimension_that_no_vector_has_is_refused(self, adapter: Adapter) -> None:
        with pytest.raises(InvalidVectors):
            adapter.create(0)
        assert adapter.info().dimension is None

    def test_c1_without_a_collection_every_call_says_so(self, adapter: Adapter) -> None:
        assert adapter.info().dimension is None
        with pytest.raises(CollectionError):
            adapter.upsert([1], rows({1: 1.0}))
        with pytest.raises(CollectionError):
            adapter.search(rows({1: 1.0}), 1)
        with pytest.raises(CollectionError):
            adapter.fetch([1])
        with pytest.raises(CollectionError):
            adapter.delete([1])
        with pytest.raises(CollectionError):
            adapter.count()

    # ---- C13: drop

    def test_c13_drop_forgets_everything_and_may_be_called_twice(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        adapter.drop()
        adapter.drop()
        assert adapter.info().dimension is None
        with pytest.raises(CollectionError):
            adapter.count()

    def test_c13_after_a_drop_another_collection_can_be_made(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        adapter.drop()
        adapter.create(DIMENSION + 1)
        assert (adapter.info().dimension, adapter.count()) == (DIMENSION + 1, 0)
        assert adapter.fetch([1]).ids == ()

    def test_c13_dropping_what_was_never_made_is_no_error(self, adapter: Adapter) -> None:
        adapter.drop()
        assert adapter.info().dimension is None
