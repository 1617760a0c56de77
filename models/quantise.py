"""int8 weights that keep a text's result independent of its batch mates.

Linear layers become MatMulNBits (com.microsoft): 8-bit weights, one scale per 64 of them, activations quantised
by the kernel per row and block, so that nothing is scaled by what other texts of the batch hold. (Dynamic int8
scales activations per tensor, and moves a text's logits with its neighbours.) The joined projections to query, key
and value keep their activations in fp32 and a scale per 32 weights: attention multiplies their errors with each
other, and most of what quantising changes in the answers came from there. Embedding tables become int8 rows with
one scale each, looked up first and scaled after.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.onnx_fusion import JOINED

BLOCK = 64
FINE_BLOCK = 32
INT8_ACTIVATIONS, FP32_ACTIVATIONS = 4, 1
SMALLEST = 1 << 14
CONTRIB = "com.microsoft"


def quantise(model: Any) -> Any:
    """A copy of an fp32 ONNX model with its large MatMul weights and embedding tables in 8 bits."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[Any] = []
    added: list[Any] = []
    replaced: set[str] = set()
    for node in graph.node:
        weight = _weight(node, tables)
        if weight is None:
            nodes.append(node)
        elif node.op_type == "MatMul":
            nodes.append(_linear(node, weight, added))
            replaced.add(node.input[1])
        else:
            nodes.extend(_embedding(node, weight, added))
            replaced.add(node.input[0])
    used = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name in used or t.name not in replaced]
    names: set[str] = set()
    fresh = [t for t in added if not (t.name in names or names.add(t.name))]  # type: ignore[func-returns-value]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *fresh])
    if all(entry.domain != CONTRIB for entry in copy.opset_import):
        copy.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return copy


def quantise_blocks(weight: NDArray[np.float32], block: int = BLOCK) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Weights float32[K, N] to uint8[N, K / block, block] around 128 and scales float32[N * K / block]; K in whole
    blocks."""
    inner, outer = weight.shape
    blocks = np.ascontiguousarray(weight.T).reshape(outer, inner // block, block)
    scales = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127.0
    numbers = np.rint(blocks / scales[..., None]) + 128.0
    return np.clip(numbers, 1, 255).astype(np.uint8), scales.astype(np.float32).reshape(-1)


def quantise_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A table float32[rows, width] to int8 of the same shape and scales float32[rows, 1]."""
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127.0
    return np.rint(table / scales).astype(np.int8), scales.astype(np.float32)


def _weight(node: Any, tables: dict[str, Any]) -> NDArray[np.float32] | None:
    """The weight of a node worth quantising, else None."""
    if node.op_type not in ("MatMul", "Gather"):
        return None
    tensor = tables.get(node.input[1 if node.op_type == "MatMul" else 0])
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
        return None
    if tensor.dims[0] * tensor.dims[1] < SMALLEST:
        return None
    if node.op_type == "MatMul" and tensor.dims[0] % BLOCK:
        return None
    return np.asarray(numpy_helper.to_array(tensor))


def _linear(node: Any, weight: NDArray[np.float32], added: list[Any]) -> Any:
    name = node.input[1]
    fine = name.endswith(JOINED)
    block = FINE_BLOCK if fine else BLOCK
    blocks, scales = quantise_blocks(weight, block)
    added += [
        numpy_helper.from_array(blocks, f"{name}.q8"),
        numpy_helper.from_array(scales, f"{name}.scales"),
    ]
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{name}.q8", f"{name}.scales"],
        list(node.output),
        name=f"{node.name}.q8",
        domain=CONTRIB,
        K=weight.shape[0],
        N=weight.shape[1],
        bits=8,
        block_size=block,
        accuracy_level=FP32_ACTIVATIONS if fine else INT8_ACTIVATIONS,
    )


def _embedding(node: Any, table: NDArray[np.float32], added: list[Any]) -> list[Any]:
    name, ids, out = node.input[0], node.input[1], node.output[0]
    numbers, scales = quantise_rows(table)
    added += [
        numpy_helper.from_array(numbers, f"{name}.q8"),
        numpy_helper.from_array(scales, f"{name}.scales"),
    ]
    return [
        helper.make_node("Gather", [f"{name}.q8", ids], [f"{out}.q8"], name=f"{out}.row", axis=0),
        helper.make_node("Cast", [f"{out}.q8"], [f"{out}.raw"], name=f"{out}.cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scales", ids], [f"{out}.scale"], name=f"{out}.of", axis=0),
        helper.make_node("Mul", [f"{out}.raw", f"{out}.scale"], [out], name=f"{out}.scaled"),
    ]
