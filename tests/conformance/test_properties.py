"""Whatever is written, and however it is asked for, a backend answers as the reference does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id, Payload
from sparsevec.contract.connect import connect
from sparsevec.contract.filters import conditions, matches
from sparsevec.exact.reference import Reference
from sparsevec.exact.verify import verify
from sparsevec.vectors import SparseVectors
from tests.strategies import distinct_ids, signed_weights, vectors

pytestmark = pytest.mark.qdrant

DIMENSION = 2**32

_scalars = st.sampled_from([True, False, 0, 1, 7, -3, 0.0, 1.0, 2.5, "1", "acme", "Acme", "", "é", 2**53 - 1])
_values = st.recursive(
    st.one_of(st.none(), _scalars),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def has_list_in_list_in_list(value: Any, depth: int = 0) -> bool:
    """Deeper than a Qdrant filter is asked to look; `qdrant_core/filters.py` says so."""
    if isinstance(value, list):
        return depth > 1 or any(has_list_in_list_in_list(inner, depth + 1) for inner in value)
    return isinstance(value, dict) and any(has_list_in_list_in_list(inner) for inner in value.values())


def has_list_in_list_of_objects(value: Any) -> bool:
    """A list directly in a list, with an object in it: one step of a path passes one list."""
    if isinstance(value, list):
        nested = any(isinstance(inner, list) and any(isinstance(x, dict) for x in inner) for inner in value)
        return nested or any(has_list_in_list_of_objects(inner) for inner in value)
    return isinstance(value, dict) and any(has_list_in_list_of_objects(inner) for inner in value.values())


_payloads = st.dictionaries(st.sampled_from(["a", "b", "c d"]), _values, max_size=3).filter(
    lambda payload: not has_list_in_list_in_list(payload) and not has_list_in_list_of_objects(payload)
)
_numbers = st.sampled_from([-3, 0, 1, 1.5, 2.5, 7])
_ranges = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), _numbers, min_size=1)
_conditions = st.one_of(_scalars, st.lists(_scalars, min_size=1, max_size=4), _ranges)
_filters = st.dictionaries(
    st.sampled_from(["a", "b", "c d", "a.b", "a.a", "b.a.b"]), _conditions, min_size=1, max_size=2
)


@pytest.fixture(params=["qdrant+edge:{tmp_path}/edge", "qdrant+memory:"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    """Of one collection for all examples; each leaves it empty."""
    with closing(connect(request.param.format(tmp_path=tmp_path))) as adapter:
        adapter.create(DIMENSION)
        yield adapter


@contextmanager
def removed_afterwards(adapter: Adapter, ids: set[Id]) -> Iterator[None]:
    try:
        yield
    finally:
        adapter.delete(list(ids))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(_payloads, min_size=1, max_size=6), filters=st.lists(_filters, min_size=1, max_size=6))
def test_any_filter_means_what_the_contract_says(
    adapter: Adapter, payloads: list[Payload], filters: list[dict[str, Any]]
) -> None:
    vector = SparseVectors.from_rows([{1: 1.0}], dimension=DIMENSION)
    ids = range(len(payloads))
    with removed_afterwards(adapter, set(ids)):
        adapter.upsert(ids, SparseVectors.concat([vector] * len(payloads)), payloads)
        assert adapter.fetch(ids).payloads == tuple(payloads)
        for where in filters:
            (hits,) = adapter.search(vector, 10, where=where)
            due = {i for i, payload in enumerate(payloads) if matches(payload, conditions(where))}
            assert (where, set(hits.ids)) == (where, due)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_writes_and_deletes_leave_what_the_reference_holds(adapter: Adapter, data: st.DataObject) -> None:
    judge = Reference()
    judge.create(DIMENSION)
    seen: set[Id] = set()
    with removed_afterwards(adapter, seen):
        for _ in range(data.draw(st.integers(1, 4))):
            batch = data.draw(vectors(dimension=DIMENSION, weights=signed_weights))
            ids = data.draw(distinct_ids(len(batch)))
            seen |= set(ids)
            fields = data.draw(st.lists(_payloads, min_size=len(batch), max_size=len(batch)))
            assert adapter.upsert(ids, batch, fields).written == judge.upsert(ids, batch, fields).written
            gone = data.draw(st.lists(st.sampled_from([*ids, "nobody"]), unique=True))
            adapter.delete(gone)
            judge.delete(gone)
        due, found = judge.fetch(list(seen)), adapter.fetch(list(seen))
        assert (found.ids, found.vectors, found.payloads) == (due.ids, due.vectors, due.payloads)
        assert adapter.count() == judge.count()
        queries = data.draw(vectors(dimension=DIMENSION, weights=signed_weights, min_rows=1))
        verify(adapter, due.vectors, queries, 3, ids=due.ids).require_exact()
