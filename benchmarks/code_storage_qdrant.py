"""Where a residual code lies on Qdrant: in a payload field, or in a vector of bytes without a graph.

    python -m benchmarks.code_storage_qdrant http://127.0.0.1:6333 [--n 4000]

Seconds to write n documents, and to replace 1,000 of them; medians over 60 searches of 64 weights for 100 hits, at a
client over REST. The documents are those of `benchmarks.code_storage`. Two collections are made, and removed.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import time
from typing import Any

import httpx
import numpy as np
import orjson

from benchmarks.code_storage import DIMENSION, WIDTH, documents

__all__: list[str] = []

_FIELD, _BATCH = "_sparsevec_code", 500
_VECTOR = {"size": WIDTH, "distance": "Dot", "datatype": "uint8", "on_disk": True, "hnsw_config": {"m": 0}}


class Collection:
    def __init__(self, client: httpx.Client, name: str, *, as_vector: bool) -> None:
        self._client, self._path, self._as_vector = client, f"/collections/{name}", as_vector
        self.remove()
        self.call("PUT", "", {"vectors": {"code": _VECTOR} if as_vector else {}, "sparse_vectors": {"s": {}}})

    def call(self, method: str, path: str, body: Any = None) -> bytes:
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._client.request(method, self._path + path, content=content)
        answer.raise_for_status()
        return answer.content

    def remove(self) -> None:
        self._client.delete(self._path)

    def vectors(self, document: tuple[list[int], np.ndarray, bytes]) -> dict[str, Any]:
        chosen, weights, code = document
        codes = {"code": np.frombuffer(code, np.uint8)} if self._as_vector else {}
        return {"s": {"indices": chosen, "values": weights}, **codes}

    def payload(self, code: bytes) -> dict[str, str]:
        return {} if self._as_vector else {_FIELD: base64.b64encode(code).decode()}

    def write(self, given: list[Any]) -> float:
        began = time.perf_counter()
        for start in range(0, len(given), _BATCH):
            points = [
                {"id": start + i, "vector": self.vectors(document), "payload": self.payload(document[2])}
                for i, document in enumerate(given[start : start + _BATCH])
            ]
            self.call("PUT", "/points?wait=true", {"points": points})
        return time.perf_counter() - began

    def replace(self, given: list[Any]) -> float:
        """As a write does that must leave what others keep in a point."""
        began = time.perf_counter()
        for start in range(0, len(given), _BATCH):
            some = list(enumerate(given[start : start + _BATCH], start))
            points = [{"id": i, "vector": self.vectors(document)} for i, document in some]
            set_each = [{"set_payload": {"payload": self.payload(d[2]), "points": [i]}} for i, d in some]
            operations = [{"update_vectors": {"points": points}}, *([] if self._as_vector else set_each)]
            self.call("POST", "/points/batch?wait=true", {"operations": operations})
        return time.perf_counter() - began

    def search(self, **brought: Any) -> str:
        rng, took, size = np.random.default_rng(1), [], 0
        for _ in range(60):
            indices = np.unique((rng.random(64) ** 2 * DIMENSION).astype(int))
            query = {"indices": indices, "values": rng.lognormal(-1, 0.7, len(indices))}
            began = time.perf_counter()
            answer = self.call("POST", "/points/query", {"query": query, "using": "s", "limit": 100, **brought})
            orjson.loads(answer)
            took.append(1000 * (time.perf_counter() - began))
            size = len(answer) // 100
        return f"{statistics.median(took):.1f} ms, {size} B a hit"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--prefix", default="code-storage")
    given = parser.parse_args()
    held = list(documents(given.n))
    with httpx.Client(base_url=given.url, timeout=120, headers={"content-type": "application/json"}) as client:
        for name, as_vector in (("payload", False), ("vector", True)):
            collection = Collection(client, f"{given.prefix}-{name}", as_vector=as_vector)
            try:
                print(f"code in a {name}: written {collection.write(held):.2f} s", end="", flush=True)
                print(f", 1,000 replaced {collection.replace(held[:1000]):.2f} s")
                code = {"with_vector": ["code"], "with_payload": False} if as_vector else {"with_payload": [_FIELD]}
                for _ in range(2):  # the first warms up
                    plain, coded = collection.search(with_payload=False), collection.search(**code)
                print(f"  ids: {plain}; ids and codes: {coded}")
            finally:
                collection.remove()


if __name__ == "__main__":
    main()
