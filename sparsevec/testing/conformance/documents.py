"""The documents, payloads and filters that the suite tries, and how it fills and asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.checks import Id, Payload
from sparsevec.contract.filters import Where, conditions, matches
from sparsevec.exact.verify import verify
from sparsevec.vectors import SparseVectors

DIMENSION = 1000

PAYLOADS: tuple[Payload, ...] = (
    {"n": 1},
    {"n": "1"},
    {"n": True},
    {"n": 1.0},
    {"n": 2.5, "brand": "acme"},
    {"n": -3, "brand": "Acme"},
    {"n": [1, 7], "brand": ["acme", "zeta"]},
    {"n": [], "brand": None},
    {"brand": "acme inc", "on": False},
    {"maker": {"name": "acme", "size": {"staff": 12}}, "on": True},
    {"maker": [{"name": "zeta"}, {"name": "acme"}], "on": [False, True]},
    {"maker": "acme", "n": [[1]]},
    {"Größe in m": 7, "brand": ""},
    {"n": 2**53 - 1},
    {"n": 2**62 + 1},
    {"n": 0},
    {"n": -0.0},
    {},
)

MALFORMED_WRITES: tuple[tuple[Any, Any], ...] = (  # of two documents: ids and payloads
    ([1], None),
    ([1, 2, 3], None),
    ([1, 1], None),
    (["a", "a"], None),
    ([1, -1], None),
    ([1, 2**64], None),
    ([1, ""], None),
    ([1, True], None),
    ([1, 2.0], None),
    ([1, b"x"], None),
    ([1, "\ud800"], None),
    ([1, 2], [{}]),
    ([1, 2], [{}, {"a.b": 1}]),
    ([1, 2], [{}, {"n": float("nan")}]),
    ([1, 2], [{}, {"n": 2**63}]),
    ([1, 2], [{}, {"n": object()}]),
    ([1, 2], [{}, {"_sparsevec_id": "x"}]),
)

TYPED_FILTERS: tuple[Where, ...] = (
    {"n": 1},
    {"n": "1"},
    {"n": True},
    {"n": 1.0},
    {"n": 2.5},
    {"n": -3},
    {"n": 2**53 - 1},
    {"n": ["1", 2.5, True]},
    {"on": True},
    {"on": False},
)

STRING_FILTERS: tuple[Where, ...] = (
    {"brand": "acme"},
    {"brand": "Acme"},
    {"brand": ""},
    {"brand": "nobody"},
    {"brand": ["acme", "zeta", "nobody"]},
    {"nowhere": 1},
    {"Größe in m": 7},
)

RANGE_FILTERS: tuple[Where, ...] = (
    {"n": {"gte": 1}},
    {"n": {"gt": 1}},
    {"n": {"lte": 1}},
    {"n": {"lt": 2.5}},
    {"n": {"gte": 1, "lt": 7}},
    {"n": {"gt": 0}, "brand": "acme"},
    {"n": 0},
    {"n": {"gte": 0, "lt": 1}},
    {"n": {"gt": -1, "lte": 0}},
    {"n": {"gt": 0, "lt": 1}},
    {"n": {"gt": -1, "lt": 0}},
)

NESTED_FILTERS: tuple[Where, ...] = (
    {"n": 7},
    {"maker.name": "acme"},
    {"maker.name": "zeta"},
    {"maker.size.staff": {"gte": 12}},
    {"maker": "acme"},
)

NEW_PAYLOADS: tuple[Payload, ...] = (  # for conditions beyond equality and ranges of numbers
    {"n": 1, "made": "2024-05-01"},
    {"n": 2, "made": "2024-05-01T12:00:00"},
    {"n": 3, "made": "2024-05-01T14:00:00+02:00", "brand": "acme"},
    {"n": None, "made": "2023-12-31T23:59:59.999Z", "brand": "zeta"},
    {"n": [2, 9], "made": ["2022-01-01", "2025-06-01"], "brand": ["acme", "zeta"]},
    {"n": 0, "brand": None},
    {"n": [], "brand": ""},
    {"n": [None], "maker": {"name": "acme"}},
    {"maker": {"name": None}},
    {"maker": {}},
    {},
)

NOT_FILTERS: tuple[Where, ...] = (
    {"n": {"not": 2}},
    {"n": {"not": [1, 2]}},
    {"brand": {"not": "acme"}},
    {"brand": {"not": ["acme", ""]}},
    {"n": {"gte": 1, "not": 3}},
    {"nowhere": {"not": 1}},
    {"maker.name": {"not": "acme"}},
)

EXISTS_FILTERS: tuple[Where, ...] = (
    {"n": {"exists": True}},
    {"n": {"exists": False}},
    {"brand": {"exists": True}},
    {"brand": {"exists": False}},
    {"maker": {"exists": True}},
    {"maker.name": {"exists": True}},
    {"nowhere": {"exists": True}},
    {"nowhere": {"exists": False}},
)

DATE_FILTERS: tuple[Where, ...] = (
    {"made": {"gte": "2024-05-01"}},
    {"made": {"gt": "2024-05-01", "lte": "2024-05-01T12:00:00Z"}},
    {"made": {"lt": datetime(2024, 1, 1, tzinfo=UTC)}},
    {"made": {"gte": date(2024, 1, 1), "lt": date(2025, 1, 1)}},
    {"made": {"gte": "2023-01-01", "lt": "2024-01-01"}},
    {"made": {"gte": "2030-01-01"}},
)

COMPOSED_FILTERS: tuple[Where, ...] = (
    {"$any": [{"brand": "acme"}, {"n": {"lt": 1}}]},
    {"$all": [{"brand": "acme"}, {"n": {"gte": 3}}]},
    {"$not": {"brand": "acme"}},
    {"$not": {"brand": "acme", "n": 3}},
    {"brand": "acme", "$any": [{"n": 3}, {"$not": {"n": {"exists": True}}}]},
    {"$any": [{"$all": [{"n": 1}, {"made": {"gte": "2024-01-01"}}]}, {"$not": {"made": {"exists": True}}}]},
    {"$not": {"$any": [{"n": {"exists": True}}, {"brand": {"exists": True}}]}},
)


def rows(*documents: Mapping[int, float]) -> SparseVectors:
    return SparseVectors.from_rows(documents, dimension=DIMENSION)


def corpus(n: int, seed: int = 0, nnz: int = 12) -> SparseVectors:
    """n documents over few enough dimensions that they meet, with weights of many sizes."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(60, size=rng.integers(1, nnz + 1), replace=False) for _ in range(n)]
    return rows(*(dict(zip(map(int, c), map(float, rng.lognormal(0, 2, len(c))), strict=True)) for c in chosen))


def fill(
    adapter: Adapter, ids: Sequence[Id], documents: SparseVectors, payloads: Sequence[Payload] | None = None
) -> None:
    """A new collection with these documents in it, all of them written."""
    adapter.create(documents.dimension)
    report = adapter.upsert(ids, documents, payloads)
    assert (report.written, dict(report.skipped), dict(report.failed)) == (tuple(ids), {}, {})


def ask(adapter: Adapter, query: Mapping[int, float], k: int = 10, **options: Any) -> Hits:
    (hits,) = adapter.search(rows(query), k, **options)
    return hits


def assert_filters_mean_the_same(
    adapter: Adapter, filters: Sequence[Where], payloads: Sequence[Payload] = PAYLOADS
) -> None:
    """Each filter finds the `payloads` that `matches` says, in every call that takes one, and ranks them exactly."""
    documents = rows(*({1: float(i + 1)} for i in range(len(payloads))))
    fill(adapter, range(len(payloads)), documents, payloads)
    expected = [{i for i, p in enumerate(payloads) if matches(p, conditions(where))} for where in filters]
    found = [set(ask(adapter, {1: 1.0}, k=100, where=where).ids) for where in filters]
    assert list(zip(filters, found, strict=True)) == list(zip(filters, expected, strict=True))
    whole = [adapter.matching(where, 1000) for where in filters]
    listed = [None if some is None else set(some.ids) for some in whole]
    assert list(zip(filters, listed, strict=True)) == list(zip(filters, expected, strict=True))
    counts = [adapter.count(where) for where in filters]
    assert list(zip(filters, counts, strict=True)) == list(zip(filters, map(len, expected), strict=True))
    some = filters[::4]  # a scan is several requests
    scanned = [{id_ for page in adapter.scan(where=where) for id_ in page.ids} for where in some]
    assert list(zip(some, scanned, strict=True)) == list(zip(some, expected[::4], strict=True))
    for where in filters:
        verify(adapter, documents, rows({1: 1.0}), 3, where=where, payloads=payloads).require_exact()
