"""Who must conform: one row of BACKENDS each.

A row says how to open an adapter, given the test's `request` (for `tmp_path`, or the url of an engine that another
fixture starts); calling what it returns again opens the same collection again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.connect import connect
from tests.integration.qdrant_grpc_shim import QdrantGrpcShim
from tests.integration.qdrant_shim import QdrantShim

Opener = Callable[[], Adapter]


@dataclass(frozen=True)
class Backend:
    """`forgets`: what it holds is gone with its adapter. `shared`: it outlives the test, so the collection is dropped.
    `cannot`: test name -> why it fails there, and it must."""

    name: str
    opener: Callable[[pytest.FixtureRequest], Opener]
    forgets: bool = False
    shared: bool = False
    marks: tuple[pytest.MarkDecorator, ...] = ()
    cannot: Mapping[str, str] = field(default_factory=dict)


def at(url: str) -> Callable[[pytest.FixtureRequest], Opener]:
    """The opener of a url in which {tmp_path} is the test's own folder."""
    return lambda request: lambda: connect(url.format(tmp_path=request.getfixturevalue("tmp_path")))


def qdrant_shim(request: pytest.FixtureRequest) -> Opener:
    """The real client, over loopback, in front of the embedded engine."""
    shim = QdrantShim(request.getfixturevalue("tmp_path"))
    request.addfinalizer(shim.close)

    def reopen() -> Adapter:
        shim.restart()
        return connect(f"qdrant://127.0.0.1:{shim.port}/conformance")

    return reopen


def qdrant_grpc_shim(request: pytest.FixtureRequest) -> Opener:
    """The same over gRPC."""
    shim = QdrantShim(request.getfixturevalue("tmp_path"))
    request.addfinalizer(shim.close)
    front = QdrantGrpcShim(shim)
    request.addfinalizer(front.close)

    def reopen() -> Adapter:
        shim.restart()
        return connect(f"qdrant+grpc://127.0.0.1:{front.port}/conformance")

    return reopen


def on(engine: str) -> Callable[[pytest.FixtureRequest], Opener]:
    """The opener of a new index, of two shards, on a running engine of sparsevec.testing."""

    def opener(request: pytest.FixtureRequest) -> Opener:
        index = f"conformance-{uuid4().hex[:8]}?field=emb&shards=2&replicas=0"
        url = f"{request.getfixturevalue('engine_url')(engine)}/{index}"
        return lambda: connect(url)

    return opener


def qdrant_server(request: pytest.FixtureRequest) -> Opener:
    """A new collection of a running server, over REST."""
    url = f"{request.getfixturevalue('engine_url')('qdrant')}/conformance-{uuid4().hex[:8]}"
    return lambda: connect(url)


def qdrant_server_grpc(request: pytest.FixtureRequest) -> Opener:
    """The same over gRPC, whose port the environment has to name."""
    if not (url := os.environ.get("SPARSEVEC_QDRANT_GRPC_URL")):
        pytest.skip("SPARSEVEC_QDRANT_GRPC_URL (qdrant+grpc://HOST:PORT) is not set")
    collection = f"conformance-{uuid4().hex[:8]}"
    return lambda: connect(f"{url}/{collection}")


BACKENDS = [
    Backend("reference", at("reference:"), forgets=True),
    Backend("reference-on-disk", at("reference:{tmp_path}/reference.sqlite")),
    Backend("local", at("local:"), forgets=True),
    Backend("local-on-disk", at("local:{tmp_path}/local.sqlite")),
    Backend("qdrant-edge", at("qdrant+edge:{tmp_path}/edge"), marks=(pytest.mark.qdrant,)),
    Backend("qdrant-memory", at("qdrant+memory:"), forgets=True, marks=(pytest.mark.qdrant,)),
    Backend("qdrant-loopback", qdrant_shim, marks=(pytest.mark.qdrant,)),
    Backend("qdrant-loopback-grpc", qdrant_grpc_shim, marks=(pytest.mark.qdrant,)),
    Backend("qdrant", qdrant_server, shared=True, marks=(pytest.mark.qdrant,)),
    Backend("qdrant-grpc", qdrant_server_grpc, shared=True, marks=(pytest.mark.qdrant,)),
    Backend("elasticsearch8", on("elasticsearch8"), shared=True, marks=(pytest.mark.elasticsearch,)),
    Backend("elasticsearch9", on("elasticsearch9"), shared=True, marks=(pytest.mark.elasticsearch,)),
    Backend("opensearch3", on("opensearch3"), shared=True, marks=(pytest.mark.opensearch,)),
]


@pytest.fixture(params=[pytest.param(backend, id=backend.name, marks=backend.marks) for backend in BACKENDS])
def backend(request: pytest.FixtureRequest) -> Backend:
    """One row; a test that it cannot pass must fail, for the reason given."""
    row: Backend = request.param
    name = request.node.originalname
    if name in row.cannot:
        request.applymarker(pytest.mark.xfail(strict=True, reason=row.cannot[name]))
    return row
