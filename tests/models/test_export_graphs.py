"""The graphs that export writes: fused where that is known, within their bounds of torch, and apart in a batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from tests.models.tiny_model import write_tokenizer
from tests.models.training import needs_training

needs_training()

import models.export
from models.export import export
from models.export_parity import Parity
from models.export_source import ExportError
from models.onnx_fusion import FUSED_AS
from models.predictor import Predictor
from models.verify import verify_predictor

pytestmark = pytest.mark.train

WORDS = ["orders", "rise", "profit", "falls", "after", "the", "meeting"]
TEXTS = ["orders rise", "profit falls after the meeting", "the meeting"]
SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    **{family: {**SIZES, "pad_token_id": 0} for family in ("roberta", "xlm-roberta", "camembert", "mpnet")},
    **{family: {**SIZES, "embedding_size": 64} for family in ("electra", "albert")},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128},
}
ATTENTION = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


def write_family(directory: Path, family: str) -> str:
    """A random classifier of two layers, as a Hugging Face directory."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    size = write_tokenizer(directory, WORDS)
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=size, max_position_embeddings=66, num_labels=3, **FAMILIES[family])
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    return str(directory)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_of_any_family_is_exported_and_fused_where_that_is_known(family: str, tmp_path: Path) -> None:
    source = write_family(tmp_path / "source", family)
    bundle = export(source, tmp_path / "bundle", precision="fp32", texts=TEXTS, say=lambda _: None).bundle
    assert verify_predictor(Predictor(bundle, threads=1, cache_entries=0)) == []
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / "bundle" / "model.onnx").graph.node)
    assert nodes["MultiHeadAttention"] == (2 if family in ATTENTION else 0)
    if family in FUSED_AS:
        assert (nodes["SkipLayerNormalization"], nodes["LayerNormalization"], nodes["BiasGelu"]) == (4, 1, 2)
    if family in ATTENTION:
        assert nodes["Softmax"] == 0


@pytest.mark.parametrize(
    ("precision", "found", "said"),
    [
        ("fp32", {"agreement": 0.9999}, "another label than torch"),
        ("fp32", {"largest_difference": 1.01e-3}, "logits differ from torch's by up to 0.001"),
        ("fp16", {"agreement": 0.9949}, "another label than torch on 0.51%"),
        ("int8", {"agreement": 0.9949}, "another label than torch on 0.51%"),
        ("fp32", {"alone_equal": 511}, "1 of 512 texts score differently alone and in a batch"),
        ("int8", {"alone_equal": 511}, "1 of 512 texts score differently alone and in a batch"),
    ],
)
def test_a_graph_beyond_its_bounds_is_refused(precision: Any, found: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        models.export._refuse(parity(**found), precision)


@pytest.mark.parametrize(
    ("precision", "found"),
    [
        ("fp32", {"largest_difference": 0.99e-3}),
        ("fp16", {"agreement": 0.995, "largest_difference": 0.5, "alone_equal": 0}),
        ("int8", {"agreement": 0.995, "largest_difference": 0.5}),
    ],
)
def test_a_graph_within_its_bounds_is_taken(precision: Any, found: dict[str, Any]) -> None:
    models.export._refuse(parity(**found), precision)


def parity(**found: Any) -> Parity:
    perfect = {"texts": 2000, "largest_difference": 0.0, "agreement": 1.0, "alone": 512, "alone_equal": 512}
    return Parity(**{**perfect, **found})


def test_a_graph_that_looks_across_the_texts_of_a_batch_makes_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_family(tmp_path / "source", "bert")
    fuse = models.export.fuse

    def looking(*arguments: Any, **options: Any) -> Any:
        """The graph with a ten-thousandth of the batch's largest logits added."""
        model = fuse(*arguments, **options)
        for node in model.graph.node:
            node.output[:] = ["apart" if name == "logits" else name for name in node.output]
        small = helper.make_tensor("small", onnx.TensorProto.FLOAT, [], [1e-4])
        model.graph.initializer.append(small)
        model.graph.node.extend(
            [
                helper.make_node("ReduceMax", ["apart"], ["largest"], axes=[0], keepdims=1),
                helper.make_node("Mul", ["largest", "small"], ["little"]),
                helper.make_node("Add", ["apart", "little"], ["logits"]),
            ]
        )
        return model

    monkeypatch.setattr(models.export, "fuse", looking)
    with pytest.raises(ExportError, match="3 of 3 texts score differently alone and in a batch"):
        export(source, tmp_path / "bundle", precision="fp32", texts=TEXTS, say=lambda _: None)
    assert {path.name for path in tmp_path.iterdir()} == {"source"}
