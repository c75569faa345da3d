"""How long encoding takes beside the matrix product that it cannot do without.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.encoding

"float32 product": rows times weights, and nothing else. "all exact": every activation in float64, then the
largest, which is what gives the same bits in any batch without a bound on the error of float32. "one row": by the
compiled loop, and as it is where numba is not installed. All are compared bit for bit, also with rows encoded one by
one. Times of the processor, medians of turns.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import typer

from benchmarks.timing import keep, medians, table
from sparsevec.dense import largest
from sparsevec.encoder.head import LOOPS, Cut, Projection, _sparse, encoded
from sparsevec.vectors import Float32s, SparseVectors

SIZES = ((384, 8192), (384, 16384), (1536, 8192), (1536, 16384))
ROWS, CUT = 1024, Cut(40, 0.02, 15)


def row(input_dim: int, dimension: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((dimension, input_dim), np.float32) / np.float32(input_dim**0.5)
    bias, mean = 0.1 * rng.standard_normal(dimension, np.float32), 0.01 * rng.standard_normal(input_dim, np.float32)
    projection, rows = Projection(weights, bias, mean), rng.standard_normal((ROWS, input_dim), np.float32)

    def exact() -> SparseVectors:
        parts = [largest(projection(rows[i : i + 512]), CUT.cap) for i in range(0, ROWS, 512)]
        return SparseVectors.concat([_sparse(*part, CUT, dimension) for part in parts])

    many = {
        "product": lambda: [rows[i : i + 512] @ weights.T for i in range(0, ROWS, 512)],
        "encoded": lambda: encoded(rows, projection, CUT),
        "exact": exact,
    }

    def without_numba(of: Float32s) -> SparseVectors:
        with patch.object(LOOPS, "_module", None):
            return encoded(of, projection, CUT)

    one = {
        "product": lambda: rows[:1] @ weights.T,
        "encoded": lambda: encoded(rows[:1], projection, CUT),
        "without_numba": lambda: without_numba(rows[:1]),
    }
    some = [rows[i : i + 1] for i in range(0, ROWS, 8)]
    alone = SparseVectors.concat([encoded(row, projection, CUT) for row in some])
    together, plain = encoded(rows, projection, CUT), SparseVectors.concat(list(map(without_numba, some)))
    same = together == exact() and alone == plain == together[::8]
    return {"input_dim": input_dim, "dimension": dimension, "rows": ROWS, "ms": medians(many), "same_bits": same} | {
        "one_ms": medians(one, 101)
    }


def main() -> None:
    LOOPS.load(wait=True)
    rows = [row(*size) for size in SIZES]
    columns = ["columns × dimensions", "float32 product, rows/s", "encoded, rows/s", "all exact, rows/s"]
    columns += ["encoded / product", "all exact / product", "one row, ms", "without numba, ms"]
    columns += ["its product, ms", "same bits"]
    lines = []
    for found in rows:
        ms, one = found["ms"], found["one_ms"]
        a_second = [1000 * ROWS / ms[name] for name in ("product", "encoded", "exact")]
        ratios = [ms["encoded"] / ms["product"], ms["exact"] / ms["product"]]
        size = f"{found['input_dim']} × {found['dimension']}"
        alone = (one[name] for name in ("encoded", "without_numba", "product"))
        lines.append([size, *a_second, *ratios, *alone, found["same_bits"]])
    keep("encoding", __doc__ or "", [table(columns, lines)], rows)


if __name__ == "__main__":
    typer.run(main)
