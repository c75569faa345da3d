"""How long it takes to make `SparseVectors` and to take them apart, beside what others do.

    python -m benchmarks.conversions

100,000 rows of 32 weights over 8,192 dimensions; dense: 256 rows with 64 non-zeros; rows: 5,000. Every batch that is
made is compared with the one it was made from. Times of the processor, medians of turns, one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import typer

from benchmarks.timing import keep, medians, table
from benchmarks.workloads import SHAPES, made
from sparsevec.vectors import Float32s, SparseVectors

Ways = dict[str, tuple[str, Callable[[], Any], str, Callable[[], Any]]]
"""What: ours and the peer, each with its name."""


def dense_ways() -> Ways:
    ways: Ways = {}
    for dimension in (4096, 8192, 30522):
        dense = some_dense(dimension)
        tensor = torch.from_numpy(dense)
        takes: dict[str, Callable[[], SparseVectors]] = {
            "from_dense": partial(SparseVectors.from_dense, dense),
            "from_torch": partial(SparseVectors.from_torch, tensor),
        }
        for name, take in takes.items():
            assert np.array_equal(take().to_dense(), dense)
            ways[f"{name}, 256 × {dimension}"] = (name, take, "torch.nonzero", partial(torch.nonzero, tensor))
    return ways


def some_dense(dimension: int) -> Float32s:
    rng = np.random.default_rng(0)
    dense = np.zeros((256, dimension), np.float32)
    for row in dense:
        row[rng.choice(dimension, 64, replace=False)] = rng.random(64) + 0.1
    return dense


def sparse_ways() -> Ways:
    vectors, _ = made(SHAPES["codes"], 100_000, 1)
    some, csr = vectors[:5000], vectors.to_scipy()
    coo = csr.tocoo()
    order = np.random.default_rng(0).permutation(vectors.nnz)
    mixed = sp.coo_array((coo.data[order], (coo.row[order], coo.col[order])), shape=coo.shape)
    indptr, indices, values = (np.array(part) for part in (vectors.indptr, vectors.indices, vectors.values))
    dicts, pairs, rows = [dict(row) for row in some], [list(row) for row in some], list(some)
    picked, parts = (
        np.random.default_rng(1).permutation(len(vectors)),
        [vectors[i : i + 1000] for i in range(0, 10**5, 1000)],
    )

    def copied() -> Any:
        return [part.copy() for part in (indptr, indices, values)]

    def by_rows(given: list[Any]) -> Callable[[], SparseVectors]:
        assert SparseVectors.from_rows(given, dimension=8192) == some
        return lambda: SparseVectors.from_rows(given, dimension=8192)

    def arrays() -> Any:
        return [np.fromiter(row.keys(), np.int64) for row in dicts], [
            np.fromiter(row.values(), np.float64) for row in dicts
        ]

    def sliced() -> Any:
        return [(csr.indices[a:b], csr.data[a:b]) for a, b in pairwise(csr.indptr.tolist())]

    def joined() -> Any:
        return [np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "values")]

    for matrix in (csr, coo, mixed):
        assert SparseVectors.from_scipy(matrix) == vectors
    assert SparseVectors.concat(parts) == vectors
    return {
        "constructor": ("SparseVectors", lambda: SparseVectors(indptr, indices, values, 8192), "copies", copied),
        "from_scipy, CSR": ("from_scipy", lambda: SparseVectors.from_scipy(csr), "copy", csr.copy),
        "from_scipy, COO in order": ("from_scipy", lambda: SparseVectors.from_scipy(coo), "tocsr", coo.tocsr),
        "from_scipy, COO shuffled": ("from_scipy", lambda: SparseVectors.from_scipy(mixed), "tocsr", mixed.tocsr),
        "from_rows, dicts": ("from_rows", by_rows(dicts), "np.fromiter a row", arrays),
        "from_rows, pairs": ("from_rows", by_rows(pairs), "np.fromiter a row", arrays),
        "from_rows, rows of a batch": ("from_rows", by_rows(rows), "np.fromiter a row", arrays),
        "rows by number": ("[rows]", lambda: vectors[picked], "scipy [rows]", lambda: csr[picked]),
        "slices of 1,000, all": ("[i:j]", lambda: [vectors[i : i + 1000] for i in range(0, 10**5, 1000)],
                                 "scipy [i:j]", lambda: [csr[i : i + 1000] for i in range(0, 10**5, 1000)]),
        "iteration": ("for row in", lambda: [None for _ in vectors], "slices of the arrays", sliced),
        "concat of 100": ("concat", lambda: SparseVectors.concat(parts), "np.concatenate", joined),
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    rows, lines = [], []
    for what, (ours, our_way, theirs, their_way) in {**dense_ways(), **sparse_ways()}.items():
        ms = medians({ours: our_way, theirs: their_way}, 15)
        rows.append({"what": what, "ours": ours, "ours_ms": ms[ours], "peer": theirs, "peer_ms": ms[theirs]})
        n = 5000 if ours == "from_rows" else 256 if "256" in what else 100_000
        lines.append([what, ms[ours], theirs, ms[theirs], ms[ours] / ms[theirs], 1000 * ms[ours] / n])
    columns = ["what", "ours, ms", "beside", "ms", "ours / beside", "ours, µs a row"]
    keep("conversions", __doc__ or "", [table(columns, lines)], rows)


if __name__ == "__main__":
    typer.run(main)
