"""Filtered answers on Elasticsearch and OpenSearch: what a filter leaves is counted in the request that searches."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.contract.adapter import Hits
from sparsevec.contract.connect import aconnect
from sparsevec.contract.filters import EngineFilter, Where
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.answering import dense, unlearned
from tests.integration.lucene import Place

N, CANDIDATES = 60, 4  # of which a second look and codes answer from 8 whole, dense rows from 12
ROWS, QUERIES = dense(N, seed=31), dense(40, seed=32)
PAYLOADS = [
    {"even": row % 2 == 0, "tenth": row % 10 == 0, "parent": f"p{row // 3}", "row": ROWS[row].tolist()}
    for row in range(N)
]
MANY, FEW = {"even": True}, {"tenth": True}


def url(place: Place) -> str:
    return f"{place.engine_url}/{place.index}?field=emb&shards=2&replicas=0"


def retriever_on(adapter: Any, rerank: Any, kind: Any = Retriever) -> Any:
    field = "row" if rerank == "dense" else None
    return kind(unlearned(), adapter, rerank=rerank, candidates=CANDIDATES, dense_field=field)


def filled(place: Place) -> Any:
    """With residual codes."""
    adapter = place.connect("field=emb&shards=2&replicas=0")
    assert retriever_on(adapter, "residual").add(range(N), ROWS, PAYLOADS).written == N
    return adapter


def noted(adapter: Any) -> list[str]:
    """Every request that the adapter sends from now on."""
    sent: list[str] = []
    send = adapter._wire.send

    def noting(request: Any) -> Any:  # for asyncio what it gives is awaited
        sent.append(str(request))
        return send(request)

    adapter._wire.send = noting
    return sent


@pytest.mark.parametrize("rerank", ["second look", "residual"])
def test_a_filtered_query_is_one_request_and_two_where_what_filters_on_its_fields_leave_changes(
    place: Place, rerank: str
) -> None:
    with filled(place) as adapter:
        retriever = retriever_on(adapter, rerank)
        retriever.search(QUERIES[0], 3, where=MANY)  # what is known of the index is read once
        sent, many_again = noted(adapter), {"tenth": False}
        filters: list[Where] = [MANY, FEW, FEW, {"tenth": "nobody"}, many_again, many_again, FEW]
        for where, requests in zip(filters, (1, 2, 1, 1, 2, 1, 2), strict=True):
            retriever.search(QUERIES[1], 3, where=where)
            assert sent == [f"POST /{place.index}/_msearch"] * requests
            sent.clear()


@pytest.mark.parametrize("rerank", ["second look", "residual", "dense"])
def test_answers_are_those_of_a_count_beforehand(place: Place, rerank: str) -> None:
    own = EngineFilter(place.engine_url.partition(":")[0], {"term": {"even": True}})
    filters: list[Where] = [MANY, FEW, {"even": 1}, {"parent": {"not": "p1"}}, own]
    with filled(place) as adapter:
        at_once, before = (retriever_on(adapter, rerank) for _ in range(2))
        before._ranking._counts = False
        for where in filters:
            for group_by in (None, "parent"):
                asked: dict[str, Any] = {"where": where, "group_by": group_by, "with_payloads": True}
                answers = at_once.search(QUERIES, CANDIDATES, **asked)
                assert answers == before.search(QUERIES, CANDIDATES, **asked)
                assert answers == [at_once.search(query, CANDIDATES, **asked)[0] for query in QUERIES]


@pytest.mark.parametrize("rerank", ["residual", "dense"])
def test_asyncio_asks_as_often_and_verify_sees_what_was_asked(place: Place, rerank: str) -> None:
    filters: list[Where] = [MANY, FEW]

    async def search() -> tuple[list[list[Hits]], list[int], list[int]]:
        answers, asked, from_all = [], [], []
        async with await aconnect(url(place)) as adapter:
            retriever = retriever_on(adapter, rerank, AsyncRetriever)
            await retriever.search(QUERIES[0], 3, where=MANY)
            sent = noted(adapter)
            for where in filters:
                sent.clear()
                answers.append(await retriever.search(QUERIES[1], 3, where=where))
                asked.append(len(sent))
                report = await retriever.verify(ROWS, QUERIES[:3], 3, where=where, payloads=PAYLOADS)
                from_all.append(report.require_exact().from_all)
        return answers, asked, from_all

    with filled(place) as adapter:
        retriever = retriever_on(adapter, rerank)
        answers, asked, from_all = asyncio.run(search())
        assert answers == [retriever.search(QUERIES[1], 3, where=where) for where in filters]
        assert (asked, from_all) == ([1 if rerank == "residual" else 2, 2], [0, 3])


@pytest.mark.parametrize("candidates", [4, 10])  # of which 8 or all 20 documents are read whole
def test_an_alias_of_indices_that_disagree_is_counted_whole_and_judged(place: Place, candidates: int) -> None:
    """One of them cannot narrow by the field: the documents of both are counted, and judged by what they hold."""
    kinds = {"a": {"type": "keyword"}, "b": {"type": "keyword", "index": False, "doc_values": False}}
    ids, payloads = [f"{name}{n}" for name in kinds for n in range(10)], [{"kind": "xy"[n % 2]} for n in range(20)]
    for start, (name, kind) in zip((0, 10), kinds.items(), strict=True):
        index, own = replace(place, index=f"{place.index}-{name}"), slice(start, start + 10)
        index.make({"kind": kind})
        index.http("PUT", f"_alias/{place.index}-all")
        index.put(dict(zip(ids[own], payloads[own], strict=True)))
        with index.connect("field=emb") as adapter:
            adapter.create(unlearned().output_dim, fingerprint=unlearned().fingerprint)
            assert Retriever(unlearned(), adapter).add(ids[own], ROWS[own]).written == 10
    with replace(place, index=f"{place.index}-all").connect("field=emb") as adapter:
        retriever = Retriever(unlearned(), adapter, candidates=candidates)
        where: Where = {"kind": "x"}
        verify(retriever, ROWS[:20], QUERIES[:5], 4, ids=ids, where=where, payloads=payloads).require_exact()
        sent = noted(adapter)
        (hits,) = retriever.search(QUERIES[0], 4, where=where)
        assert sum(one.endswith("_msearch") for one in sent) == 1
        assert {str(id_)[0] for id_ in hits.ids} == {"a", "b"}
