"""Collections that serve already, as applications make them: documents with dense rows, edited by plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt

import sparsevec as sv

WIDTH = 24
Document = Mapping[str, Any]
_WINDOW = 100_000  # so that one search shows all documents


def dense_rows(n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """(n, WIDTH) rows of unit length around 40 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(40, WIDTH))
    rows = centres[rng.integers(40, size=n)] + 0.5 * rng.normal(size=(n, WIDTH))
    units: npt.NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return units


class Shop(Protocol):
    """One collection of one engine. Ids are text of digits, or ints where an engine has no others."""

    url: str
    """as `connect` takes it, with the field or vector to add"""

    def put(self, documents: Mapping[int, Document]) -> None:
        """Whole documents, as an application indexes them: what else lived in them is gone."""

    def edit(self, number: int, fields: Document) -> None: ...

    def remove(self, number: int) -> None: ...

    def documents(self) -> dict[int, Document]:
        """Everything but what sparsevec added."""


def _http(base: str, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with urlopen(Request(f"{base}{path}", data, {"content-type": f"application/{kind}"}, method=method)) as answer:
        return json.load(answer)


class LuceneShop:
    """An index of Elasticsearch or OpenSearch; the latter's dense rows are arrays in `_source`."""

    def __init__(
        self, engine_url: str, index: str, settings: Mapping[str, Any] | None = None, *, nine: bool = False
    ) -> None:
        """`nine`: the engine leaves vectors out of what it shows of a document, unless asked not to."""
        engine, _, host = engine_url.partition("://")
        self.base, self.index = f"http://{host}", index
        self.url = f"{engine_url}/{index}?field=sparse"
        self._whole = {"_source": {"exclude_vectors": False}} if nine else {}
        emb: Document = {"type": "dense_vector", "dims": WIDTH, "similarity": "cosine"}
        if engine == "opensearch":
            emb = {"type": "float", "index": False}
        properties = {"emb": emb, "title": {"type": "text"}, "brand": {"type": "keyword"}}
        given = {"number_of_shards": 2, "number_of_replicas": 0, "max_result_window": _WINDOW, **(settings or {})}
        self.http("PUT", "", {"settings": given, "mappings": {"properties": properties}})

    def http(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        return _http(self.base, method, f"/{self.index}{path}", body, kind)

    def put(self, documents: Mapping[int, Document]) -> None:
        lines = [
            json.dumps(line)
            for number, document in documents.items()
            for line in ({"index": {"_id": str(number)}}, document)
        ]
        answer = self.http("POST", "/_bulk?refresh=true", ("\n".join(lines) + "\n").encode(), "x-ndjson")
        assert not answer["errors"], answer

    def edit(self, number: int, fields: Document) -> None:
        self.http("POST", f"/_update/{quote(str(number))}?retry_on_conflict=9", {"doc": fields})

    def remove(self, number: int) -> None:
        self.http("DELETE", f"/_doc/{quote(str(number))}")

    def documents(self) -> dict[int, Document]:
        self.http("POST", "/_refresh")
        found: dict[int, Document] = {}
        body = {"size": _WINDOW, "query": {"match_all": {}}}
        whole = self.http("POST", "/_search?filter_path=hits.hits._id,hits.hits._source", {**body, **self._whole})
        for hit in whole.get("hits", {}).get("hits", []):
            assert int(hit["_id"]) not in found, f"{hit['_id']} stands there twice"
            found[int(hit["_id"])] = _foreign(hit["_source"])
        return found

    def close(self) -> None:
        self.http("DELETE", "")


def _foreign(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if not name.startswith(("sparse", "_sparsevec_"))}


class QdrantShop:
    """A collection of a Qdrant server with the dense vector `emb`, over REST."""

    def __init__(self, url: str, collection: str) -> None:
        self.base, self.collection = url, collection
        self.url = f"qdrant://{url.partition('://')[2]}/{collection}?vector_name=sparse"
        self.http("PUT", "", {"vectors": {"emb": {"size": WIDTH, "distance": "Dot"}}})

    def http(self, method: str, path: str, body: Any = None) -> Any:
        return _http(self.base, method, f"/collections/{self.collection}{path}", body)

    def put(self, documents: Mapping[int, Document]) -> None:
        points = [
            {
                "id": number,
                "vector": {"emb": document["emb"]} if "emb" in document else {},
                "payload": {name: value for name, value in document.items() if name != "emb"},
            }
            for number, document in documents.items()
        ]
        for start in range(0, len(points), 1000):
            self.http("PUT", "/points?wait=true", {"points": points[start : start + 1000]})

    def edit(self, number: int, fields: Document) -> None:
        operations: list[Any] = []
        if "emb" in fields:
            operations.append({"update_vectors": {"points": [{"id": number, "vector": {"emb": fields["emb"]}}]}})
        if rest := {name: value for name, value in fields.items() if name != "emb"}:
            operations.append({"set_payload": {"payload": rest, "points": [number]}})
        self.http("POST", "/points/batch?wait=true", {"operations": operations})

    def remove(self, number: int) -> None:
        self.http("POST", "/points/delete?wait=true", {"points": [number]})

    def documents(self) -> dict[int, Document]:
        found: dict[int, Document] = {}
        offset = None
        while True:
            body = {"limit": 5000, "with_payload": True, "with_vector": ["emb"], "offset": offset}
            answer = self.http("POST", "/points/scroll", body)["result"]
            found |= {point["id"]: {**point["payload"], **point["vector"]} for point in answer["points"]}
            if (offset := answer["next_page_offset"]) is None:
                return found

    def close(self) -> None:
        self.http("DELETE", "")


class EdgeShop:
    """A folder of the embedded engine: documents with empty vectors of ours and their dense rows in the payload.

    One process at a time can open it, so it is edited through the same adapter that retrofits it."""

    def __init__(self, path: str, dimension: int) -> None:
        self.url = f"qdrant+edge:{path}"
        self.dimension = dimension
        with sv.connect(self.url) as adapter:
            adapter.create(dimension)

    def _empty(self, n: int) -> sv.SparseVectors:
        return sv.SparseVectors(np.zeros(n + 1, np.int64), [], [], self.dimension)

    def put(self, documents: Mapping[int, Document]) -> None:
        with sv.connect(self.url) as adapter:
            adapter.delete(list(documents))
            adapter.upsert(list(documents), self._empty(len(documents)), [dict(one) for one in documents.values()])

    def edit(self, number: int, fields: Document) -> None:
        with sv.connect(self.url) as adapter:
            kept = adapter.fetch([number]).vectors
            adapter.upsert([number], kept, [dict(fields)])

    def remove(self, number: int) -> None:
        with sv.connect(self.url) as adapter:
            adapter.delete([number])

    def documents(self) -> dict[int, Document]:
        with sv.connect(self.url) as adapter:
            pages = list(adapter.scan(payloads=True))
        return {int(id_): payload for page in pages for id_, payload in zip(page.ids, page.payloads or (), strict=True)}

    def close(self) -> None:
        """Nothing to do: the folder is the test's."""
