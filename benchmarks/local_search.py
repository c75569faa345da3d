"""How fast `local:` searches, and the index behind it, beside other ways to search sparse vectors on one machine.

    python -m benchmarks.local_search [--million]

Milliseconds of the processor for one query, one thread, medians of turns, all queries in each turn; "batch" is the time
on the wall of all queries at once, for each. "recall" is against float64 brute force: of the k best, those whose score
is at least that of the k-th. "same order": the ranking is the reference's, ties too. `scipy column sums` adds up the
columns of the query in float32 with scipy's compiled routine for CSC, called directly, and partitions the sums. Seismic
and SINDI are approximate; Seismic is built for the smallest collection only, which takes it long enough.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from scipy.sparse import _sparsetools

from benchmarks.timing import keep, medians, table
from benchmarks.workloads import SHAPES, made
from sparsevec import connect
from sparsevec.postings import BlockLists, PostingLists, blocks
from sparsevec.vectors import SparseVectors

Engine = Callable[[SparseVectors, int], Any]
"""One query, as an encoder gives it, and k to the rows that are found, best first."""

KS = (10, 100, 1000)
COLLECTIONS = (("topics", 100_000), ("words", 100_000), ("codes", 20_000))


def column_sums(documents: SparseVectors) -> Engine:
    csc = documents.to_scipy().tocsc()
    n, _ = csc.shape

    def search(query: SparseVectors, k: int) -> Any:
        columns, m = query.indices[::-1], query.nnz
        # from the last column to the first: what lies between two of them then has a negative length, and is left out
        ends = np.stack([csc.indptr[columns], csc.indptr[columns + 1]], axis=1).ravel()
        weights, sums = np.zeros(2 * m, np.float32), np.zeros(n, np.float32)
        weights[::2] = query.values[::-1]
        _sparsetools.csc_matvec(n, 2 * m - 1, ends, csc.indices, csc.data, weights, sums)
        top = np.argpartition(sums, n - k)[n - k :]
        return top[np.lexsort((top, -sums[top]))]

    return search


def sparse_product(documents: SparseVectors) -> Engine:
    transposed = documents.to_scipy().T.tocsr()

    def search(query: SparseVectors, k: int) -> Any:
        found = query.to_scipy() @ transposed
        k = min(k, found.nnz)
        top = np.argpartition(found.data, found.nnz - k)[found.nnz - k :]
        return found.indices[top[np.lexsort((found.indices[top], -found.data[top]))]]

    return search


def edge(documents: SparseVectors, stack: ExitStack) -> Engine:
    qdrant = importlib.import_module("qdrant_edge")
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    config = qdrant.EdgeConfig(sparse_vectors={"v": qdrant.EdgeSparseVectorParams()})
    shard = qdrant.EdgeShard.create(folder, config)
    for start in range(0, len(documents), 5000):
        some = enumerate(documents[start : start + 5000], start)
        points = [
            qdrant.Point(i, {"v": qdrant.SparseVector(r.indices.tolist(), r.values.tolist())}, {}) for i, r in some
        ]
        shard.update(qdrant.UpdateOperation.upsert_points(points))
    shard.optimize()

    def search(query: SparseVectors, k: int) -> Any:
        wire = qdrant.SparseVector(query.indices.tolist(), query.values.tolist())
        return [p.id for p in shard.query(qdrant.QueryRequest(k, query=qdrant.Query.Nearest(wire, "v")))]

    return search


def seismic(documents: SparseVectors, cut: int) -> Engine:
    package = importlib.import_module("seismic")
    dataset = package.SeismicDataset()
    names = np.array([str(i) for i in range(documents.dimension)], package.get_seismic_string())
    parts = documents.indices.astype(np.int64), np.array(documents.values), documents.indptr.astype(np.int64)
    dataset.add_documents_by_id([str(i) for i in range(len(documents))], *parts)
    index = package.SeismicIndex.build_from_dataset(dataset, num_threads=1)

    def search(query: SparseVectors, k: int) -> Any:
        found = index.search("", names[query.indices], query.values, k=k, query_cut=cut, heap_factor=0.9)
        return [int(name) for _, _, name in found]

    return search


def sindi(documents: SparseVectors) -> Engine:
    package = importlib.import_module("pyvsag")
    of_index = {"use_reorder": True, "term_id_limit": documents.dimension, "doc_prune_ratio": 0.0, "window_size": 50000}
    about = {"dtype": "sparse", "metric_type": "ip", "dim": documents.dimension, "index_param": of_index}
    index = package.Index("sindi", json.dumps(about))
    parts = documents.indptr.astype(np.uint32), documents.indices.astype(np.uint32), np.array(documents.values)
    index.build(*parts, np.arange(len(documents)))

    def search(query: SparseVectors, k: int) -> Any:
        asked = {"sindi": {"query_prune_ratio": 0.0, "term_prune_ratio": 0.0, "n_candidate": max(2 * k, 100)}}
        where = np.array([0, query.nnz], np.uint32), query.indices.astype(np.uint32), np.array(query.values)
        return index.knn_search(*where, k, json.dumps(asked))[0].ravel()

    return search


def engines(documents: SparseVectors, stack: ExitStack) -> Iterator[tuple[str, Engine]]:
    adapter = stack.enter_context(connect("local:"))
    adapter.create(documents.dimension)
    for start in range(0, len(documents), 5000):
        some = documents[start : start + 5000]
        adapter.upsert(list(range(start, start + len(some))), some)
    index = BlockLists(documents)
    yield "local:", lambda query, k: adapter.search(query, k)[0].ids
    yield "its index", lambda query, k: index.search_all(query, k)[0].rows
    yield "scipy column sums", column_sums(documents)
    if len(documents) < 10**6:
        yield "scipy sparse product", sparse_product(documents)
        yield from found("qdrant-edge", lambda: edge(documents, stack))
        yield from found("SINDI", lambda: sindi(documents))
    if len(documents) < 50_000:
        for cut in (20, 60):
            yield from found(f"Seismic, cut {cut}", lambda cut=cut: seismic(documents, cut))  # type: ignore[misc]


def found(name: str, make: Callable[[], Engine]) -> Iterator[tuple[str, Engine]]:
    try:
        yield name, make()
    except ImportError as error:
        print(f"without {name}: {error}")


def collection(name: str, n: int) -> Iterator[dict[str, Any]]:
    documents, queries = made(SHAPES[name], n, 30)
    used = np.bincount(documents.indices, minlength=documents.dimension)
    postings = float(np.mean([used[query.indices].sum() for query in queries]))
    build = medians({"build": lambda: BlockLists(documents)}, 3)["build"]
    arrays = BlockLists(documents).lists
    sizes = sum(array.nbytes for array in arrays) / documents.nnz
    about = {"collection": name, "n": n, "postings": postings, "build_ms": build, "bytes_a_posting": sizes}
    reference, rows = PostingLists(documents), [queries[i : i + 1] for i in range(len(queries))]
    all_scores = [dict(zip(*map(np.ndarray.tolist, reference.scores(query[0])), strict=True)) for query in rows]
    with ExitStack() as stack:
        known = dict(engines(documents, stack))
        for k in KS if n < 10**6 else KS[:2]:
            best = [reference.search(query[0], k) for query in rows]
            ways = {name: lambda e=engine, k=k: [e(query, k) for query in rows] for name, engine in known.items()}
            ms = medians(ways)
            for engine, search in known.items():
                answers = [np.asarray(search(query, k)).tolist() for query in rows]
                recall = float(np.mean([_recall(*one) for one in zip(answers, best, all_scores, strict=True)]))
                bits = all(answer == rows_.tolist() for answer, (rows_, _) in zip(answers, best, strict=True))
                took = ms[engine] / len(rows)
                yield {**about, "k": k, "engine": engine, "ms": took, "ns_a_posting": 1e6 * took / postings} | {
                    "recall": recall,
                    "same_order": bits,
                }
        yield from batches(about, BlockLists(documents), queries)


def _recall(answer: list[int], best: tuple[Any, Any], scores: dict[int, float]) -> float:
    bar = best[1][-1] * (1 - 1e-6)  # what float32 may lose
    return float(sum(scores.get(row, -np.inf) >= bar for row in answer) / len(best[0]))


def batches(about: dict[str, Any], index: BlockLists, queries: SparseVectors) -> Iterator[dict[str, Any]]:
    """The same batch on one thread and on all, in turns."""
    many, processors = SparseVectors.concat([queries] * 10), blocks._processors()

    def on(threads: int) -> Callable[[], Any]:
        def search() -> Any:
            blocks._processors = lambda: threads  # type: ignore[assignment]
            return index.search_all(many, 10)

        return search

    ms = medians({"1": on(1), str(processors): on(processors)}, 7, time.perf_counter)
    for threads, took in ms.items():
        yield {**about, "k": 10, "engine": f"its index, batch, {threads} threads, wall", "ms": took / len(many)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="this collection alone")
    parser.add_argument("--million", action="store_true", help="a collection of a million as well: 3 GB, minutes")
    asked = parser.parse_args()
    collections = [*COLLECTIONS, *([("topics", 1_000_000)] if asked.million else [])]
    blocks.LOOPS.load(wait=True)
    rows = [row for name, n in collections if asked.only in (None, name) for row in collection(name, n)]
    columns = ["collection", "k", "engine", "ms", "ns_a_posting", "recall", "same_order"]
    lines = [[f"{row['collection']} {row['n']:,}", *map(row.get, columns[1:])] for row in rows]
    builds = {(row["collection"], row["n"]): [row["build_ms"], row["bytes_a_posting"], row["postings"]] for row in rows}
    built = [[f"{name} {n:,}", *of] for (name, n), of in builds.items()]
    sizes = table(["collection", "build, ms", "bytes a posting", "postings a query"], built)
    keep("local_search", __doc__ or "", [table(columns, lines), sizes], rows)


if __name__ == "__main__":
    main()
