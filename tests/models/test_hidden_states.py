"""Words are scored on hidden states of every token, wherever the graph keeps its tensors."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.bundle import Bundle, write_manifest
from models.predictor import Predictor
from models.word_scores_fit import _last_hidden, add_word_scores
from tests.models.tiny_bundle import HIDDEN, NEGATIVE, PLAIN, tiny_model, write_tiny_bundle


def with_normalisations(*values: str) -> onnx.ModelProto:
    """The tiny model, in which these values go through a layer normalisation on their way."""
    model = tiny_model()
    ones = numpy_helper.from_array(np.ones(HIDDEN, np.float32), "ones")
    model.graph.initializer.append(ones)
    for value in values:
        at, node = next((at, n) for at, n in enumerate(model.graph.node) if n.output[0] == value)
        node.output[0] = f"{value}_plain"
        nodes = list(model.graph.node)
        nodes.insert(at + 1, helper.make_node("LayerNormalization", [f"{value}_plain", "ones"], [value]))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return model


def without_words(directory: Path, model: onnx.ModelProto, *, apart: bool = False) -> Bundle:
    """A bundle of this graph that scores no words yet."""
    manifest = msgspec.structs.replace(write_tiny_bundle(directory).manifest, word_scores=None)
    del model.graph.output[-1]
    more = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 1024} if apart else {}
    onnx.save(model, directory / "model.onnx", **more)
    return write_manifest(directory, manifest)


def texts() -> list[str]:
    rng = np.random.default_rng(4)
    return [" ".join(rng.permutation([*rng.choice(PLAIN, 6), *rng.choice(NEGATIVE, 2)])) for _ in range(80)]


def add(bundle: Bundle) -> tuple[Bundle, str]:
    said: list[str] = []
    return add_word_scores(bundle, texts(), task="sentiment", label="negative", say=said.append), "\n".join(said)


def test_a_normalisation_of_the_pooled_text_is_passed_over() -> None:
    assert _last_hidden(with_normalisations("hidden", "pooled"), {}) == "hidden"
    assert _last_hidden(with_normalisations("hidden"), {}) == "hidden"
    assert _last_hidden(with_normalisations("pooled"), {}) is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [((), "has no layer normalisation to read"), (("pooled",), "of every token, only of a whole text")],
)
def test_the_true_reason_is_said_where_there_are_no_hidden_states(
    tmp_path: Path, values: tuple[str, ...], reason: str
) -> None:
    bundle, said = add(without_words(tmp_path / "tiny", with_normalisations(*values)))
    assert bundle.manifest.word_scores is None
    assert reason in said


def test_a_head_with_a_normalisation_of_its_own_does_not_keep_words_from_being_scored(tmp_path: Path) -> None:
    bundle, said = add(without_words(tmp_path / "tiny", with_normalisations("hidden", "pooled")))
    assert bundle.manifest.word_scores is not None, said
    (words,) = Predictor(bundle, threads=1).predict(["the company fraud reports today"]).words
    assert words[0] == "fraud"


def test_tensors_in_another_file_stay_there_and_change_nothing(tmp_path: Path) -> None:
    whole, said = add(without_words(tmp_path / "whole", with_normalisations("hidden")))
    apart, said_apart = add(without_words(tmp_path / "apart", with_normalisations("hidden"), apart=True))
    assert (apart.external, said_apart) == ({"weights.bin"}, said)
    assert apart.manifest.word_scores == whole.manifest.word_scores is not None
    answers = [Predictor(each, threads=1).predict(texts()) for each in (whole, apart)]
    assert answers[0].words == answers[1].words
