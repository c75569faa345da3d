"""ONNX: the head of an encoder as one graph, for an embedding server to append to its model; run by onnxruntime.

python examples/guests/onnx_head.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

import sparsevec as sv
from sparsevec.integrations.onnx import export


def main() -> float:
    dense = np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32)
    encoder = sv.SparseEncoder(32, 1024).fit(dense, budget=sv.Budget(nnz=16))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "query.onnx"
        export(encoder, path, side="query")
        graph = onnxruntime.InferenceSession(path.read_bytes())
    indices, weights = graph.run(["indices", "weights"], {"dense": dense[:10]})
    rows = [
        {int(i): float(w) for i, w in zip(*row, strict=True) if w > 0} for row in zip(indices, weights, strict=True)
    ]
    theirs = sv.SparseVectors.from_rows(rows, dimension=encoder.output_dim)
    return float(np.median(abs(theirs.to_scipy() - encoder.encode_query(dense[:10]).to_scipy()).max(axis=1).toarray()))


if __name__ == "__main__":
    print(f"weights differ by {main():.1e}")
