"""Products of matrices in 8-bit whole numbers, with scales that are fixed when the model is made.

A layer's input is rounded to u8 in one fixed range, its weights to s8 with a scale per output; the products are added
up in 32-bit whole numbers, exactly, and put back into fp32 with the layer's bias. No scale looks across texts, so a
text's result does not depend on its batch mates, as it does under the dynamic int8 that scales inputs per tensor.

The graph says so in ONNX's own QuantizeLinear and DequantizeLinear, which any provider understands; onnxruntime makes
one MatMulIntegerToFloat of such a product on a CPU.

Weights keep to 7 bits: without VNNI a processor adds two products in 16 bits, and 2 * 255 * 63 just fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

INPUT_STEPS = 255
WEIGHT_STEPS = 63


class Int8Error(ValueError):
    """A layer that was trained in 8 bits is not in the graph as it was."""


class Layer(NamedTuple):
    """A linear layer that was trained in 8 bits: `weight` float32[out, in], and the range that its input is cut to."""

    weight: NDArray[np.float32]
    low: float
    high: float


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point that map [low, high], which holds 0, to 0..255 so that 0 is exact."""
    scale = max(high - low, 1e-6) / INPUT_STEPS
    return float(np.float32(scale)), round(min(max(-low / scale, 0.0), INPUT_STEPS))


def to_int8(model: Any, layers: Sequence[Layer]) -> Any:
    """A copy of a fused fp32 model whose products with the weights of `layers` (each float32[out, in]) run in 8 bits.

    A weight is found by its numbers: a table of the graph may hold several of them side by side, as joined projections
    do. Raises Int8Error where one is missing, or where weights side by side have different ranges.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tables = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) == 2}
    left = list(layers)
    nodes: list[Any] = []
    for node in graph.node:
        table = tables.get(node.input[1]) if node.op_type == "MatMul" else None
        found = [] if table is None else _side_by_side(table, left)
        if table is None or not found:
            nodes.append(node)
            continue
        left = [layer for layer in left if all(layer is not taken for taken in found)]
        if len({(layer.low, layer.high) for layer in found}) > 1:
            raise Int8Error(f"the layers joined in {node.name} have different ranges of one input")
        nodes += _product(graph, node, table, found[0].low, found[0].high)
    if left:
        raise Int8Error(f"{len(left)} of {len(layers)} layers that were trained in 8 bits are not in the graph")
    kept = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in kept]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    return copy


def _side_by_side(table: NDArray[np.float32], layers: Sequence[Layer]) -> list[Layer]:
    """The layers whose weights make up the columns of `table`, left to right; none where they do not."""
    found: list[Layer] = []
    at = 0
    while at < table.shape[1]:
        for layer in layers:
            outputs, inputs = layer.weight.shape
            if inputs == table.shape[0] and np.array_equal(table[:, at : at + outputs].T, layer.weight):
                found.append(layer)
                at += outputs
                break
        else:
            return []
    return found


def _product(graph: Any, node: Any, table: NDArray[np.float32], low: float, high: float) -> list[Any]:
    """The product in ONNX's own terms: rounded, put back, multiplied."""
    name = node.output[0]
    scales = np.maximum(np.abs(table).max(axis=0), 1e-6) / np.float32(WEIGHT_STEPS)
    weights = np.clip(np.rint(table / scales), -WEIGHT_STEPS, WEIGHT_STEPS).astype(np.int8)
    scale, zero = affine(low, high)
    parts = {
        "weights": weights,
        "scales": scales.astype(np.float32),
        "zeros": np.zeros(table.shape[1], dtype=np.int8),
        "input_scale": np.array(scale, dtype=np.float32),
        "input_zero": np.array(zero, dtype=np.uint8),
    }
    for suffix, array in parts.items():
        graph.initializer.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("QuantizeLinear", [node.input[0], f"{name}.input_scale", f"{name}.input_zero"], f"{name}.rounded", {}),
        ("DequantizeLinear", [f"{name}.rounded", f"{name}.input_scale", f"{name}.input_zero"], f"{name}.input", {}),
        ("DequantizeLinear", [f"{name}.weights", f"{name}.scales", f"{name}.zeros"], f"{name}.weight", {"axis": 1}),
        ("MatMul", [f"{name}.input", f"{name}.weight"], name, {}),
    ]
    return [helper.make_node(kind, inputs, [output], name=output, **more) for kind, inputs, output, more in steps]
