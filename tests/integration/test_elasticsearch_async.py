"""The same contract for asyncio, over AsyncElasticsearch and AsyncOpenSearch."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch
from opensearchpy import AsyncOpenSearch, OpenSearch

from sparsevec import connect
from sparsevec.contract.adapter import AsyncAdapter, Hits
from sparsevec.contract.connect import aconnect
from sparsevec.contract.deadlines import within
from sparsevec.errors import AdapterClosed, BackendDown, CollectionError, InvalidInput
from tests.integration.lucene import DIMENSION, Place, rows


def url(place: Place) -> str:
    return f"{place.engine_url}/{place.index}?field=emb&replicas=0"


def client_at(place: Place, *, asynchronous: bool) -> Any:
    """A client of the engine's own library."""
    engine, _, address = place.engine_url.partition("://")
    kinds = {
        "elasticsearch": (Elasticsearch, AsyncElasticsearch),
        "opensearch": (OpenSearch, AsyncOpenSearch),
    }
    return kinds[engine][asynchronous](f"http://{address}")


async def filled(adapter: AsyncAdapter, n: int = 40) -> None:
    await adapter.create(DIMENSION)
    report = await adapter.upsert(range(n), rows(*({i: 1.0 + i} for i in range(n))), [{"n": i} for i in range(n)])
    assert len(report.written) == n


def test_every_clause_can_be_awaited(place: Place) -> None:
    async def talk() -> None:
        async with await aconnect(url(place)) as adapter:
            await filled(adapter)
            info = await adapter.info()
            assert (info.dimension, info.ours, await adapter.count()) == (DIMENSION, True, 40)
            (hits,) = await adapter.search(rows({7: 2.0}), 3, where={"n": 7}, with_payloads=True)
            assert list(hits) == [(7, 16.0, {"n": 7})]
            assert (await adapter.fetch([3])).payloads == ({"n": 3},)
            assert sum([len(page) async for page in adapter.scan(size=15)]) == 40
            await adapter.delete([3])
            assert await adapter.count() == 39
            assert (await adapter.slack(rows({1: 1.0}))).tolist() == [0.0]
            assert {finding.level for finding in await adapter.check()} == {"fine"}
            await adapter.drop()
            with pytest.raises(CollectionError):
                await adapter.count()
        with pytest.raises(AdapterClosed):
            await adapter.count()

    asyncio.run(talk())


def test_twenty_searches_at_once_answer_as_one_by_one(place: Place) -> None:
    queries = [rows({i: 1.0, i + 1: 0.5}) for i in range(20)]

    async def talk() -> list[list[Hits]]:
        async with await aconnect(url(place)) as adapter:
            await filled(adapter)
            return list(await asyncio.gather(*(adapter.search(query, 5) for query in queries)))

    at_once = asyncio.run(talk())
    with connect(url(place)) as adapter:
        assert at_once == [adapter.search(query, 5) for query in queries]


def test_a_client_of_the_callers_is_taken_as_it_is_and_stays_open(place: Place) -> None:
    async def talk() -> None:
        client = client_at(place, asynchronous=True)
        async with await aconnect(client, index=place.index, field="emb") as adapter:
            await filled(adapter)
        async with await aconnect(client, index=place.index, field="emb") as adapter:
            assert await adapter.count() == 40
        await client.close()

    asyncio.run(talk())


def test_the_wrong_kind_of_client_is_told_its_door(place: Place) -> None:
    async def talk() -> None:
        client = client_at(place, asynchronous=True)
        with pytest.raises(InvalidInput, match="aconnect"):
            connect(client, index="products")
        await client.close()
        other = client_at(place, asynchronous=False)
        with pytest.raises(InvalidInput, match=r"sparsevec\.connect"):
            await aconnect(other, index="products")
        other.close()

    asyncio.run(talk())


def test_a_deadline_ends_the_wait_for_a_server_that_holds_the_request(place: Place) -> None:
    engine = place.engine_url.partition(":")[0]

    async def talk(held: str) -> None:
        async with await aconnect(held) as adapter:
            with within(0.5), pytest.raises(BackendDown):
                await adapter.count()

    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, and answers none
        held = f"{engine}://127.0.0.1:{listener.getsockname()[1]}/products"
        began = time.monotonic()
        asyncio.run(talk(held))
        with connect(held) as blocking, within(0.5), pytest.raises(BackendDown):
            blocking.count()
    assert time.monotonic() - began < 30  # and not 2 x 90


def test_a_host_that_is_down_among_two_is_passed_over(place: Place) -> None:
    engine, _, address = place.engine_url.partition("://")
    both = f"{engine}://127.0.0.1:1,{address}/{place.index}?field=emb&replicas=0"

    async def talk() -> None:
        async with await aconnect(both) as adapter:
            await filled(adapter, 3)
            for _ in range(6):
                assert await adapter.count() == 3

    asyncio.run(talk())
    with connect(both) as adapter:
        assert [adapter.count() for _ in range(6)] == [3] * 6


def test_another_event_loop_is_told_to_connect_again_there(place: Place) -> None:
    first = asyncio.new_event_loop()
    adapter = first.run_until_complete(aconnect(url(place)))
    assert not first.run_until_complete(adapter.info()).exists
    with pytest.raises(AdapterClosed, match="connect again, once in each loop"):
        asyncio.run(adapter.info())
    first.run_until_complete(adapter.close())
    first.close()
