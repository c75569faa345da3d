"""What every adapter relies on: checks at the border, filters, urls."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.contract.adapter import Hit, Hits
from sparsevec.contract.checks import check_batch, check_dimension, check_ids, check_k, check_queries, check_size
from sparsevec.contract.connect import connect
from sparsevec.contract.filters import EngineFilter, conditions, matches
from sparsevec.contract.payloads import payload_fault
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterNotFound, InvalidInput, InvalidVectors
from sparsevec.ingestion.ingest import ingest
from sparsevec.vectors import SparseVector, SparseVectors
from tests.strategies import distinct_ids, not_ids

TWO = SparseVectors.from_rows([{0: 1.0}, {1: 1.0}], dimension=4)


@given(st.integers(0, 6).flatmap(distinct_ids))
def test_ids_come_back_as_they_were_given(ids: list[int | str]) -> None:
    assert check_ids(iter(ids)) == ids


def test_an_id_of_an_enumeration_or_of_numpy_is_what_it_stands_for() -> None:
    class Of(str, Enum):  # noqa: UP042 -- its str() is "Of.A"
        A = "a"

    ids: list[Any] = [Of.A, np.str_("b"), np.uint64(3)]
    found = check_ids(ids)
    assert [(type(id_), id_) for id_ in found] == [(str, "a"), (str, "b"), (int, 3)]
    adapter = connect("reference:")
    adapter.create(4)
    ingest(adapter, [Of.A, np.str_("b")], TWO)
    assert list(adapter.fetch(["a", "b"]).ids) == ["a", "b"]


@given(not_ids)
def test_what_is_not_an_id_is_named_with_its_position(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="id 1 "):
        check_ids(["fine", wrong])


def test_a_number_of_more_digits_than_python_writes_is_refused_as_any_other() -> None:
    with pytest.raises(InvalidInput, match=r"id 1 must be an int in .*found int too long to be written"):
        check_ids([1, 10**5000])
    with pytest.raises(InvalidInput, match=r"k must be below 2\*\*63, found int too long"):
        check_k(10**5000)
    for where in ({"a": 10**5000}, {"a": {"gte": 10**5000}}, {"a": {"exists": 10**5000}}):
        with pytest.raises(InvalidInput):
            conditions(where)
    assert payload_fault({"a": 10**5000}) == "a: int too long to be written does not fit in 64 bits"


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "1", None])
def test_k_must_be_a_positive_int(k: Any) -> None:
    with pytest.raises(InvalidInput, match="k must be an int of at least 1"):
        check_k(k)


@pytest.mark.parametrize("size", [0, -1, 1.0, True, "1", None])
def test_a_page_holds_a_positive_int_of_documents(size: Any) -> None:
    with pytest.raises(InvalidInput, match="size must be an int of at least 1"):
        check_size(size)


@pytest.mark.parametrize("ids", [7, "abc", b"abc", None])
def test_one_id_is_no_sequence_of_ids(ids: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected a sequence of ids.*a single one goes into a list"):
        check_ids(ids)


@pytest.mark.parametrize("vectors", [TWO.to_scipy(), TWO.to_dense(), [[1.0, 0]], None])
def test_a_write_takes_sparse_vectors_and_says_how_others_become_some(vectors: Any) -> None:
    with pytest.raises(InvalidVectors, match=r"expected vectors as SparseVectors, found .*from_scipy"):
        check_batch([1, 2], vectors, None, 4)


@pytest.mark.parametrize("queries", [TWO.to_dense(), [{0: 1.0}], "two", None])
def test_what_is_no_query_is_refused_with_what_makes_one(queries: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected queries as SparseVectors.*encode_query"):
        check_queries(queries, 4)


def test_one_row_and_scipys_matrices_are_queries() -> None:
    assert check_queries(TWO[1], 4) == TWO[1:]
    assert check_queries(TWO.to_scipy(), 4) == TWO
    assert check_queries(TWO[0], None) == TWO[:1]
    assert check_queries(SparseVector(TWO[0].indices, TWO[0].values), None).dimension == 1


def test_hits_are_a_sequence() -> None:
    hits = Hits((7, "b"), np.array([2, 1], np.float32), ({"n": 1}, {}))
    assert list(hits) == [Hit(7, 2.0, {"n": 1}), Hit("b", 1.0, {})]
    assert [hits[0], hits[-1]] == list(hits)
    assert hits[1:] == Hits(("b",), np.array([1], np.float32), ({},))
    assert hits != Hits((7, "b"), np.array([2, 1.5], np.float32), ({"n": 1}, {}))
    assert hits != [Hit(7, 2.0, {"n": 1})]
    assert [hit.payload for hit in Hits((7,), np.ones(1, np.float32))] == [None]


HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize(
    ("ids", "payloads", "message"),
    [
        ([1], None, "1 ids and 2 vectors"),
        ([1, 2], [{}], "1 payloads and 2 ids"),
        ([1, 1], None, "id 1 stands twice"),
        ([1, "2"], [{}, {"a": float("nan")}], "payload of id '2': a: nan is not a JSON number"),
        ([1, 2], [{}, {"a": {"b": [2**63]}}], r"a.b\[\]: 9223372036854775808 does not fit"),
        ([1, 2], [{"a": object()}, {}], "found object"),
        ([1, 2], [[], {}], "expected JSON"),
        ([1, 2], [None, {}], "expected JSON"),
        ([1, 2], ["text", {}], "expected JSON"),
        ([1, 2], [MappingProxyType({}), {}], "expected JSON .a dict of fields to values., found mappingproxy"),
        ([1, 2], [{"a": "\ud800"}, {}], "a: '.ud800' is not valid unicode"),
        ([1, 2], [{"\ud800": 1}, {}], "a field must be valid unicode"),
        ([1, 2], [{"a": HOLDS_ITSELF}, {}], "nested more than 100 deep"),
        ([1, 2], [{"a.b": 1}, {}], "a field must be"),
        ([1, 2], [{"": 1}, {}], "a field must be"),
        ([1, 2], [{1: 1}, {}], "a field must be"),
        ([1, 2], [{"_sparsevec_id": 1}, {}], "does not begin with _sparsevec"),
    ],
)
def test_a_batch_that_does_not_fit_together_is_refused(ids: Any, payloads: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_batch(ids, TWO, payloads, 4)


def test_a_dimension_that_is_not_the_collections_is_refused() -> None:
    with pytest.raises(InvalidVectors, match="the collection has dimension 5, the vectors have 4"):
        check_dimension(TWO, 5)


PAYLOAD: dict[str, Any] = {
    "n": 3,
    "f": 2.5,
    "s": "3",
    "b": True,
    "list": ["x", 7],
    "deep": {"er": [{"n": 1}, {"n": 5}]},
    "none": None,
    "made": "2024-05-02T14:00:00+02:00",
}


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({}, True),
        ({"n": 3}, True),
        ({"n": 3.0}, True),
        ({"n": "3"}, False),
        ({"s": "3"}, True),
        ({"s": 3}, False),
        ({"b": True}, True),
        ({"b": 1}, False),
        ({"n": True}, False),
        ({"n": [1, 2, 3]}, True),
        ({"n": [1, 2]}, False),
        ({"f": {"gt": 2, "lt": 3}}, True),
        ({"f": {"gt": 2.5}}, False),
        ({"f": {"gte": 2.5, "lte": 2.5}}, True),
        ({"s": {"gte": 0}}, False),
        ({"b": {"gte": 0}}, False),
        ({"list": "x"}, True),
        ({"list": {"gt": 6}}, True),
        ({"deep.er.n": 5}, True),
        ({"deep.er.n": {"gt": 1, "lt": 5}}, False),
        ({"missing": 1}, False),
        ({"none": {"gte": 0}}, False),
        ({"deep": 5}, False),
        ({"n": 3, "s": "4"}, False),
        ({"n": {"not": 4}}, True),
        ({"n": {"not": [2, 3]}}, False),
        ({"missing": {"not": 3}}, True),
        ({"list": {"not": "x"}}, False),
        ({"n": {"exists": True}}, True),
        ({"none": {"exists": True}}, False),
        ({"deep": {"exists": True}}, True),
        ({"missing": {"exists": False}}, True),
        ({"n": {"gte": 3, "not": 3}}, False),
        ({"made": {"gte": "2024-05-01", "lt": date(2024, 5, 3)}}, True),
        ({"made": {"gt": datetime(2024, 5, 2, 12, tzinfo=UTC)}}, False),
        ({"s": {"gte": "2024-05-01"}}, False),
        ({"$any": [{"n": 4}, {"s": "3"}]}, True),
        ({"$any": [{"n": 4}, {"s": "4"}]}, False),
        ({"$all": [{"n": 3}, {"$not": {"s": "4"}}]}, True),
        ({"$not": {"n": 3, "s": "4"}}, True),
        ({"$not": {"$any": [{"n": 3}, {"n": 4}]}}, False),
        ({"n": 3, "$not": {"n": {"lt": 3}}}, True),
    ],
)
def test_a_filter_means_this(where: dict[str, Any], holds: bool) -> None:
    assert matches(PAYLOAD, conditions(where)) is holds


@pytest.mark.parametrize(
    "where",
    [
        *({"": 1}, {1: 1}, {"a": None}, {"a": []}, {"a": {}}, {"a": {"gt": "x"}}, {"a": {"above": 1}}, {"a": [None]}),
        *({"$any": []}, {"$any": {"a": 1}}, {"$not": [{"a": 1}]}, {"$or": [{"a": 1}]}, {"a": {"exists": 1}}),
        *({"a": {"not": None}}, {"a": {"gt": 1, "lt": "2024-01-01"}}, [("a", 1)], EngineFilter("qdrant", {})),
    ],
)
def test_a_filter_that_means_nothing_is_refused(where: Any) -> None:
    with pytest.raises(InvalidInput, match=r"filter|range|condition|exists"):
        conditions(where)


def test_a_url_is_read_into_its_parts() -> None:
    url = Url.parse("qdrant+https://db.example.org:6334/shoes%20old?vector_name=emb")
    assert url == Url("qdrant", "https", (("db.example.org", 6334),), "shoes old", {"vector_name": "emb"})
    assert Url.parse("reference:some/file.db").path == "some/file.db"
    assert Url.parse("reference:/abs/file.db").path == Url.parse("reference:///abs/file.db").path == "/abs/file.db"


def test_a_url_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(InvalidInput, match="give them apart from it, as api_key=") as caught:
        connect("elasticsearch://elastic:hunter2@localhost:9200/i")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost", "qdrant://h:port/x", "qdrant://h:99999/x"])
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        connect(url)


def test_an_engine_that_nobody_answers_to_is_named() -> None:
    with pytest.raises(AdapterNotFound, match=r"'nobody'; there are \[.*'reference'"):
        connect("nobody://localhost/x")


@pytest.mark.parametrize("where", [None, object(), 7, b"reference:"])
def test_what_is_neither_a_url_nor_a_client_is_refused(where: Any) -> None:
    with pytest.raises(InvalidInput, match="expected a url such as"):
        connect(where)


@pytest.mark.parametrize(
    ("url", "meant"), [("qdrnt://h/c", "qdrant"), ("https://h/i", "elasticsearch+https"), ("es://h/i", "elasticsearch")]
)
def test_an_engine_that_was_nearly_named_is_proposed(url: str, meant: str) -> None:
    with pytest.raises(AdapterNotFound, match=re.escape(f"did you mean {meant}://?")):
        connect(url)


def test_an_option_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"options.*'vektor'"):
        Url.parse("qdrant://h/c?vektor=x").expect_options("vector_name")
