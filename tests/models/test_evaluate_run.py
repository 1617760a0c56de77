"""What a training run held back, measured in one go."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from models.bundle import Bundle
from models.cli import models
from models.training.recipe import Recipe
from models.training.run import HELD_BACK, RECIPE, HeldBack
from tests.models.tiny_bundle import TASKS

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


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(models, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.output


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
