"""What runs in a process that is to be killed: `run` ingests `stream()`, in small batches, and says how far it is."""

from __future__ import annotations

import signal
import sys
import time
from multiprocessing.connection import Connection
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


def run(url: str, journal: str, in_flight: int, out: Connection) -> None:
    """Sends None when it begins, the progress after each batch, and the report at the end."""
    out.send(None)
    adapter = sv.connect(url)
    if not adapter.info().exists:
        adapter.create(DIMENSION)
    out.send(sv.ingest(adapter, *stream(), journal=journal, batch_count=10, in_flight=in_flight, on_progress=out.send))
    adapter.close()


def slowly(folder: str) -> None:
    """Ingests a document every few milliseconds, until it is interrupted."""
    adapter = sv.connect(f"reference:{folder}/reference")
    if not adapter.info().exists:
        adapter.create(DIMENSION)
    sv.ingest(adapter, *stream(), journal=f"{folder}/run.journal", batch_count=2, on_progress=_say)
    adapter.close()


def _say(progress: sv.IngestProgress) -> None:
    print(progress.documents, flush=True)
    time.sleep(0.002)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started deaf to it
    slowly(sys.argv[1])
