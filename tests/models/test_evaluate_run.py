"""What a training run held back, measured in one go, with one bundle or two."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import onnx
import pytest
from click.testing import CliRunner

from models.bundle import Bundle, write_manifest
from models.cli import models
from models.training.recipe import Recipe
from models.training.run import HELD_BACK, RECIPE, HeldBack
from tests.models.tiny_bundle import TASKS, write_tiny_bundle

ROWS = [
    HeldBack("sentiment", "wire", "validation", 2, "record profit!"),
    HeldBack("sentiment", "wire", "validation", 0, "fraud lawsuit?"),
    HeldBack("sentiment", "bank", "measuring", 1, "a meeting is held in May"),
    HeldBack("topic", "wire", "validation", 0, "record profit!"),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    tasks = [{"name": task.name, "labels": task.labels, "sources": [{"path": "a.csv"}]} for task in TASKS]
    recipe = msgspec.convert({"name": "tiny", "base": "encoder", "tasks": tasks}, Recipe)
    (tmp_path / RECIPE).write_bytes(msgspec.json.encode(recipe))
    (tmp_path / HELD_BACK).write_bytes(b"\n".join(msgspec.json.encode(row) for row in ROWS))
    return tmp_path


@pytest.fixture
def contrary(tmp_path: Path) -> Path:
    """A bundle that takes good news for bad and the other way round."""
    bundle = write_tiny_bundle(tmp_path / "contrary")
    model = onnx.load(bundle.path / "model.onnx")
    (head,) = (tensor for tensor in model.graph.initializer if tensor.name == "sentiment_head")
    head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), "sentiment_head"))
    onnx.save(model, bundle.path / "model.onnx")
    return write_manifest(bundle.path, bundle.manifest).path


def call(*arguments: object, command: str = "evaluate") -> tuple[int, str]:
    result = CliRunner().invoke(models, [command, *map(str, arguments)])
    return result.exit_code, result.output


def compare(*arguments: object) -> tuple[int, str]:
    return call(*arguments, command="compare")


def test_every_data_set_of_a_run_is_measured_as_by_itself(tiny: Bundle, run: Path, tmp_path: Path) -> None:
    status, output = call(tiny.path, "--run", run, "--robustness", "--json")
    assert status == 0, output
    measured = {(each["result"]["task"], each["data"], each["use"]): each for each in json.loads(output)}
    assert {place: each["result"]["rows"] for place, each in measured.items()} == {
        ("sentiment", "wire", "validation"): 2,
        ("sentiment", "bank", "measuring"): 1,
        ("topic", "wire", "validation"): 1,
    }
    (tmp_path / "wire.csv").write_text("text,label\nrecord profit!,positive\nfraud lawsuit?,negative\n")
    alone = json.loads(call(tiny.path, "--data", tmp_path / "wire.csv", "--robustness", "--json")[1])
    noisy = alone.pop("robustness")
    wire = measured["sentiment", "wire", "validation"]
    assert (wire["result"], wire["robustness"]) == (alone, noisy)
    status, table = call(tiny.path, "--run", run, "--robustness")
    assert status == 0 and "sentiment, bank" in table and "points of accuracy" in table


def test_one_task_of_a_run_is_measured_where_it_is_named(tiny: Bundle, run: Path) -> None:
    for task, sets in (("topic", 1), ("sentiment", 2)):
        status, output = call(tiny.path, "--run", run, "--task", task, "--json")
        assert status == 0, output
        assert [each["result"]["task"] for each in json.loads(output)] == [task] * sets
    recipe = json.loads((run / RECIPE).read_bytes())
    recipe["tasks"][0]["labels"][0] = "grim"  # of the other task, which a bundle may lack
    (run / RECIPE).write_text(json.dumps(recipe))
    assert call(tiny.path, "--run", run, "--task", "topic")[0] == 0
    status, said = call(tiny.path, "--run", run, "--task", "intent")
    assert status != 0 and "no text of a task 'intent', but of sentiment, topic" in said


def test_what_is_said_of_a_file_is_refused_for_a_run(tiny: Bundle, run: Path) -> None:
    status, said = call(tiny.path, "--run", run, "--label", "bad=negative", "--text-column", "headline")
    assert status != 0 and "--text-column and --label: with --data only" in said


def test_what_is_no_run_or_has_other_labels_is_refused(tiny: Bundle, run: Path, tmp_path: Path) -> None:
    status, said = call(tiny.path, "--run", run, "--data", run / RECIPE)
    assert status != 0 and "either labelled texts with --data or a training run with --run" in said
    recipe = json.loads((run / RECIPE).read_bytes())
    recipe["tasks"][0]["labels"][0] = "grim"
    (run / RECIPE).write_text(json.dumps(recipe))
    status, said = call(tiny.path, "--run", run)
    assert status != 0 and "grim" in said and "negative" in said
    (run / HELD_BACK).write_bytes(b"")
    status, said = call(tiny.path, "--run", run)
    assert status != 0 and "held no texts back" in said
    (run / HELD_BACK).unlink()
    status, said = call(tiny.path, "--run", run)
    assert status != 0 and "no training run" in said and HELD_BACK in said


def test_two_bundles_are_compared_on_every_data_set_of_a_run(tiny: Bundle, contrary: Path, run: Path) -> None:
    status, output = compare(tiny.path, contrary, "--run", run, "--json")
    assert status == 0, output
    compared = {(each["result"]["task"], each["data"], each["use"]): each["result"] for each in json.loads(output)}
    assert set(compared) == {(row.task, row.source, row.use) for row in ROWS}
    wire, topic = compared["sentiment", "wire", "validation"], compared["topic", "wire", "validation"]
    assert (wire["rows"], wire["first"]["accuracy"], wire["second"]["accuracy"], wire["agreement"]) == (
        2,
        1.0,
        0.0,
        0.0,
    )
    assert (topic["rows"], topic["agreement"]) == (1, 1.0)
    alone = json.loads(call(contrary, "--run", run, "--json")[1])
    assert {(each["result"]["task"], each["data"], each["use"]): each["result"] for each in alone} == {
        place: each["second"] for place, each in compared.items()
    }
    status, table = compare(tiny.path, contrary, "--run", run)
    assert status == 0 and tiny.version_id in table and Bundle.load(contrary).version_id in table
    heads, *lines = (line.split() for line in table.split("\n\n")[1].splitlines())
    assert heads == ["use", "texts", "first", "second", "points", "same", "label"]
    assert ["sentiment,", "wire", "validation", "2", "1.0000", "0.0000", "-100.00", "0.00%"] in lines
    assert len(lines) == 3


def test_comparing_on_a_run_fails_where_any_data_set_is_too_far_apart(tiny: Bundle, contrary: Path, run: Path) -> None:
    same = compare(tiny.path, tiny.path, "--run", run, "--within", 0)
    assert same[0] == 0, same[1]
    for shape in ((), ("--json",)):
        status, said = compare(tiny.path, contrary, "--run", run, *shape, "--within", 0.3)
        assert status == 1
        assert "accuracy differs by more than 0.3 points: sentiment, wire (validation) by 100.00" in said
        assert "topic, wire (validation)" not in said
        assert compare(tiny.path, contrary, "--run", run, *shape, "--within", 100)[0] == 0
        assert compare(tiny.path, contrary, "--run", run, *shape, "--within", 0.3, "--task", "topic")[0] == 0


def test_a_comparison_on_a_run_refuses_what_measuring_on_it_does(tiny: Bundle, run: Path, tmp_path: Path) -> None:
    status, said = compare(tiny.path, tiny.path)
    assert status != 0 and "either labelled texts with --data or a training run with --run" in said
    status, said = compare(tiny.path, tiny.path, "--run", run, "--label-column", "mood")
    assert status != 0 and "--label-column: with --data only" in said
    lacking = write_tiny_bundle(tmp_path / "lacking", tasks=TASKS[1:])
    status, said = compare(tiny.path, lacking.path, "--run", run)
    assert status == 1
    assert f"for its task 'sentiment' the labels negative, neutral, positive; {lacking.version_id} has no such" in said
    assert compare(tiny.path, lacking.path, "--run", run, "--task", "topic")[0] == 0
