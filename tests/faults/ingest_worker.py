"""A process to be killed: `python -m tests.faults.ingest_worker URL JOURNAL` ingests `stream()`, in small batches.

It prints a line when it begins and one after each batch, and the report as JSON at the end.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import sparsevec as sv

DIMENSION = 1000
N = 400


def stream() -> tuple[list[Any], sv.SparseVectors, list[Any]]:
    """Ids, vectors and payloads, always the same: with repeated and bad ids, bad payloads and empty vectors."""
    draw = np.random.default_rng(7)
    ids: list[Any] = [f"document {i}" if i % 2 else int(draw.integers(2**63)) for i in range(N)]
    ids[50:150:10] = ids[:10]
    ids[33::50] = [-1] * len(ids[33::50])
    rows = [
        {int(j): float(np.float32(draw.random() + 0.01)) for j in draw.integers(DIMENSION, size=draw.integers(20))}
        for _ in range(N)
    ]
    payloads: list[Any] = [{"n": i, "text": "x" * int(draw.integers(200))} for i in range(N)]
    payloads[20::70] = [{"n": float("nan")}] * len(payloads[20::70])
    return ids, sv.SparseVectors.from_rows(rows, dimension=DIMENSION), payloads


def main(url: str, journal: str) -> None:
    print("begins", flush=True)
    adapter = sv.connect(url)
    if adapter.dimension is None:
        adapter.create(DIMENSION)
    report = sv.ingest(adapter, *stream(), journal=journal, batch_count=10, on_progress=lambda p: print(p, flush=True))
    print(report.model_dump_json(), flush=True)
    adapter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
