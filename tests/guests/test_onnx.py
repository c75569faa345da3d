"""The head as an ONNX graph, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

import sparsevec as sv
from sparsevec.errors import InvalidInput, NotFitted
from sparsevec.integrations.onnx import export
from sparsevec.vectors import Float32s

CLOSE = 1e-5


def run(path: Path, dense: Float32s) -> sv.SparseVectors:
    """What the graph makes of `dense`, as a batch of vectors."""
    session = onnxruntime.InferenceSession(path.read_bytes())
    indices, weights = session.run(["indices", "weights"], {"dense": dense})
    dimension = int(session.get_modelmeta().custom_metadata_map["dimension"])
    rows = [
        {int(i): float(w) for i, w in zip(*row, strict=True) if w > 0} for row in zip(indices, weights, strict=True)
    ]
    return sv.SparseVectors.from_rows(rows, dimension=dimension)


def off(ours: sv.SparseVectors, theirs: sv.SparseVectors) -> Any:
    """The largest difference of a weight in each row."""
    return abs(ours.to_scipy() - theirs.to_scipy()).max(axis=1).toarray().ravel()


@pytest.mark.parametrize("nnz", [None, 3])
@pytest.mark.parametrize("side", ["document", "query"])
def test_the_graph_gives_the_codes_of_the_encoder(
    encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path, side: Literal["document", "query"], nnz: int | None
) -> None:
    export(encoder, tmp_path / "head.onnx", side=side, nnz=nnz)
    ours = encoder.encode_document(dense, nnz) if side == "document" else encoder.encode_query(dense, nnz)
    differences = off(ours, run(tmp_path / "head.onnx", 7.5 * dense))
    assert (differences <= CLOSE).mean() > 0.99  # the rest: activations that are nearly tied
    assert np.median(differences) <= CLOSE / 10


def test_a_row_on_which_nothing_fires_has_one_weight(
    dense: Float32s, tmp_path: Path, encoder: sv.SparseEncoder
) -> None:
    mean = encoder.head("document").mean
    rows = np.stack([-mean, -dense.mean(axis=0)]).astype(np.float32)
    export(encoder, tmp_path / "head.onnx", side="document")
    assert off(encoder.encode_document(rows), run(tmp_path / "head.onnx", rows)).max() <= CLOSE


def test_a_batch_of_any_size_passes(dense: Float32s, tmp_path: Path, encoder: sv.SparseEncoder) -> None:
    export(encoder, tmp_path / "head.onnx", side="query")
    assert len(run(tmp_path / "head.onnx", dense[:1])) == 1
    assert len(run(tmp_path / "head.onnx", dense[:333])) == 333


def test_the_graph_says_whose_it_is(tmp_path: Path, encoder: sv.SparseEncoder) -> None:
    export(encoder, tmp_path / "head.onnx", side="query")
    said = onnxruntime.InferenceSession(str(tmp_path / "head.onnx")).get_modelmeta().custom_metadata_map
    assert said == {"fingerprint": encoder.fingerprint, "side": "query", "dimension": "256"}


def test_what_cannot_be_exported_is_refused(tmp_path: Path, encoder: sv.SparseEncoder) -> None:
    with pytest.raises(NotFitted):
        export(sv.SparseEncoder(8, 64), tmp_path / "x.onnx", side="query")
    with pytest.raises(InvalidInput, match="document"):
        export(encoder, tmp_path / "x.onnx", side="both")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="nnz"):
        export(encoder, tmp_path / "x.onnx", side="query", nnz=0)
    for nnz in ("8", 1.5, 257):
        with pytest.raises(InvalidInput, match="nnz"):
            export(encoder, tmp_path / "x.onnx", side="query", nnz=nnz)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="expected the path of a file"):
        export(encoder, None, side="query")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
