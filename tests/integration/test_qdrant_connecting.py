"""How one gets to Qdrant and who may hold an adapter: urls, clients, keys, threads, forks, asyncio, copies (C15)."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient
from sparsevec_adapters.qdrant import AsyncQdrantAdapter, QdrantAdapter

import sparsevec as sv
from sparsevec.contract.adapter import Adapter
from sparsevec.contract.connect import aconnect
from sparsevec.contract.deadlines import within
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterClosed, BackendDown, BackendUnsupported, InvalidInput
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import ask, corpus, fill, rows
from tests.integration.qdrant_grpc_shim import QdrantGrpcShim
from tests.integration.qdrant_shim import QdrantShim

pytestmark = pytest.mark.qdrant

KINDS = ("edge", "memory", "rest", "grpc")


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[QdrantShim]:
    with QdrantShim(tmp_path) as shim:
        yield shim


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, shim: QdrantShim, tmp_path: Path) -> Iterator[str]:
    front = QdrantGrpcShim(shim)
    yield {
        "edge": f"qdrant+edge:{tmp_path}/edge",
        "memory": "qdrant+memory:",
        "rest": f"qdrant://127.0.0.1:{shim.port}/c",
        "grpc": f"qdrant+grpc://127.0.0.1:{front.port}/c",
    }[request.param]
    front.close()


@pytest.fixture
def adapter(url: str) -> Iterator[Adapter]:
    adapter = sv.connect(url)
    yield adapter
    adapter.close()


def test_a_dimension_and_a_width_of_numpys_are_noted_as_plain_ints(adapter: Adapter) -> None:
    dimension: Any = np.int64(10)
    width: Any = np.int32(4)
    adapter.create(dimension, code_bytes=width)
    found = adapter.info()
    assert [(type(one), one) for one in (found.dimension, found.code_bytes)] == [(int, 10), (int, 4)]


# ---- threads, forks, asyncio


def test_eight_threads_write_and_search_with_one_adapter_and_lose_nothing(adapter: Adapter) -> None:
    documents = corpus(400)
    adapter.create(documents.dimension)

    def work(thread: int) -> None:
        for start in range(thread * 50, thread * 50 + 50, 10):
            ids = range(start, start + 10)
            assert adapter.upsert(ids, documents[start : start + 10]).written == tuple(ids)
            assert adapter.search(documents[start : start + 1], 5)
            assert adapter.count() >= 10

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert adapter.count() == 400
    verify(adapter, documents, corpus(20, seed=1)).require_exact()


def test_eight_threads_that_bring_the_first_vectors_agree_on_the_space(adapter: Adapter) -> None:
    documents = corpus(80).with_fingerprint("space-1")
    adapter.create(documents.dimension)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: adapter.upsert([i], documents[i : i + 1]), range(80)))
    assert (adapter.info().fingerprint, adapter.count()) == ("space-1", 80)


def test_a_forked_child_is_told_to_connect_anew_and_the_parent_goes_on(adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            adapter.search(rows({1: 1.0}), 1)
            said = b"searched"
        except AdapterClosed as error:
            said = str(error).encode()
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert "connect again in the child" in told.read()
    os.waitpid(child, 0)
    assert ask(adapter, {1: 1.0}).ids == (1,)


def test_asyncio_has_the_same_clauses(url: str) -> None:
    documents = corpus(60)

    async def all_of_it() -> None:
        async with await aconnect(url) as adapter:
            await adapter.create(documents.dimension)
            halves = [adapter.upsert(range(i, i + 30), documents[i : i + 30]) for i in (0, 30)]
            assert sum(len(written.written) for written in await asyncio.gather(*halves)) == 60
            answers = await asyncio.gather(*(adapter.search(documents[i : i + 1], 3) for i in range(20)))
            assert [len(hits) for (hits,) in answers] == [3] * 20
            assert sorted([id_ async for page in adapter.scan(size=7) for id_ in page.ids]) == list(range(60))
            await adapter.delete([0])
            assert (await adapter.count(), (await adapter.fetch([0, 1])).ids) == (59, (1,))
            assert (await adapter.info()).dimension == documents.dimension
            assert "blocking" not in {finding.level for finding in await adapter.check()}
            await adapter.drop()
        with pytest.raises(AdapterClosed):
            await adapter.count()

    asyncio.run(all_of_it())


def test_an_asynchronous_client_of_the_callers_is_taken_by_aconnect_and_stays_open(shim: QdrantShim) -> None:
    async def all_of_it() -> None:
        client = AsyncQdrantClient(url=shim.url, check_compatibility=False)
        adapter = await aconnect(client, collection="c")
        assert isinstance(adapter, AsyncQdrantAdapter)
        await adapter.create(10)
        await adapter.close()
        assert await client.collection_exists("c")
        await client.close()

    asyncio.run(all_of_it())


def test_the_wrong_kind_of_client_is_shown_the_right_door() -> None:
    client = AsyncQdrantClient(":memory:")
    with pytest.raises(InvalidInput, match=r"found AsyncQdrantClient; sparsevec\.aconnect"):
        sv.connect(client, collection="c")
    with (
        closing(QdrantClient(":memory:")) as synchronous,
        pytest.raises(InvalidInput, match=r"found QdrantClient; sparsevec\.connect"),
    ):
        asyncio.run(aconnect(synchronous, collection="c"))
    with pytest.raises(InvalidInput, match="found object"):
        QdrantAdapter.from_client(object(), collection="c")


@pytest.mark.parametrize("url", ["memory", "rest", "grpc"], indirect=True)
def test_a_client_that_its_owner_closed_is_named_as_closed(url: str, shim: QdrantShim) -> None:
    async def closed_under_asyncio() -> None:
        client = AsyncQdrantClient(**options(url, shim))
        adapter = await aconnect(client, collection="c")
        await client.close()
        with pytest.raises(AdapterClosed, match="connect again"):
            await adapter.count()

    client = QdrantClient(**options(url, shim))
    adapter = sv.connect(client, collection="c")
    client.close()
    for call in (adapter.count, lambda: adapter.create(10)):
        with pytest.raises(AdapterClosed, match="connect again"):
            call()
    asyncio.run(closed_under_asyncio())


def options(url: str, shim: QdrantShim) -> dict[str, Any]:
    """Of a client that leads where `url` does."""
    if url == "qdrant+memory:":
        return {"location": ":memory:"}
    grpc = {"prefer_grpc": True, "grpc_port": Url.parse(url).port} if "grpc" in url else {}
    return {"url": shim.url, "check_compatibility": False, **grpc}


@pytest.mark.parametrize("name", ["", ".", "..", "\udc80", 5, None])
def test_what_is_no_name_of_a_collection_or_a_vector_is_refused(name: Any) -> None:
    with closing(QdrantClient(":memory:")) as client:
        with pytest.raises(InvalidInput, match="collection must be a name"):
            sv.connect(client, collection=name)
        with pytest.raises(InvalidInput, match="vector_name must be a name"):
            sv.connect(client, collection="c", vector_name=name)


# ---- copies


@pytest.mark.parametrize("url", ["rest", "grpc"], indirect=True)
def test_a_copy_or_a_pickle_connects_again(adapter: Adapter) -> None:
    fill(adapter, [1], rows({1: 1.0}))
    for again in (pickle.loads(pickle.dumps(adapter)), copy.deepcopy(adapter)):
        assert ask(again, {1: 1.0}).ids == (1,)
        again.close()


def test_a_name_of_any_letters_survives_a_pickle(shim: QdrantShim) -> None:
    url = f"qdrant://127.0.0.1:{shim.port}/a%20b%3Fc?vector_name=d%26e"
    with closing(sv.connect(url)) as adapter, closing(pickle.loads(pickle.dumps(adapter))) as again:
        fill(adapter, [1], rows({1: 1.0}))
        assert ask(again, {1: 1.0}).ids == (1,)
        assert repr(again) == repr(adapter)


def test_what_cannot_be_connected_again_says_why(shim: QdrantShim) -> None:
    with closing(QdrantClient(url=shim.url, check_compatibility=False)) as client:
        adapters = [
            sv.connect("qdrant+memory:"),
            sv.connect(client, collection="c"),
            sv.connect(f"qdrant+https://127.0.0.1:{shim.port}/c", api_key="hush"),
        ]
        for adapter in adapters:
            with pytest.raises(InvalidInput, match="send the url, and connect there"):
                pickle.dumps(adapter)
            adapter.close()


# ---- urls and keys


def test_a_server_behind_a_path_prefix_is_reached_through_it() -> None:
    with (
        serving(b'{"result": {"title": "q"}}') as (port, seen),
        closing(sv.connect(f"qdrant://127.0.0.1:{port}/a/gate%20way/products")) as adapter,
        pytest.raises(BackendDown),
    ):
        adapter.info()
    assert seen == ["/a/gate%20way/"]


def test_something_that_is_no_qdrant_is_named_as_that_with_the_prefix_as_advice() -> None:
    with (
        serving(b"", 404) as (port, _),
        closing(sv.connect(f"qdrant://127.0.0.1:{port}/products")) as adapter,
        pytest.raises(BackendUnsupported, match="path prefix"),
    ):
        adapter.create(10)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("qdrant+foo://h/c", r"found qdrant\+foo$"),
        ("qdrant+grpc://h/prefix/c", "gRPC knows no path"),
        ("qdrant://h1,h2:6333/c", "names one server"),
        ("qdrant://h:6333/", "names a server and a collection"),
        ("qdrant+memory://h:6333/c", "in this process, found the host 'h'"),
    ],
)
def test_a_url_is_refused_in_words(url: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        sv.connect(url)
    assert "Url(" not in str(refused.value)


@pytest.mark.parametrize("options", [{"api_key": "hush\n"}, {"headers": {"authorization": "hush\r\n"}}])
def test_a_key_with_a_line_break_is_refused_without_being_repeated(options: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        sv.connect("qdrant+https://h/c", **options)
    assert "hush" not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"


def test_a_repr_shows_the_url_and_no_key(shim: QdrantShim) -> None:
    adapter = sv.connect(f"qdrant+https://127.0.0.1:{shim.port}/c", api_key="hush")
    assert repr(adapter) == f"<QdrantAdapter qdrant+https://127.0.0.1:{shim.port}/c?vector_name=sparse>"
    adapter.close()
    plain = sv.connect(f"qdrant://127.0.0.1:{shim.port}/c?vector_name=v")
    assert repr(plain) == f"<QdrantAdapter qdrant://127.0.0.1:{shim.port}/c?vector_name=v>"
    plain.close()


# ---- deadlines


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_that_holds_the_request_is_given_up_at_the_deadline(asynchronous: bool) -> None:
    with serving(b"{}", 200, wait=60) as (port, _):
        url, began = f"qdrant://127.0.0.1:{port}/c", time.monotonic()

        async def count() -> None:
            async with await aconnect(url) as adapter:
                await adapter.count()

        with within(0.3), pytest.raises(BackendDown):
            asyncio.run(count()) if asynchronous else sv.connect(url).count()
        assert time.monotonic() - began < 30  # and not 60


class serving:  # noqa: N801
    """A server that answers everything alike: its port, and the paths that were asked for."""

    def __init__(self, body: bytes, status: int = 200, wait: float = 0) -> None:
        seen: list[str] = []
        self.seen, over = seen, threading.Event()
        self._over = over

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                over.wait(wait)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> tuple[int, list[str]]:
        return self._server.server_port, self.seen

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
