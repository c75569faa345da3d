"""A million documents streamed in flat memory: read, encoded and handed to a backend that takes everything.

    python -m benchmarks.stream [--documents 1000000]

What is measured is this side: dense rows made on the way, encoding, conversion, account and journal, with four requests
under way. Prints memory and documents a second now and then, and writes benchmarks/results/stream.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sparsevec as sv
from benchmarks.machine import machine
from sparsevec.contract.adapter import Info, Written
from sparsevec.contract.capabilities import Capabilities

COLUMNS, DIMENSION, CHUNK = 384, 1024, 1000  # few dimensions: it is fitted first, and memory does not depend on them
RESULTS = Path(__file__).parent / "results"


class Taking:
    """A backend that takes everything and keeps nothing."""

    def info(self) -> Info:
        return Info("nothing", Capabilities(requests_at_once=4), True, True, DIMENSION, None, "benchmark")

    def stored(self, vectors: sv.SparseVectors) -> sv.SparseVectors:
        return vectors

    def upsert(self, ids: Sequence[Any], *_args: Any, **_options: Any) -> Written:
        return Written(tuple(ids))


def rows(n: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(200, COLUMNS)).astype(np.float32)
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        yield centres[draw.integers(200, size=size)] + draw.standard_normal((size, COLUMNS), np.float32)


def megabytes() -> int:
    """Of this process, at this moment."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    n = parser.parse_args().documents
    encoder = sv.SparseEncoder(COLUMNS, DIMENSION)
    encoder.fit(next(rows(CHUNK)), budget=sv.Budget(nnz=32))
    encoder = sv.SparseEncoder.load(saved(encoder))
    memory: list[int] = []
    began, cpu = time.perf_counter(), time.process_time()

    def note(progress: sv.IngestProgress) -> None:
        if progress.documents % max(1, n // 20) == 0:
            memory.append(megabytes())
            print(
                f"{progress.documents:>10,} documents  {memory[-1]} MB  {time.perf_counter() - began:.0f} s", flush=True
            )

    with tempfile.TemporaryDirectory() as folder:
        codes = (encoder.encode_document(part) for part in rows(n))
        adapter: Any = Taking()
        report = sv.ingest(adapter, range(n), codes, journal=Path(folder) / "run.journal", on_progress=note)
    assert (report.given, report.written) == (n, n)
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    later = memory[len(memory) // 4 :]
    figures = {"documents": n, "seconds": wall, "cpu µs a document": 1e6 * used / n, "MB": memory}
    growth = {"MB from the first quarter on": [min(later), max(later)]}
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": machine(), **figures, **growth}
    (RESULTS / "stream.json").write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n")
    print(json.dumps(results, ensure_ascii=False))


def saved(encoder: sv.SparseEncoder) -> str:
    """As who encodes has it: without what learning left in memory."""
    folder = tempfile.mkdtemp(prefix="sparsevec-benchmark-")
    encoder.save(folder)
    return folder


if __name__ == "__main__":
    main()
