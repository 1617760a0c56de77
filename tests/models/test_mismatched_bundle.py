"""A bundle whose files are whole but do not belong together is refused when it is loaded, not when a text comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from models.bundle import SENTIMENT_LABELS, Bundle, BundleError, Task, write_manifest
from models.cli import models
from models.model_set import ModelSet
from models.predictor import Predictor
from models.serving import ModelService
from tests.models.tiny_bundle import TASKS, vocabulary, write_tiny_bundle

Change = Callable[[onnx.ModelProto], object]


def rewritten(directory: Path, change: Change, *, max_tokens: int = 24) -> Bundle:
    """A bundle whose manifest agrees with a graph that was changed."""
    manifest = write_tiny_bundle(directory, max_tokens=max_tokens).manifest
    graph = onnx.load(directory / "model.onnx")
    change(graph)
    onnx.save(graph, directory / "model.onnx")
    return write_manifest(directory, manifest)


def shorten_vocabulary(model: onnx.ModelProto) -> None:
    """As if the tokenizer were that of a model with more words."""
    for tensor in model.graph.initializer:
        if tensor.name == "embedding":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:-3], "embedding"))


def add_label_silently(model: onnx.ModelProto) -> None:
    """One label more than the manifest has, in an output that does not say how many it has."""
    for tensor in model.graph.initializer:
        if tensor.name == "topic_head":
            wide = np.pad(numpy_helper.to_array(tensor), ((0, 0), (0, 1)))
            tensor.CopyFrom(numpy_helper.from_array(wide, "topic_head"))
    head = next(node for node in model.graph.node if node.output[0] == "topic")
    head.output[0] = "wide"
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, dtype=np.bool_), "all"))
    model.graph.node.append(helper.make_node("Compress", ["wide", "all"], ["topic"], axis=1))
    for output in model.graph.output:
        if output.name == "topic":
            output.CopyFrom(helper.make_tensor_value_info("topic", TensorProto.FLOAT, ["batch", "labels"]))


def bound_positions(model: onnx.ModelProto) -> None:
    """A position for 16 tokens, as if `max_tokens` were that of another model."""
    positions = numpy_helper.from_array(np.zeros((16, 32), dtype=np.float32), "positions")
    model.graph.initializer.extend(
        [positions, *(numpy_helper.from_array(np.array(n, np.int64), f"n{n}") for n in (0, 1))]
    )
    embedded = next(node for node in model.graph.node if node.output[0] == "embedded")
    embedded.output[0] = "words"
    at = list(model.graph.node).index(embedded) + 1
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "n1"], ["length"]),
        helper.make_node("Range", ["n0", "length", "n1"], ["places"]),
        helper.make_node("Gather", ["positions", "places"], ["placed"]),
        helper.make_node("Add", ["words", "placed"], ["embedded"]),
    ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:at], *nodes, *rest[at:]])


def spoil_with_infinities(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "topic_head":
            broken = np.full_like(numpy_helper.to_array(tensor), np.inf)
            tensor.CopyFrom(numpy_helper.from_array(broken, "topic_head"))


def spoil_unknown_words(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "embedding":
            table = numpy_helper.to_array(tensor).copy()
            table[vocabulary()["[UNK]"]] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(table, "embedding"))


def without_unknown_token(directory: Path) -> Bundle:
    """A bundle whose tokenizer fails at the first word that it does not know."""
    manifest = write_tiny_bundle(directory).manifest
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    del tokenizer["model"]["vocab"]["[UNK]"]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return write_manifest(directory, manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shorten_vocabulary, r"tokenizer\.json has tokens up to number \d+, for which model\.onnx fails"),
        (add_label_silently, r"model\.onnx gives 'topic' the shape \(1, 4\) .* expected \(1, 3\)"),
        (spoil_with_infinities, r"model\.onnx gives 'topic' values that are not numbers"),
    ],
)
def test_files_that_do_not_belong_together_are_named(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Predictor(rewritten(tmp_path / "odd", change))


def test_a_limit_beyond_the_positions_of_the_model_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    fitting = rewritten(tmp_path / "fitting", bound_positions, max_tokens=16)
    Predictor(fitting).warm_up()
    with pytest.raises(BundleError, match=r"model\.onnx fails on 1 x 24 tokens"):
        Predictor(rewritten(tmp_path / "odd", bound_positions))


def test_a_tokenizer_without_its_unknown_token_does_not_go_into_service(tmp_path: Path, tiny: Bundle) -> None:
    odd = without_unknown_token(tmp_path / "odd")
    service = ModelService(ModelSet([Predictor(tiny, threads=1)]))
    with pytest.raises(BundleError, match=r"tokenizer\.json fails on a text: .*Missing \[UNK\] token"):
        service.swap(lambda: (ModelSet([Predictor(odd, threads=1)]), None))
    assert service.predict(["word that nobody knows"]).version_id == tiny.version_id


def test_a_model_without_an_answer_to_unknown_words_does_not_go_into_service(tmp_path: Path) -> None:
    odd = rewritten(tmp_path / "odd", spoil_unknown_words)
    with pytest.raises(BundleError, match=r"model\.onnx gives the text '.*' probabilities that are not numbers"):
        Predictor(odd).warm_up()


@pytest.mark.parametrize("command", ["evaluate", "compare", "explain", "calibrate"])
@pytest.mark.parametrize("damage", ["positions", "tokenizer"])
def test_a_command_says_in_one_line_what_does_not_fit(tmp_path: Path, tiny: Bundle, command: str, damage: str) -> None:
    place = tmp_path / "odd"
    odd = rewritten(place, bound_positions) if damage == "positions" else without_unknown_token(place)
    rows = [f"fraud {'the ' * n},{label}" for n, label in enumerate(["negative", "positive"] * 30)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    asked = {
        "evaluate": [odd.path, "--data", tmp_path / "data.csv"],
        "compare": [tiny.path, odd.path, "--data", tmp_path / "data.csv"],
        "explain": ["fraud " * 30, "--bundle", odd.path],
        "calibrate": [odd.path, "--data", tmp_path / "data.csv", "-o", tmp_path / "new"],
    }[command]
    result = CliRunner().invoke(models, [command, *map(str, asked)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    said = "fails on 1 x 24 tokens" if damage == "positions" else "tokenizer.json fails on a text"
    assert str(odd.path) in result.output and said in result.output


@pytest.mark.parametrize("change", [shorten_vocabulary, add_label_silently, spoil_with_infinities, bound_positions])
def test_a_mismatched_bundle_leaves_the_old_model_in_service(tmp_path: Path, tiny: Bundle, change: Change) -> None:
    odd = rewritten(tmp_path / "odd", change)
    service = ModelService(ModelSet([Predictor(tiny, threads=1)]))
    with pytest.raises(BundleError):
        service.swap(lambda: (ModelSet([Predictor(odd, threads=1)]), None))
    assert service.predict(["profit"]).version_id == tiny.version_id


def test_verify_says_in_one_line_that_the_limit_does_not_fit(tmp_path: Path) -> None:
    odd = rewritten(tmp_path / "odd", bound_positions)
    result = CliRunner().invoke(models, ["verify", str(odd.path)])
    assert result.exit_code == 1
    assert "fails on 1 x 24 tokens" in result.output
    assert isinstance(result.exception, SystemExit)


def test_labels_of_another_number_than_the_graph_says_are_named(tmp_path: Path) -> None:
    wide = Task(name="sentiment", labels=(*SENTIMENT_LABELS, "mixed"), output="sentiment")
    with pytest.raises(BundleError, match="task 'sentiment' has 4 labels"):
        Predictor(write_tiny_bundle(tmp_path / "odd", tasks=(wide, TASKS[1])))
