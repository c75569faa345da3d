"""Who must conform: one row of BACKENDS each.

A row says where a test's collection is, given the test's `request` (for `tmp_path`, or the url of an engine that
another fixture starts). Its twin holds the asynchronous adapter to the same tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.connect import connect
from sparsevec.testing.blocking import Blocking
from tests.conformance.others import LuceneOthers, QdrantOthers
from tests.integration.qdrant_grpc_shim import QdrantGrpcShim
from tests.integration.qdrant_shim import QdrantShim

Connect = Callable[[str], Adapter]
Theirs = LuceneOthers | QdrantOthers


@dataclass(frozen=True)
class Place:
    """Where the collection of one test is: `url`, for `connect`; `restart` ends what serves it and starts it again.

    `others` makes the collection as an application would, `routed` one whose documents have a routing.
    """

    url: str
    restart: Callable[[], None] = lambda: None
    others: Callable[[], Theirs] | None = None
    routed: Callable[[], Theirs] | None = None


@dataclass(frozen=True)
class Backend:
    """`forgets`: what it holds is gone with its adapter. `alone`: a second adapter cannot open it beside the first.
    `shared`: it outlives the test, so the collection is dropped. `cannot`: test name -> why it fails there, as it must.
    """

    name: str
    place: Callable[[pytest.FixtureRequest], Place]
    connect: Connect = connect
    forgets: bool = False
    alone: bool = False
    shared: bool = False
    marks: tuple[pytest.MarkDecorator, ...] = ()
    cannot: Mapping[str, str] = field(default_factory=dict)


def at(url: str) -> Callable[[pytest.FixtureRequest], Place]:
    """A url in which {tmp_path} is the test's own folder."""
    return lambda request: Place(url.format(tmp_path=request.getfixturevalue("tmp_path")))


def qdrant_shim(request: pytest.FixtureRequest) -> Place:
    """The real client, over loopback, in front of the embedded engine."""
    shim = QdrantShim(request.getfixturevalue("tmp_path"))
    request.addfinalizer(shim.close)
    url = f"qdrant://127.0.0.1:{shim.port}/conformance"
    return Place(url, shim.restart, lambda: QdrantOthers("127.0.0.1", shim.port, "conformance"))


def qdrant_grpc_shim(request: pytest.FixtureRequest) -> Place:
    """The same over gRPC."""
    shim = QdrantShim(request.getfixturevalue("tmp_path"))
    request.addfinalizer(shim.close)
    front = QdrantGrpcShim(shim)
    request.addfinalizer(front.close)
    return Place(f"qdrant+grpc://127.0.0.1:{front.port}/conformance", shim.restart)


def on(engine: str) -> Callable[[pytest.FixtureRequest], Place]:
    """A new index, of two shards, on a running engine of sparsevec.testing."""

    def place(request: pytest.FixtureRequest) -> Place:
        base, index = request.getfixturevalue("engine_url")(engine), f"conformance-{uuid4().hex[:8]}"
        return Place(
            f"{base}/{index}?field=emb&shards=2&replicas=0",
            others=lambda: LuceneOthers(base, index),
            routed=lambda: LuceneOthers(base, index, routed=True),
        )

    return place


def qdrant_server(request: pytest.FixtureRequest) -> Place:
    """A new collection of a running server, over REST."""
    base, collection = request.getfixturevalue("engine_url")("qdrant"), f"conformance-{uuid4().hex[:8]}"
    host, _, port = base.rpartition("//")[2].partition(":")
    return Place(f"{base}/{collection}", others=lambda: QdrantOthers(host, int(port), collection))


def qdrant_server_grpc(request: pytest.FixtureRequest) -> Place:
    """The same over gRPC, whose port the environment has to name."""
    if not (url := os.environ.get("SPARSEVEC_QDRANT_GRPC_URL")):
        pytest.skip("SPARSEVEC_QDRANT_GRPC_URL (qdrant+grpc://HOST:PORT) is not set")
    return Place(f"{url}/conformance-{uuid4().hex[:8]}")


_QDRANT = (pytest.mark.qdrant,)
_ELASTICSEARCH = (pytest.mark.elasticsearch,)
_OPENSEARCH = (pytest.mark.opensearch,)

REFERENCE = Backend("reference", at("reference:"), forgets=True)
REFERENCE_ON_DISK = Backend("reference-on-disk", at("reference:{tmp_path}/reference.sqlite"))
LOCAL = Backend("local", at("local:"), forgets=True)
LOCAL_ON_DISK = Backend("local-on-disk", at("local:{tmp_path}/local.sqlite"))
QDRANT_EDGE = Backend("qdrant-edge", at("qdrant+edge:{tmp_path}/edge"), alone=True, marks=_QDRANT)
QDRANT_MEMORY = Backend("qdrant-memory", at("qdrant+memory:"), forgets=True, marks=_QDRANT)
QDRANT_LOOPBACK = Backend("qdrant-loopback", qdrant_shim, marks=_QDRANT)
QDRANT_LOOPBACK_GRPC = Backend("qdrant-loopback-grpc", qdrant_grpc_shim, marks=_QDRANT)
QDRANT = Backend("qdrant", qdrant_server, shared=True, marks=_QDRANT)
QDRANT_GRPC = Backend("qdrant-grpc", qdrant_server_grpc, shared=True, marks=_QDRANT)
ELASTICSEARCH8 = Backend("elasticsearch8", on("elasticsearch8"), shared=True, marks=_ELASTICSEARCH)
ELASTICSEARCH9 = Backend("elasticsearch9", on("elasticsearch9"), shared=True, marks=_ELASTICSEARCH)
OPENSEARCH3 = Backend("opensearch3", on("opensearch3"), shared=True, marks=_OPENSEARCH)


def twin(backend: Backend, cannot: Mapping[str, str] | None = None) -> Backend:
    """The asynchronous adapter of the same backend."""
    return replace(backend, name=f"{backend.name}-async", connect=Blocking.to, cannot=cannot or backend.cannot)


BACKENDS = [
    *(REFERENCE, REFERENCE_ON_DISK, LOCAL, LOCAL_ON_DISK),
    *(QDRANT_EDGE, QDRANT_MEMORY, QDRANT_LOOPBACK, QDRANT_LOOPBACK_GRPC, QDRANT, QDRANT_GRPC),
    *(ELASTICSEARCH8, ELASTICSEARCH9, OPENSEARCH3),
    *map(twin, (REFERENCE, LOCAL_ON_DISK, QDRANT_EDGE, QDRANT_LOOPBACK, QDRANT)),
    *map(twin, (ELASTICSEARCH8, ELASTICSEARCH9, OPENSEARCH3)),
]


@pytest.fixture(params=[pytest.param(backend, id=backend.name, marks=backend.marks) for backend in BACKENDS])
def backend(request: pytest.FixtureRequest) -> Backend:
    """One row; a test that it cannot pass must fail, for the reason given."""
    row: Backend = request.param
    name = request.node.originalname
    if name in row.cannot:
        request.applymarker(pytest.mark.xfail(strict=True, reason=row.cannot[name]))
    return row


@pytest.fixture
def place(backend: Backend, request: pytest.FixtureRequest) -> Place:
    return backend.place(request)
