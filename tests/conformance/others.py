"""Collections as applications make them, by plain HTTP: what `sparsevec.testing.conformance.Others` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from sparsevec.contract.checks import Id
from sparsevec.testing.http import ask

DOCUMENTS: tuple[Mapping[str, Any], ...] = (
    {
        "title": "first",
        "n": 1,
        "price": 1.10,
        "tags": ["a", "b"],
        "nested": {"deep": [1, None, 3], "objects": [{"x": 0.5}, {}]},
    },
    {"title": "second", "n": 2, "price": 1e-7, "none": None, "on": True},
    {"title": "third", "n": 3, "made": "2024-05-01", "text": "ünïcödé \\n 日本語"},
    {"title": "fourth"},
)


class LuceneOthers:
    """An index of Elasticsearch or OpenSearch. `routed`: each document with a routing, in one of three shards."""

    ids: tuple[Id, ...] = ("0", "7", "a b/c", "x")
    asked: tuple[Id, ...] = (0, 7, "a b/c", "x")
    absent: Id = "nobody"

    def __init__(self, base: str, index: str, routed: bool = False) -> None:
        self._host, self._port, self._secure = _parts(base)
        self._index = index
        self._routing = {id_: f"tenant-{n}" for n, id_ in enumerate(self.ids)} if routed else {}
        settings = {"number_of_shards": 3 if routed else 2, "number_of_replicas": 0}
        mappings = {"properties": {"title": {"type": "text"}, "tags": {"type": "keyword"}}}
        self._ask("PUT", "", {"settings": settings, "mappings": mappings})
        for id_, fields in zip(self.ids, DOCUMENTS, strict=True):
            self._ask("PUT", f"/_doc/{self._at(id_)}", fields)

    def documents(self) -> dict[Id, Mapping[str, Any]]:
        """Of a search, so that a document that stands twice is seen: under its id and its routing."""
        self._ask("POST", "/_refresh")
        found = self._ask("POST", "/_search", {"size": 1000, "query": {"match_all": {}}})["hits"]["hits"]
        known = {self._routing.get(id_) for id_ in self.ids}
        strays = [hit for hit in found if hit.get("_routing") not in known]
        assert len({hit["_id"] for hit in found}) == len(found), "a document stands there twice"
        assert not strays, f"documents of another routing: {strays}"
        return {hit["_id"]: hit["_source"] for hit in found}

    def edit(self, id_: Id, fields: Mapping[str, Any]) -> None:
        self._ask("POST", f"/_update/{self._at(id_)}", {"doc": fields})

    def remove(self, id_: Id) -> None:
        self._ask("DELETE", f"/_doc/{self._at(id_)}")

    def close(self) -> None:
        self._ask("DELETE", "")

    def _at(self, id_: Id) -> str:
        routing = f"&routing={self._routing[id_]}" if id_ in self._routing else ""
        return f"{quote(str(id_), safe='')}?refresh=true{routing}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        where = f"/{self._index}{path}"
        return ask(self._host, self._port, where, body, method=method, secure=self._secure, timeout=60)


class QdrantOthers:
    """A collection of Qdrant with a dense vector of its own, over REST."""

    ids: tuple[Id, ...] = (0, 7, 2**40, "1b4e28ba-2fa1-11d2-883f-0016d3cca427")
    asked: tuple[Id, ...] = ids
    absent: Id = 99

    def __init__(self, host: str, port: int, collection: str) -> None:
        self._host, self._port, self._collection = host, port, collection
        self._ask("PUT", "", {"vectors": {"dense": {"size": 3, "distance": "Dot"}}})
        points = [
            {"id": id_, "vector": {"dense": [n + 0.5, 0.25, -1]}, "payload": fields}
            for n, (id_, fields) in enumerate(zip(self.ids, DOCUMENTS, strict=True))
        ]
        self._ask("PUT", "/points?wait=true", {"points": points})

    def documents(self) -> dict[Id, Mapping[str, Any]]:
        asked = {"limit": 1000, "with_payload": True, "with_vector": ["dense"]}
        found = self._ask("POST", "/points/scroll", asked)["result"]["points"]
        return {point["id"]: {**point["payload"], "dense": (point["vector"] or {}).get("dense")} for point in found}

    def edit(self, id_: Id, fields: Mapping[str, Any]) -> None:
        change = {"set_payload": {"payload": fields, "points": [id_]}}
        self._ask("POST", "/points/batch?wait=true", {"operations": [change]})

    def remove(self, id_: Id) -> None:
        self._ask("POST", "/points/delete?wait=true", {"points": [id_]})

    def close(self) -> None:
        self._ask("DELETE", "")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        where = f"/collections/{self._collection}{path}"
        return ask(self._host, self._port, where, body, method=method, timeout=60)


def _parts(base: str) -> tuple[str, int, bool]:
    url = urlsplit(base)
    return url.hostname or "", url.port or 9200, url.scheme.endswith("https")
