"""Filtered answers on Elasticsearch and OpenSearch: what a filter leaves is counted in the request that searches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.contract.adapter import Hits
from sparsevec.contract.connect import aconnect
from sparsevec.contract.filters import EngineFilter, Where
from sparsevec.contract.searches import Search
from sparsevec.errors import CollectionError, WrongSpace
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.answering import dense, unlearned
from sparsevec.vectors import SparseVectors
from tests.integration.lucene import Place

N, CANDIDATES = 60, 4  # of which a second look and codes answer from 8 whole, dense rows from 12
ROWS, QUERIES = dense(N, seed=31), dense(40, seed=32)
PAYLOADS = [
    {
        "even": row % 2 == 0,
        "tenth": row % 10 == 0,
        "parent": f"p{row // 3}",
        "n": row,
        "day": f"2024-01-{1 + row // 3:02}",
        "row": ROWS[row].tolist(),
    }
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
                assert answers[:8] == [at_once.search(query, CANDIDATES, **asked)[0] for query in QUERIES[:8]]


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


@pytest.mark.parametrize("rerank", ["second look", "residual"])
@pytest.mark.parametrize(
    "where", [{"n": {"not": list(range(3, N))}}, {"$not": {"n": {"gte": 3}}}, {"day": {"lt": "2024-01-02"}}]
)
def test_few_documents_of_many_that_the_server_lets_through_are_answered_from_all(
    place: Place, rerank: str, where: Where
) -> None:
    with filled(place) as adapter:
        retriever = retriever_on(adapter, rerank)
        report = retriever.verify(ROWS, QUERIES[:5], 3, where=where, payloads=PAYLOADS)
        report.require_exact()
        assert (report.from_all, report.answers) == (5, 15)


def test_where_a_query_finds_fewer_than_it_asks_for_one_more_request_tells_that_many_are_left(place: Place) -> None:
    with filled(place) as adapter:
        alone = SparseVectors.from_rows([{0: 1.0}], dimension=unlearned().output_dim)
        given: dict[str, Any] = {"k": N, "search": Search(where=MANY), "most": 8}
        (hits,) = adapter.matching_or_search(alone, **given)
        sent = noted(adapter)
        assert adapter.matching_or_search(alone, **given) == [hits]
        assert sent == [f"POST /{place.index}/_msearch"] * 2
        assert 0 < len(hits) < N // 2


# ---- what was known of the index is old


def part(place: Place, name: str) -> Place:
    return replace(place, index=f"{place.index}-{name}")


def stand_for(place: Place, name: str) -> None:
    """The alias `now` for that index instead of any other."""
    actions = [{"remove": {"index": f"{place.index}-*", "alias": f"{place.index}-now"}}] if name != "a" else []
    actions += [{"add": {"index": f"{place.index}-{name}", "alias": f"{place.index}-now"}}]
    place.root("POST", "_aliases", {"actions": actions})


def of_another_space(place: Place) -> None:
    with place.connect() as adapter:
        adapter.create(unlearned().output_dim, fingerprint="other")
        vectors = unlearned().encode_document(ROWS).with_fingerprint("other")
        adapter.upsert(range(N), vectors, PAYLOADS)
        assert adapter.count() == N


def without_our_field(place: Place) -> None:
    place.make({"tenth": {"type": "boolean"}})


@pytest.mark.parametrize("where", [None, MANY, FEW, {"tenth": "nobody"}])
@pytest.mark.parametrize(("make", "error"), [(of_another_space, WrongSpace), (without_our_field, CollectionError)])
def test_an_alias_that_was_moved_is_noticed_behind_every_filter(
    place: Place, make: Callable[[Place], None], error: type[Exception], where: Where | None
) -> None:
    filled(part(place, "a")).close()
    make(part(place, "b"))
    stand_for(place, "a")
    with part(place, "now").connect("field=emb") as adapter:
        retriever = retriever_on(adapter, "second look")
        retriever.search(QUERIES[0], 3, where=where)
        stand_for(place, "b")
        with pytest.raises(error):
            retriever.search(QUERIES[0], 3, where=where)


@pytest.mark.parametrize("ask", ["search", "matching", "by_text"])
def test_an_alias_that_was_moved_to_an_index_of_another_mapping_leaves_what_that_holds(place: Place, ask: str) -> None:
    kinds = {
        "a": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "b": {"type": "keyword", "index": False, "doc_values": False},
    }
    ids = [str(n) for n in range(10)]
    for name, kind in kinds.items():
        part(place, name).make({"kind": kind, "words": {"type": "text"}})
        part(place, name).put({id_: {"kind": "xy"[n % 2], "words": "red"} for n, id_ in enumerate(ids)})
        with part(place, name).connect("field=emb") as adapter:
            adapter.create(unlearned().output_dim, fingerprint=unlearned().fingerprint)
            assert Retriever(unlearned(), adapter).add(ids, ROWS[:10]).written == 10
    stand_for(place, "a")
    with part(place, "now").connect("field=emb") as adapter:
        own: Any = adapter
        asking: dict[str, Callable[[], Any]] = {
            "search": lambda: Retriever(unlearned(), adapter, candidates=10).search(
                QUERIES[0], 10, where={"kind": "x"}
            ),
            "matching": lambda: [adapter.matching({"kind": "x"}, 20)],
            "by_text": lambda: own.by_text(["red"], 20, field="words", where={"kind": "x"}),
        }
        (before,) = asking[ask]()
        stand_for(place, "b")
        (after,) = asking[ask]()
        assert sorted(after.ids) == sorted(before.ids) == ["0", "2", "4", "6", "8"]


# ---- what something else wrote


def test_few_documents_are_scored_by_the_weights_that_the_index_holds(place: Place) -> None:
    with filled(place) as adapter:
        few, every = (Retriever(unlearned(), adapter, candidates=n) for n in (6, N))
        few.search(QUERIES[0], 6, where=FEW)
        weights = {str(index): 1.0 for index in unlearned().encode_query(QUERIES[:1]).indices}
        place.http("POST", "_update/int:10?refresh=true", {"doc": {"emb": weights}})
        (answers,), (all_,) = few.search(QUERIES[0], 6, where=FEW), every.search(QUERIES[0], N)
        scored = [{hit.id: hit.score for hit in hits} for hits in (answers, all_)]
        assert scored[0][10] == scored[1][10]


def test_a_collection_that_was_made_anew_and_packs_otherwise_is_read_as_it_is(place: Place) -> None:
    with filled(place) as adapter, place.connect("field=emb&shards=2&replicas=0") as other:
        retriever = retriever_on(adapter, "residual")
        (before,) = retriever.search(QUERIES[0], 3, where=FEW)
        other.drop()
        vectors = unlearned().encode_document(ROWS)
        sharper = SparseVectors(vectors.indptr, vectors.indices, vectors.values**2, vectors.dimension)
        again = retriever_on(other, "residual")
        sharper = sharper.with_fingerprint(vectors.fingerprint)
        assert again.add(range(N), ROWS, PAYLOADS, vectors=sharper).written == N
        (expected,) = again.search(QUERIES[0], 3, where=FEW)
        assert retriever.search(QUERIES[0], 3, where=FEW) == [expected] != [before]


@pytest.mark.parametrize("where", [MANY, FEW])
def test_a_document_without_its_code_is_refused_among_few_as_among_many(place: Place, where: Where) -> None:
    with filled(place) as adapter:
        query = unlearned().encode_query(QUERIES[:1])
        weights = {str(index): 1.0 for index in query.indices}
        place.http("PUT", "_doc/int:10?refresh=true", {**PAYLOADS[10], "_sparsevec_emb": True, "emb": weights})
        asked = Search(where=where, with_vectors=True, with_codes=True)
        with pytest.raises(CollectionError, match="no residual code"):
            adapter.matching_or_search(query, CANDIDATES, asked, 8)
