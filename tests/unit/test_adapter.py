"""What every adapter relies on: checks at the border, filters, urls."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.contract.checks import check_batch, check_dimension, check_ids, check_k
from sparsevec.contract.connect import connect
from sparsevec.contract.filters import conditions, matches
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterNotFound, InvalidInput, InvalidVectors
from sparsevec.vectors import SparseVectors
from tests.strategies import distinct_ids, not_ids

TWO = SparseVectors.from_rows([{0: 1.0}, {1: 1.0}], dimension=4)


@given(st.integers(0, 6).flatmap(distinct_ids))
def test_ids_come_back_as_they_were_given(ids: list[int | str]) -> None:
    assert check_ids(iter(ids)) == ids


@given(not_ids)
def test_what_is_not_an_id_is_named_with_its_position(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="id 1 "):
        check_ids(["fine", wrong])


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "1", None])
def test_k_must_be_a_positive_int(k: Any) -> None:
    with pytest.raises(InvalidInput, match="k must be an int of at least 1"):
        check_k(k)


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


PAYLOAD = {"n": 3, "f": 2.5, "s": "3", "b": True, "list": ["x", 7], "deep": {"er": [{"n": 1}, {"n": 5}]}, "none": None}


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
    ],
)
def test_a_filter_means_this(where: dict[str, Any], holds: bool) -> None:
    assert matches(PAYLOAD, conditions(where)) is holds


@pytest.mark.parametrize(
    "where",
    [{"": 1}, {1: 1}, {"a": None}, {"a": []}, {"a": {}}, {"a": {"gt": "x"}}, {"a": {"above": 1}}, {"a": [None]}],
)
def test_a_filter_that_means_nothing_is_refused(where: Any) -> None:
    with pytest.raises(InvalidInput, match=r"filter|range|condition"):
        conditions(where)


def test_a_url_is_read_into_its_parts() -> None:
    url = Url.parse("qdrant+https://db.example.org:6334/shoes%20old?vector_name=emb")
    assert url == Url("qdrant", "https", (("db.example.org", 6334),), "shoes old", {"vector_name": "emb"})
    assert Url.parse("reference:some/file.db").path == "some/file.db"
    assert Url.parse("reference:/abs/file.db").path == Url.parse("reference:///abs/file.db").path == "/abs/file.db"


def test_a_url_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(InvalidInput, match="keyword arguments") as caught:
        connect("elasticsearch://elastic:hunter2@localhost:9200/i")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost", "qdrant://h:port/x", "qdrant://h:99999/x"])
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        connect(url)


def test_an_engine_that_nobody_answers_to_is_named() -> None:
    with pytest.raises(AdapterNotFound, match=r"'nobody'; there are \[.*'reference'"):
        connect("nobody://localhost/x")
    with pytest.raises(InvalidInput, match=r"expected a url such as .* found <object"):
        connect(object())


def test_an_option_that_nobody_would_read_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"options.*'vektor'"):
        Url.parse("qdrant://h/c?vektor=x").expect_options("vector_name")
