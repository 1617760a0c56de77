"""A small real bundle for tests: a word tokenizer and a one-layer transformer in ONNX, built in milliseconds.

Its words carry sentiment in two fixed embedding dimensions, so that predictions make sense to a reader:
"loss" and "lawsuit" are negative, "profit" and "record" positive, and earnings words point at Earnings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.bundle import SENTIMENT_LABELS, Bundle, DataSource, Manifest, Task, WordScores, write_manifest

HIDDEN = 32
NEGATIVE = ("loss", "lawsuit", "fraud", "plunges", "bankrupt")
POSITIVE = ("profit", "record", "beats", "soars", "wins")
EARNINGS = ("profit", "loss", "quarter", "earnings", "guidance")
LEGAL = ("lawsuit", "fraud", "court", "settles")
PLAIN = tuple(
    "the a of in company shares new product launch says and reports on with today its for market".split()  # noqa: SIM905
)
TOPICS = ("Earnings", "Legal", "Other")
TASKS = (
    Task(name="sentiment", labels=SENTIMENT_LABELS, output="sentiment", temperature=1.25),
    Task(name="topic", labels=TOPICS, output="topic", temperature=0.8),
)
WORD_SCORES = WordScores(
    task="sentiment", label="negative", output="negative_words", drop=0.5, drop_others=0.1, texts=40
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def vocabulary() -> dict[str, int]:
    words = dict.fromkeys([*SPECIAL, *NEGATIVE, *POSITIVE, *EARNINGS, *LEGAL, *PLAIN, ".", ",", "!"])
    return {word: index for index, word in enumerate(words)}


def write_tiny_bundle(
    directory: Path,
    *,
    tasks: tuple[Task, ...] = TASKS,
    version: str = "1",
    max_tokens: int = 24,
    seed: int = 0,
    languages: tuple[str, ...] = ("en",),
    overflowing: str | None = None,
) -> Bundle:
    """`overflowing` is a word on which the model overflows: no number comes out for a text that has it."""
    directory.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(directory / "tokenizer.json"))
    onnx.save(tiny_model(seed, overflowing), directory / "model.onnx")
    (directory / "NOTICE").write_text("Made by the tests.\n", encoding="utf-8")
    return write_manifest(
        directory,
        Manifest(
            name="tiny",
            version=version,
            tasks=tasks,
            max_tokens=max_tokens,
            languages=languages,
            precision="fp32",
            data=(DataSource(name="words of the tests", licence="Apache-2.0", rows=40),),
            word_scores=WORD_SCORES
            if any(task.name == "sentiment" and "negative" in task.labels for task in tasks)
            else None,
        ),
    )


def write_apart(directory: Path, **options: Any) -> Bundle:
    """The same with its larger tensors in a file of their own, weights.bin."""
    manifest = write_tiny_bundle(directory, **options).manifest
    model = onnx.load(directory / "model.onnx")
    onnx.save(model, directory / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=1024)
    return write_manifest(directory, manifest)


def tiny_model(seed: int = 0, overflowing: str | None = None) -> onnx.ModelProto:
    weights = _weights(seed)
    if overflowing is not None:
        weights["embedding"][vocabulary()[overflowing]] = np.inf
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "query"], ["q"]),
        helper.make_node("MatMul", ["embedded", "key"], ["k"]),
        helper.make_node("Transpose", ["k"], ["k_t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k_t"], ["affinity"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis_1"], ["mask_row"]),
        helper.make_node("Sub", ["mask_row", "one"], ["mask_shift"]),
        helper.make_node("Mul", ["mask_shift", "far"], ["mask_bias"]),
        helper.make_node("Add", ["affinity", "mask_bias"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "embedded"], ["mixed"]),
        helper.make_node("Add", ["mixed", "embedded"], ["hidden"]),
        helper.make_node("ReduceSum", ["mask_row", "axis_2"], ["count"], keepdims=1),
        helper.make_node("Div", ["mask_row", "count"], ["share"]),
        helper.make_node("MatMul", ["share", "hidden"], ["pooled_row"]),
        helper.make_node("Squeeze", ["pooled_row", "axis_1"], ["pooled"]),
        helper.make_node("MatMul", ["hidden", "grimness"], ["token_scores"]),
        helper.make_node("Squeeze", ["token_scores", "axis_2"], ["negative_words"]),
        helper.make_node("MatMul", ["pooled", "sentiment_head"], ["sentiment"]),
        helper.make_node("MatMul", ["pooled", "topic_head"], ["topic"]),
    ]
    tensors = {
        **weights,
        "axis_1": np.array([1], dtype=np.int64),
        "axis_2": np.array([2], dtype=np.int64),
        "one": np.array(1, dtype=np.float32),
        "far": np.array(1e9, dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("sentiment", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("topic", TensorProto.FLOAT, ["batch", len(TOPICS)]),
            helper.make_tensor_value_info("negative_words", TensorProto.FLOAT, ["batch", "seq"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _weights(seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    words = vocabulary()
    embedding = rng.normal(0, 0.3, (len(words), HIDDEN))
    embedding[:, :4] = 0
    for dimension, group in enumerate((NEGATIVE, POSITIVE, EARNINGS, LEGAL)):
        embedding[[words[word] for word in group], dimension] = 2
    sentiment = rng.normal(0, 0.02, (HIDDEN, 3))
    sentiment[:2] = [[6, 0, -6], [-6, 0, 6]]
    topic = rng.normal(0, 0.02, (HIDDEN, len(TOPICS)))
    topic[2:4] = [[6, 0, -2], [0, 6, -2]]
    arrays = {
        "embedding": embedding,
        "query": rng.normal(0, 0.3, (HIDDEN, HIDDEN)),
        "key": rng.normal(0, 0.3, (HIDDEN, HIDDEN)),
        "sentiment_head": sentiment,
        "topic_head": topic,
        "grimness": sentiment[:, :1] - sentiment[:, 2:],
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _tokenizer() -> Tokenizer:
    words = vocabulary()
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    )
    return tokenizer
