"""A place on a running Elasticsearch or OpenSearch, and plain HTTP to look behind the adapter's back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from sparsevec import SparseVectors, connect
from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.checks import Id

DIMENSION = 100

ENGINES = [
    pytest.param("elasticsearch8", marks=pytest.mark.elasticsearch),
    pytest.param("elasticsearch9", marks=pytest.mark.elasticsearch),
    pytest.param("opensearch3", marks=pytest.mark.opensearch),
]


def rows(*documents: Mapping[int, float], dimension: int = DIMENSION) -> SparseVectors:
    return SparseVectors.from_rows(documents, dimension=dimension)


@dataclass(frozen=True)
class Place:
    """An index of its own on the engine at `engine_url` (as `connect` knows it)."""

    engine_url: str
    index: str

    def connect(self, options: str = "field=emb&replicas=0", **credentials: Any) -> Adapter:
        adapter = connect(f"{self.engine_url}/{self.index}?{options}", **credentials)
        assert isinstance(adapter, Adapter)
        return adapter

    def http(self, method: str, path: str = "", body: Any = None) -> Any:
        """The JSON answer to a request under the index, such as `_doc/1`. Raises HTTPError."""
        return self.root(method, f"{self.index}{'/' if path else ''}{path}", body)

    def root(self, method: str, path: str, body: Any = None) -> Any:
        where = f"http://{self.engine_url.partition('://')[2]}/{path}"
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(where, data, {"content-type": "application/json"}, method=method)) as answer:
            return json.load(answer)

    def make(self, properties: Mapping[str, Any], settings: Mapping[str, Any] | None = None, **mappings: Any) -> None:
        """The index, as others would make it."""
        settings = {"number_of_replicas": 0, **(settings or {})}
        self.http("PUT", "", {"settings": settings, "mappings": {**mappings, "properties": properties}})

    def put(self, documents: Mapping[str, Any]) -> None:
        """Documents of others, by _id."""
        for id_, document in documents.items():
            self.http("PUT", f"_doc/{id_}?refresh=true", document)

    def source(self, id_: str) -> Any:
        return self.http("GET", f"_doc/{id_}")["_source"]

    @property
    def vector_type(self) -> str:
        return "rank_features" if self.engine_url.startswith("opensearch") else "sparse_vector"


@contextmanager
def place_at(engine_url: str) -> Iterator[Place]:
    place = Place(engine_url, f"test-{uuid4().hex[:8]}")
    try:
        yield place
    finally:
        place.root("DELETE", f"{place.index}*?expand_wildcards=all")


def found(adapter: Adapter, query: Mapping[int, float], k: int = 1000, **options: Any) -> tuple[Id, ...]:
    hits: Hits = adapter.search(rows(query), k, **options)[0]
    return hits.ids
