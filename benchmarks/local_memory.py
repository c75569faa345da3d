"""What `local:` keeps in memory and on disk, beside the vectors themselves as CSR and beside qdrant-edge.

    python -m benchmarks.local_memory [--million]

Each row is of a process of its own, which maps the vectors from a file, writes them 5,000 at a time, searches, and then
counts what the system holds for it, less what it held before. "kept": memory that only this process has. "mapped":
pages of files that it has touched, which the system takes back when it needs them. "peak": the most it ever held. All
are multiples of the CSR (8 bytes a weight), as is "disk", which `local:` without a path and qdrant-edge use as well.
"opened": milliseconds of the processor until a process that has this file for the first time has its first ten answers.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.local_search import edge
from benchmarks.timing import keep, table
from benchmarks.workloads import SHAPES, made
from sparsevec import connect
from sparsevec.postings import blocks
from sparsevec.vectors import SparseVectors

COLLECTIONS = (("topics", 100_000), ("topics", 300_000), ("words", 100_000), ("codes", 20_000))
PLACES = ("local:", "local:PATH", "qdrant-edge")
STEP = 5000


def held() -> dict[str, int]:
    """Bytes of this process by what the system calls them."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {name.rstrip(":"): 1024 * int(size) for name, size, *_ in (line for line in lines if line[-1:] == ["kB"])}


KINDS = {"kept": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}
OPENS = """
import sys, time
from sparsevec import SparseVectors, connect
query = SparseVectors.load(sys.argv[2])[:1]
connect("local:").close()
began = time.process_time()
with connect("local:" + sys.argv[1]) as adapter:
    adapter.search(query, 10)
    print(1000 * (time.process_time() - began))
"""


def alone(vectors: Path, place: str, folder: Path) -> dict[str, Any]:
    """In a process of its own: write and search all of the vectors."""
    warm_up()
    before = held()
    asked = vectors.with_suffix(".queries")
    documents, queries = SparseVectors.load(vectors, mmap=True), SparseVectors.load(asked)
    csr, disk, opened = 8 * documents.nnz, None, None
    with ExitStack() as stack:
        if place == "qdrant-edge":
            search = edge(documents, stack)
            for query in range(len(queries)):
                search(queries[query : query + 1], 10)
        else:
            adapter: Any = stack.enter_context(connect(place.replace("PATH", str(folder / "file"))))
            write_and_search(adapter, documents, queries)
        del documents
        gc.collect()
        after = held()
    if place == "local:PATH":
        disk = sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file()) / csr
        command = [sys.executable, "-c", OPENS, str(folder / "file"), str(asked)]
        opened = float(subprocess.run(command, check=True, capture_output=True).stdout)
    grown = {name: (after[kind] - before[kind]) / csr for name, kind in KINDS.items()}
    return {"csr_mb": csr / 2**20, **grown, "disk": disk, "opened_ms": opened}


def write_and_search(adapter: Any, documents: SparseVectors, queries: SparseVectors) -> None:
    adapter.create(documents.dimension)
    for start in range(0, len(documents), STEP):
        some = documents[start : start + STEP]
        adapter.upsert(range(start, start + len(some)), some)
    adapter.search(queries, 10)
    if adapter._merging is not None:
        adapter._merging.join()
    adapter.search(queries, 10)


def warm_up() -> None:
    """What a process loads once, whatever it searches."""
    blocks.LOOPS.load(wait=True)
    few, _ = made(SHAPES["codes"], 100, 1)
    with connect("local:") as adapter, ExitStack() as stack:
        adapter.create(few.dimension)
        adapter.upsert(range(len(few)), few)
        adapter.search(few[:2], 3)
        edge(few, stack)(few[:1], 3)


def rows(name: str, n: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder) / "vectors"
        documents, queries = made(SHAPES[name], n, 30)
        documents.save(vectors)
        queries.save(vectors.with_suffix(".queries"))
        del documents
        found = []
        for place in PLACES if n <= 100_000 else PLACES[:2]:
            at = Path(folder) / place.replace(":", "-")
            at.mkdir()
            command = [sys.executable, "-m", "benchmarks.local_memory", "--alone", str(vectors), place, str(at)]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            found.append({"collection": name, "n": n, "engine": place, **figures})
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="a collection of a million as well: minutes")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        vectors, place, folder = asked.alone
        print(json.dumps(alone(Path(vectors), place, Path(folder))))
        return
    collections = [*COLLECTIONS, *([("topics", 1_000_000)] if asked.million else [])]
    found = [row for one in collections for row in rows(*one)]
    columns = ["engine", "csr_mb", "kept", "mapped", "peak", "disk", "opened_ms"]
    lines = [[f"{row['collection']} {row['n']:,}", *map(row.get, columns)] for row in found]
    keep("local_memory", __doc__ or "", [table(["collection", *columns], lines)], found)


if __name__ == "__main__":
    main()
