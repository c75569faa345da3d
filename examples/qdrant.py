"""Sparse vectors in Qdrant: write them, search them, prove every answer exact.

    python examples/qdrant.py                                    a server at localhost:6333
    python examples/qdrant.py qdrant://localhost:6333/example    any server, any collection
    python examples/qdrant.py qdrant+edge:/tmp/example           Qdrant's embedded engine, no server

Without an argument the environment variable QDRANT_URL may name the server, in the same form.
The vectors here are random; `sparsevec.SparseEncoder` learns them from yours.
"""

import os
import sys

import numpy as np

import sparsevec as sv

DEFAULT = "qdrant://localhost:6333/sparsevec-example"


def random_vectors(n: int, nnz: int, seed: int) -> sv.SparseVectors:
    rng = np.random.default_rng(seed)
    rows = [
        dict(zip(rng.choice(1000, nnz, replace=False).tolist(), rng.random(nnz).tolist(), strict=True))
        for _ in range(n)
    ]
    return sv.SparseVectors.from_rows(rows, dimension=1000)


def main(url: str) -> None:
    documents, queries = random_vectors(2000, 30, seed=0), random_vectors(50, 10, seed=1)
    ids = [f"product {i}" for i in range(len(documents))]
    payloads = [{"brand": "acme" if i % 3 else "zeta", "price": i} for i in range(len(documents))]

    adapter = sv.connect(url)
    adapter.drop()  # what an earlier run left; a collection that sparsevec did not make is refused
    adapter.create(documents.dimension)
    print(adapter.info().backend)
    print(sv.ingest(adapter, ids, documents, payloads))

    (hits,) = adapter.search(queries[:1], k=3, where={"brand": "acme", "price": {"lt": 1000}}, with_payloads=True)
    for id_, score, payload in hits:
        print(f"{score:.4f}  {id_}  {payload}")

    print(sv.verify(adapter, documents, queries, k=10, ids=ids).require_exact())
    adapter.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QDRANT_URL", DEFAULT))
