"""int8 weights that keep a text's result independent of its batch mates.

Linear layers and embedding tables are stored in 8 bits, one scale per 16 numbers, and are put back into fp32 when the
graph is loaded: the runtime folds Cast, Mul and Reshape of constants. So the file is a quarter of fp32's, and what
runs is fp32 arithmetic, in which nothing is scaled by what other texts of the batch hold. (Dynamic int8 scales
activations per tensor, and moves a text's logits with its neighbours. Eight-bit activations scaled by row and block
are as independent, but changed one label in a hundred, and were slower than fp32 where the processor has AMX.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 16
SMALLEST = 1 << 14


def quantise(model: Any) -> Any:
    """A copy of an fp32 ONNX model with its large MatMul weights and embedding tables in 8 bits."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    axes = {name: axis for node in graph.node for name, axis in _stored(node, tables)}
    nodes: list[Any] = []
    tensors = [tensor for tensor in graph.initializer if tensor.name not in axes]
    for name, axis in axes.items():
        table = np.asarray(numpy_helper.to_array(tables[name]))
        numbers, scales = quantise_blocks(table, axis)
        shape = np.array(table.shape, dtype=np.int64)
        for suffix, part in (("q8", numbers), ("scales", scales), ("shape", shape)):
            tensors.append(numpy_helper.from_array(part, f"{name}.{suffix}"))
        nodes += [
            _cast(f"{name}.q8", f"{name}.raw"),
            _cast(f"{name}.scales", f"{name}.step"),
            helper.make_node("Mul", [f"{name}.raw", f"{name}.step"], [f"{name}.blocks"], name=f"{name}.scaled"),
            helper.make_node("Reshape", [f"{name}.blocks", f"{name}.shape"], [name], name=f"{name}.whole"),
        ]
    nodes += graph.node
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    return copy


def quantise_blocks(table: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """A table float32[n, m] in blocks of 16 along `axis`, whose length they divide.

    For axis 0: numbers int8[n / 16, 16, m] and scales float16[n / 16, 1, m]; for axis 1: int8[n, m / 16, 16] and
    float16[n, m / 16, 1]. The product is the table, within half a scale.
    """
    rows, columns = table.shape
    shape = (rows // BLOCK, BLOCK, columns) if axis == 0 else (rows, columns // BLOCK, BLOCK)
    blocks = table.reshape(shape)
    largest = np.abs(blocks).max(axis=axis + 1, keepdims=True)
    scales = (np.maximum(largest, 1e-3) / 127.0).astype(np.float16)
    numbers = np.rint(blocks / scales.astype(np.float32))
    return np.clip(numbers, -127, 127).astype(np.int8), scales


def _stored(node: Any, tables: dict[str, Any]) -> list[tuple[str, int]]:
    """The weight of a node that is worth storing in 8 bits, and the axis that its sums run along."""
    if node.op_type == "MatMul":
        name, axis = node.input[1], 0
    elif node.op_type == "Gather":
        name, axis = node.input[0], 1
    else:
        return []
    tensor = tables.get(name)
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
        return []
    return [(name, axis)] if is_stored(tuple(tensor.dims), axis) else []


def is_stored(shape: Sequence[int], axis: int) -> bool:
    """Whether a table of two dimensions is large enough to be worth 8 bits, and divides into blocks along `axis`."""
    return shape[0] * shape[1] >= SMALLEST and shape[axis] % BLOCK == 0


def _cast(source: str, target: str) -> Any:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=onnx.TensorProto.FLOAT)
