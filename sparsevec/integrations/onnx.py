"""The encoder's head as one ONNX graph, for servers that embed: append it to the dense model. Extra `onnx`.

    export(encoder, "query.onnx", side="query")

Input `dense` (b, input_dim) float32; outputs `indices` (b, m) int64 and `weights` (b, m) float32, largest first, m the
most that a row can have; a weight of 0 is none. The arithmetic is float32 in the order of the runtime, ours is exact:
a weight may differ by 1e-5, and a dimension may be another where two activations, or an activation and the threshold,
are nearer than that. What a refined encoder fitted to one corpus is not in a graph: documents are those of the head.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np

from sparsevec.contract.checks import check_k
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest
from sparsevec.storage import as_path, whole_file

__all__ = ["export"]

_OPSET = 17
_STRONGEST = 32  # a threshold is relative to the length of this many largest activations


def export(
    encoder: SparseEncoder,
    path: str | os.PathLike[str],
    *,
    side: Literal["document", "query"],
    nnz: int | None = None,
) -> None:
    """Write the graph of one side, all or nothing; `nnz` keeps so many weights of each row instead of the budget's.

    Raises NotFitted, InvalidInput, StorageFailed, ClientMissing.
    """
    with guest("onnx", "onnx"):
        import onnx
    head = encoder.head(side)
    if nnz is not None and check_k(nnz, "nnz") > encoder.output_dim:
        raise InvalidInput(f"nnz must be in [1, {encoder.output_dim}], found {nnz!r}")
    cap = min(head.cut.cap if nnz is None else nnz, encoder.output_dim)
    threshold = head.cut.threshold if nnz is None else 0.0
    graph = _graph(onnx, head, cap, threshold, head.purse if nnz is None else None)
    model = onnx.helper.make_model(
        graph, producer_name="sparsevec", opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=8
    )
    config = {"fingerprint": encoder.fingerprint, "side": side, "dimension": str(encoder.output_dim)}
    onnx.helper.set_model_props(model, config)
    onnx.checker.check_model(model)
    whole_file(as_path(path), model.SerializeToString())


def _graph(onnx: Any, head: Any, cap: int, threshold: float, purse: Any) -> Any:
    node, info, kind = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto
    constants = {
        "mean": head.mean,
        "matrix": np.ascontiguousarray(head.weights.T),
        "bias": head.bias,
        "cap": np.array([cap], np.int64),
        "start": np.array([0], np.int64),
        "one_wide": np.array([1], np.int64),
        "strongest": np.array([min(cap, _STRONGEST)], np.int64),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "threshold": np.array(threshold, np.float32),
        "power": np.array(head.cut.sixteenths / 16, np.float32),
        "first": np.array([True] + [False] * (cap - 1)),
    }
    if purse is not None:
        constants |= {
            "prices": purse.prices,
            "cheap": purse.prices <= purse.dear,
            "spend": np.array(purse.spend, np.float64),
            "nothing": np.array(0, np.float64),
            "along": np.array(1, np.int64),
        }
    nodes = [
        node("ReduceL2", ["dense"], ["length"], axes=[1]),
        node("Div", ["dense", "length"], ["unit"]),
        node("Sub", ["unit", "mean"], ["centred"]),
        node("MatMul", ["centred", "matrix"], ["product"]),
        node("Add", ["product", "bias"], ["activations"]),
        node("TopK", ["activations", "cap"], ["values", "indices"], axis=1),
        node("Relu", ["values"], ["positive"]),
        # what is above the share `threshold` of the length of the largest; the first one always is
        node("Slice", ["positive", "start", "strongest", "one_wide"], ["strong"]),
        node("ReduceL2", ["strong"], ["strength"], axes=[1]),
        node("Mul", ["strength", "threshold"], ["bar"]),
        node("Greater", ["positive", "bar"], ["above"]),
        *(_bought(node) if purse is not None else [node("Identity", ["above"], ["bought"])]),
        node("Or", ["bought", "first"], ["kept"]),
        node("Where", ["kept", "positive", "zero"], ["cut"]),
        # nothing fired: weight 1 on the dimension that came nearest
        node("Greater", ["cut", "zero"], ["fired"]),
        node("Not", ["fired"], ["silent"]),
        node("And", ["silent", "first"], ["rescued"]),
        node("Where", ["rescued", "one", "cut"], ["strengths"]),
        node("Pow", ["strengths", "power"], ["powers"]),
        node("ReduceL2", ["powers"], ["norm"], axes=[1]),
        node("Div", ["powers", "norm"], ["weights"]),
    ]
    inputs = [info("dense", kind.FLOAT, ["b", len(head.mean)])]
    outputs = [info("indices", kind.INT64, ["b", cap]), info("weights", kind.FLOAT, ["b", cap])]
    held = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    return onnx.helper.make_graph(nodes, "sparsevec", inputs, outputs, held)


def _bought(node: Any) -> list[Any]:
    """As `encoder.head.Purse`: the largest activations until all is spent, without those that cost too much."""
    return [
        node("Gather", ["prices", "indices"], ["price"]),
        node("Gather", ["cheap", "indices"], ["affordable"]),
        node("Or", ["affordable", "first"], ["fair"]),
        node("Where", ["fair", "price", "nothing"], ["paid"]),
        node("CumSum", ["paid", "along"], ["spent"]),
        node("Greater", ["spent", "spend"], ["empty"]),
        node("Not", ["empty"], ["able"]),
        node("And", ["fair", "able"], ["willing"]),
        node("And", ["above", "willing"], ["bought"]),
    ]
