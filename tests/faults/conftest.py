"""A collection on a real engine, a way to it that misbehaves, and the judge of what came of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

from sparsevec import IngestReport, SparseVectors, connect, ingest, verify
from sparsevec.ingestion.ingest import Timing
from tests.faults.proxy import Proxy

DIMENSION = 60
CLUSTERS = (
    pytest.param("elasticsearch8", marks=pytest.mark.elasticsearch),
    pytest.param("elasticsearch9", marks=pytest.mark.elasticsearch),
    pytest.param("opensearch3", marks=pytest.mark.opensearch),
)


@dataclass(frozen=True)
class Documents:
    ids: list[int | str]
    vectors: SparseVectors
    payloads: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> Documents:
        return Documents(self.ids[rows], self.vectors[rows], self.payloads[rows])

    def __add__(self, other: Documents) -> Documents:
        vectors = SparseVectors.concat([self.vectors, other.vectors])
        return Documents(self.ids + other.ids, vectors, self.payloads + other.payloads)

    def without(self, row: int) -> Documents:
        return self[:row] + self[row + 1 :]


def documents(n: int, *, seed: int = 0) -> Documents:
    """With ids of both kinds and about six weights each; those of another seed have other ids."""
    rng = np.random.default_rng(seed)
    dense = rng.exponential(size=(n, DIMENSION)) * (rng.random((n, DIMENSION)) < 0.1)
    dense[:, 0] = 1 + rng.random(n)  # none is empty, and every query hits something
    numbers = range(seed * 10**6, seed * 10**6 + n)
    ids: list[int | str] = [number if number % 3 else f"id {number}" for number in numbers]
    return Documents(ids, SparseVectors.from_dense(dense.astype(np.float32)), [{"number": i} for i in numbers])


@dataclass
class Collection:
    """On a real engine. `pauses` are those that `timing` was asked to make."""

    url: str  # for `connect`
    engine: str  # for `http`
    proxy: Proxy
    pauses: list[float] = field(default_factory=list)

    @property
    def timing(self) -> Timing:
        """No time passes in a pause; what refused to listen listens again."""

        def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            self.proxy.listen()

        return Timing(sleep=sleep)

    @property
    def flaky_url(self) -> str:
        return self.url.replace(self.url.partition("://")[2].partition("/")[0], f"127.0.0.1:{self.proxy.port}")

    def ingest(self, given: Documents, **options: Any) -> IngestReport:
        """Through the proxy; gives up after a minute without progress."""
        with closing(connect(self.flaky_url)) as adapter:
            options = {"timing": self.timing, "deadline": 60, **options}
            return ingest(adapter, given.ids, given.vectors, given.payloads, **options)

    def check(self, report: IngestReport, *given: Documents) -> None:
        """All of `given` was written once and is found exactly, as somebody who comes later sees it."""
        assert report.written + report.skipped + report.failed == report.given
        assert (report.skipped, report.failed) == (0, 0)
        self.check_holds(*given)

    def check_holds(self, *given: Documents) -> None:
        due = reduce(add, given)
        with closing(connect(self.url)) as adapter:
            assert adapter.count() == len(due)
            verify(adapter, due.vectors, due.vectors[:20], k=len(due), ids=due.ids).require_exact()
            assert list(adapter.fetch(due.ids[:500]).payloads) == due.payloads[:500]


@pytest.fixture
def collection(cluster: str) -> Iterator[Collection]:
    """Empty, made by our adapter."""
    with collection_at(cluster) as made:
        yield made


@contextmanager
def collection_at(cluster: str, mapping: object = None, **sizes: int) -> Iterator[Collection]:
    """A collection on the engine at the url `cluster`, with a proxy in front of it.

    With a `mapping` it is an index that others made, to which our adapter adds its field.
    """
    name, options = f"faults-{uuid.uuid4().hex[:12]}", "&".join(f"{size}={n}" for size, n in sizes.items())
    engine = f"http{cluster[cluster.index(':') :]}"
    with Proxy(engine) as proxy:
        collection = Collection(f"{cluster}/{name}?{options}", f"{engine}/{name}", proxy)
        if mapping is not None:
            http("PUT", collection.engine, {"mappings": mapping})
        with closing(connect(collection.url)) as adapter:
            adapter.create(DIMENSION)
        yield collection
        http("DELETE", collection.engine)


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, engine_url: Callable[[str], str]) -> str:
    """The url of each engine that speaks HTTP and writes by bulk requests."""
    return engine_url(request.param)


def http(method: str, url: str, body: object = None) -> Any:
    """What the engine itself answers to a request of nobody's client."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"content-type": "application/json"}, method=method)) as answer:
        return json.load(answer)
