"""Sparse vectors in OpenSearch: write them, search them, prove every answer exact.

    python examples/opensearch.py                                               a server at localhost:9200
    python examples/opensearch.py opensearch+https://search.example.com/products    any server, any index of ours

Without an argument the environment variable OPENSEARCH_URL may name the server and the index, in the same form;
OPENSEARCH_USER and OPENSEARCH_PASSWORD are its credentials.
The vectors here are random; `sparsevec.SparseEncoder` learns them from yours.
"""

import os
import sys
from typing import Any

import numpy as np

import sparsevec as sv

DEFAULT = "opensearch://localhost:9200/sparsevec-example"


def random_vectors(n: int, nnz: int, seed: int) -> sv.SparseVectors:
    rng = np.random.default_rng(seed)
    rows = [
        dict(zip(rng.choice(1000, nnz, replace=False).tolist(), rng.random(nnz).tolist(), strict=True))
        for _ in range(n)
    ]
    return sv.SparseVectors.from_rows(rows, dimension=1000)


def main(url: str, **credentials: Any) -> None:
    documents, queries = random_vectors(2000, 30, seed=0), random_vectors(50, 10, seed=1)
    payloads = [{"brand": "acme" if i % 3 else "zeta", "price": i} for i in range(len(documents))]

    adapter = sv.connect(f"{url}?field=sparse", **credentials)
    adapter.drop()  # what an earlier run left; a field that sparsevec did not make is refused
    adapter.create(documents.dimension)
    print(adapter.info().backend)
    print(sv.ingest(adapter, range(len(documents)), documents, payloads))

    (hits,) = adapter.search(queries[:1], k=3, where={"brand": "acme", "price": {"lt": 1000}}, with_payloads=True)
    for id_, score, payload in hits:
        print(f"{score:.4f}  {id_}  {payload}")

    print(sv.verify(adapter, documents, queries, k=10).require_exact())
    adapter.close()


if __name__ == "__main__":
    user, password = os.environ.get("OPENSEARCH_USER"), os.environ.get("OPENSEARCH_PASSWORD")
    place = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("OPENSEARCH_URL", DEFAULT)
    main(place, **({"basic_auth": (user, password)} if user else {}))
