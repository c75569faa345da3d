"""A sparse field beside what an Elasticsearch index already holds: added, filled, searched, proved exact, taken out.

    python examples/elasticsearch_field.py                                           a server at localhost:9200
    python examples/elasticsearch_field.py elasticsearch+https://es.example.com:9200/products-copy

Without an argument the environment variable ELASTICSEARCH_URL may name the server and the index, in the same form;
ELASTICSEARCH_API_KEY is its credential. The index is made, with products as an application would write them, when it is
not there; one that is there keeps its documents and their other fields. (This file cannot be called elasticsearch.py:
the client library is.) The vectors here are random; `sparsevec.SparseEncoder` learns them from yours.
"""

import json
import os
import sys
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

import sparsevec as sv
from sparsevec.contract.urls import Url

DEFAULT = "elasticsearch://localhost:9200/sparsevec-example"


def random_vectors(n: int, nnz: int, seed: int) -> sv.SparseVectors:
    rng = np.random.default_rng(seed)
    rows = [
        dict(zip(rng.choice(1000, nnz, replace=False).tolist(), rng.random(nnz).tolist(), strict=True))
        for _ in range(n)
    ]
    return sv.SparseVectors.from_rows(rows, dimension=1000)


def main(url: str, **credentials: Any) -> None:
    documents, queries = random_vectors(2000, 30, seed=0), random_vectors(50, 10, seed=1)
    ids = [f"product-{i}" for i in range(len(documents))]  # the index's own _id
    products = [{"brand": "acme" if i % 3 else "zeta", "price": i} for i in range(len(documents))]
    write_as_an_application_would(url, ids, products, credentials)

    adapter = sv.connect(f"{url}?field=sparse", **credentials)
    adapter.drop()  # the vectors of an earlier run; a field that sparsevec did not make is refused
    adapter.create(documents.dimension)
    print(adapter.info().backend)
    print(sv.ingest(adapter, ids, documents))

    (hits,) = adapter.search(queries[:1], k=3, where={"brand": "acme", "price": {"lt": 1000}}, with_payloads=True)
    for id_, score, payload in hits:
        print(f"{score:.4f}  {id_}  {payload}")

    print(sv.verify(adapter, documents, queries, k=10, ids=ids).require_exact())
    adapter.drop()
    adapter.close()


def write_as_an_application_would(url: str, ids: list[str], products: list[Any], credentials: dict[str, Any]) -> None:
    where = Url.parse(url)
    lines = (
        f'{{"index":{{"_id":"{id_}"}}}}\n{json.dumps(product)}\n' for id_, product in zip(ids, products, strict=True)
    )
    headers = {"content-type": "application/x-ndjson"}
    if "api_key" in credentials:
        headers["authorization"] = f"ApiKey {credentials['api_key']}"
    bulk = f"{where.variant or 'http'}://{where.host}:{where.port or 9200}/{where.path}/_bulk?refresh=true"
    with urlopen(Request(bulk, "".join(lines).encode(), headers)) as answer:
        assert not json.load(answer)["errors"]


if __name__ == "__main__":
    key = os.environ.get("ELASTICSEARCH_API_KEY")
    place = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ELASTICSEARCH_URL", DEFAULT)
    main(place, **({"api_key": key} if key else {}))
