"""Daft: a data frame written from where its partitions are, every row accounted for in one report.

python examples/guests/daft_write.py qdrant://localhost:6333/products
"""

from __future__ import annotations

import sys
import tempfile

import daft
import numpy as np

import sparsevec as sv
from sparsevec.integrations.daft import write


def main(url: str) -> sv.IngestReport:
    dense = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)
    encoder = sv.SparseEncoder(32, 1024).fit(dense, budget=sv.Budget(nnz=16))
    rows = [{"id": f"d{at}", "vector": row, "brand": f"b{at % 3}"} for at, row in enumerate(dense)]
    dataframe = daft.from_pylist(rows).into_batches(150)
    with sv.connect(url) as adapter, tempfile.TemporaryDirectory() as folder:
        encoder.save(f"{folder}/model")
        adapter.create(encoder.output_dim, fingerprint=encoder.fingerprint)  # once, before the partitions come
        report = write(dataframe, url, model=f"{folder}/model", payload=["brand"])
        report.require_complete()
        assert adapter.count({"brand": "b1"}) == 200
    return report


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
