"""From a traced graph to a fused one: attention, layer norms and activations as single kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

FUSED_AS = dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"), "bert")


def fuse(file: Path, *, architecture: str, heads: int, width: int) -> Any:
    """The model in `file` with onnxruntime's transformer fusions; as it is where the architecture has none.

    Attention becomes MultiHeadAttention, which leaves the projections as products of matrices of their own that
    can be quantised; the three that share an input become one.
    """
    if architecture not in FUSED_AS:
        return onnx.load(file)
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions(FUSED_AS[architecture])
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False
    optimised = optimize_model(
        str(file),
        FUSED_AS[architecture],
        num_heads=heads,
        hidden_size=width,
        optimization_options=options,
        opt_level=0,
    )
    model = optimised.model
    _join_projections(model.graph, width)
    return model


def _join_projections(graph: Any, width: int) -> None:
    """Query, key and value of one input in one product [width, 3 * width], then split."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    joined: dict[int, list[Any]] = {}
    gone: set[int] = set()
    for attention in graph.node:
        if attention.op_type != "MultiHeadAttention":
            continue
        parts = [makers.get(name) for name in attention.input[:3]]
        if any(part is None or part.op_type != "MatMul" or part.input[1] not in tables for part in parts):
            continue
        products: list[Any] = [part for part in parts if part is not None]
        if len({part.input[0] for part in products}) != 1:
            continue
        weights = [numpy_helper.to_array(tables[part.input[1]]) for part in products]
        if any(weight.shape != (width, width) for weight in weights):
            continue
        name = f"{attention.name}.qkv"
        sizes = numpy_helper.from_array(np.array([width] * 3, dtype=np.int64), f"{name}.sizes")
        graph.initializer.extend([numpy_helper.from_array(np.concatenate(weights, axis=1), name), sizes])
        outputs = [part.output[0] for part in products]
        joined[id(products[0])] = [
            helper.make_node("MatMul", [products[0].input[0], name], [f"{name}.out"], name=f"{name}.product"),
            helper.make_node("Split", [f"{name}.out", sizes.name], outputs, name=f"{name}.split", axis=2),
        ]
        gone |= {id(part) for part in products}
    nodes: list[Any] = []
    for node in graph.node:
        if id(node) in joined:
            nodes += joined[id(node)]
        elif id(node) not in gone:
            nodes.append(node)
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    used = {name for node in copies for name in node.input}
    kept = []
    for tensor in graph.initializer:
        if tensor.name in used:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            kept.append(copy)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(copies)
    graph.initializer.extend(kept)


def plain_normalisations(model: Any) -> Any:
    """A copy of `model` with its skip normalisations taken apart.

    onnxruntime's fused kernel for these takes several times as long on a CPU as an addition and a normalisation.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[Any] = []
    for node in copy.graph.node:
        if node.op_type != "SkipLayerNormalization" or any(node.output[1:]):
            nodes.append(node)
            continue
        product, skip, weight, shift, *bias = node.input
        name = node.output[0]
        if bias:
            nodes.append(helper.make_node("Add", [product, bias[0]], [f"{name}.biased"]))
            product = f"{name}.biased"
        epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-12)
        nodes.append(helper.make_node("Add", [product, skip], [f"{name}.sum"]))
        inputs = [f"{name}.sum", weight, shift]
        nodes.append(helper.make_node("LayerNormalization", inputs, [name], axis=-1, epsilon=epsilon))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
