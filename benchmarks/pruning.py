"""Whether an exact search is faster when it leaves postings out that cannot change the answer. It is not, at this size.

    OMP_NUM_THREADS=1 python -m benchmarks.pruning

MaxScore, at its best. Of each block of 2**15 documents and each dimension the largest weight is known, and so is, as no
search could, the score of the k-th best document from the start. Lists whose largest contributions add up to less than
a share of that score are left out; documents that the others bring within reach of it are scored anew from their
vectors, in the order that defines a score. Every answer is compared with that of the index bit for bit. "of without" is
the time beside that of the same loop that leaves nothing out: below 1, pruning pays. Times of the processor, one
thread, medians of turns.

`topics`, `words`, `codes`: made up, of 100,000 documents. `package codes`: 20,000 descriptions of Debian packages,
encoded and asked by a refined encoder; `SPLADE`: 13,598 questions by SPLADE-v3 (both where their files are at hand).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp

from benchmarks.timing import keep, medians, table
from benchmarks.workloads import SHAPES, made
from sparsevec import SparseEncoder
from sparsevec.postings import BlockLists, blocks
from sparsevec.postings.blocks import BLOCK
from sparsevec.vectors import SparseVectors

DATA = Path(__file__).parents[2] / "shared/data"
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
KS = (1, 10, 100)
QUERIES = 100


@numba.njit(nogil=True)
def pruned(
    index: Any, largest: Any, n: int, vectors: Any, columns: Any, weights: Any, bar: float, share: float,
    sums: Any, dense: Any, scores: Any, rows: Any, counts: Any,
) -> int:  # fmt: skip
    """All documents of at least `bar`, of which there are about k: into `scores` and `rows`; returns how many."""
    starts, bases, numbers, list_weights = index
    indptr, indices, values = vectors
    blocks, size, m = len(bases) - 1, 0, len(columns)
    bounds, left_out = np.empty(m), np.zeros(m, np.bool_)
    for term in range(m):
        dense[columns[term]] = weights[term]
    for block in range(blocks):
        first = block * BLOCK
        width, held = len(starts) // blocks, min(BLOCK, n - first)
        at_term = block * width + columns
        for term in range(m):
            bounds[term] = np.float64(weights[term]) * np.float64(largest[block, columns[term]])
        lengths = (starts[at_term + 1] - starts[at_term]).astype(np.float64)
        rest = 0.0
        left_out[:] = False
        if share > 0.0:
            for term in np.argsort(bounds / np.maximum(lengths, 1.0)):  # the least reach for a posting first
                if rest + bounds[term] < share * bar:
                    rest += bounds[term]
                    left_out[term] = True
        needed = bar - rest * (1.0 + 1e-9)  # what rounding could hide
        for term in range(m):
            if not left_out[term]:
                begin = np.uint64(bases[block] + starts[at_term[term]])
                end = np.uint64(bases[block] + starts[at_term[term] + 1])
                weight = np.float64(weights[term])
                counts[0] += end - begin
                for at in range(begin, end):
                    sums[numbers[at]] += weight * np.float64(list_weights[at])
        for line in range(0, held, 64):
            above = np.uint32(0)
            for number in range(line, line + 64):
                above |= np.uint32(sums[number] >= needed)
            if above:
                for number in range(line, min(line + 64, held)):
                    score = sums[number]
                    if score >= needed:
                        if rest > 0.0:
                            counts[1] += 1
                            score = -0.0
                            for at in range(indptr[first + number], indptr[first + number + 1]):
                                weight_there = dense[indices[at]]
                                if weight_there != 0.0:
                                    score += np.float64(weight_there) * np.float64(values[at])
                        if score >= bar:
                            scores[size], rows[size] = score, first + number
                            size += 1
            for number in range(line, line + 64):
                sums[number] = -0.0
    for term in range(m):
        dense[columns[term]] = 0.0
    return size


def largest_weights(index: BlockLists) -> Any:
    """Of each block and dimension, (blocks, width)."""
    starts, bases, _, weights, _ = index.lists
    found = []
    for block, begins in enumerate(starts.reshape(len(bases) - 1, -1).astype(np.int64)):
        some = weights[bases[block] : bases[block + 1]]
        there = begins[1:] > begins[:-1]
        found.append(np.where(there, np.maximum.reduceat(some, np.minimum(begins[:-1], len(some) - 1)), 0))
    return np.array(found, np.float32)


def measured(name: str, documents: SparseVectors, queries: SparseVectors) -> Iterator[dict[str, Any]]:
    index = BlockLists(documents)
    assert not len(index.lists.dimensions)
    largest, vectors = largest_weights(index), (documents.indptr, documents.indices, documents.values)
    asked = [(query.indices.astype(np.int64), np.array(query.values)) for query in queries if len(query)]
    sums, dense = np.full(BLOCK, -0.0), np.zeros(documents.dimension, np.float32)
    scores, rows = np.empty(len(documents)), np.empty(len(documents), np.int64)
    for k in KS:
        exact = [index.search(query, k) for query in queries if len(query)]
        counts = np.zeros(2)

        def search(share: float, exact: Any = exact, counts: Any = counts) -> list[Any]:
            tops = []
            for (columns, weights), top in zip(asked, exact, strict=True):
                bar = float(top.scores[-1])
                about = (index.lists[:4], largest, len(documents), vectors, columns, weights, bar, share)
                size = pruned(*about, sums, dense, scores, rows, counts)
                tops.append(blocks._ordered(rows[:size].copy(), scores[:size].copy()))
            return tops

        shares = {}
        for share in SHARES:
            counts[:] = 0
            for top, right in zip(search(share), exact, strict=True):
                found = len(right.rows)
                assert np.array_equal(top.rows[:found], right.rows)
                assert top.scores[:found].tobytes() == right.scores.tobytes()
            shares[share] = counts / len(asked)
        ways: dict[str, Callable[[], Any]] = {str(share): partial(search, share) for share in SHARES}
        took = medians(ways, 9)
        for share, (postings, anew) in shares.items():
            of = took[str(share)] / took["0.0"]
            figures = {"postings": postings, "scored_anew": anew, "ms": took[str(share)] / len(asked), "of_without": of}
            yield {"collection": name, "n": len(documents), "k": k, "share": share, **figures}


def collections(model: str | None) -> Iterator[tuple[str, SparseVectors, SparseVectors]]:
    for name, shape in SHAPES.items():
        yield (name, *made(shape, 100_000, QUERIES))
    if (splade := DATA / "splade_v3/vectors.npz").exists():
        z = np.load(splade)
        base, asked = (
            sp.csr_array((z[f"{of}_values"].astype("f4"), z[f"{of}_indices"].astype("i4"), z[f"{of}_indptr"]),
                         shape=(n, int(z["shape"][2])))
            for of, n in zip(("base", "query"), z["shape"][:2].tolist(), strict=True)
        )  # fmt: skip
        yield "SPLADE", SparseVectors.from_scipy(base), SparseVectors.from_scipy(asked[:QUERIES])
    if model is not None:
        encoder, rows = SparseEncoder.load(model), np.load(DATA / "debian12/minilm_20k.npz")
        documents = SparseVectors.load(Path(model) / "documents")
        yield "package codes", documents, encoder.encode_query(rows["q_dev"][:QUERIES].astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a refined encoder of the 20,000 packages, with its documents/ beside it")
    blocks.LOOPS.load(wait=True)
    blocks._processors = lambda: 1  # type: ignore[assignment]
    rows = [row for one in collections(parser.parse_args().model) for row in measured(*one)]
    keep("pruning", __doc__ or "", [summary(rows)], rows)


def summary(rows: list[dict[str, Any]]) -> str:
    """A line for each collection and k: the times of all shares."""
    columns = ["collection", "k", "without, ms", *(f"{share} of without" for share in SHARES[1:])]
    of_line: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        of_line.setdefault((f"{row['collection']} {row['n']:,}", row["k"]), []).append(row)
    extra = ["postings kept at 0.2", "scored anew at 0.2"]
    lines = []
    for (name, k), (plain, *others) in of_line.items():
        (at,) = [row for row in others if row["share"] == 0.2]
        ratios = [row["of_without"] for row in others]
        lines.append([name, k, plain["ms"], *ratios, at["postings"] / plain["postings"], at["scored_anew"]])
    return table([*columns, *extra], lines)


if __name__ == "__main__":
    main()
