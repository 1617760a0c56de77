"""What a run leaves behind for people: reports, pictures, curves and mistakes; and what its settings do to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.models.tiny_model import write_encoder
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

TEXTS = {
    "billing": [f"the invoice of {month} has a wrong amount" for month in ("may", "june", "july", "march", "april")],
    "login": [f"i cannot sign in on my {device}" for device in ("phone", "laptop", "tablet", "watch", "desktop")],
}
UNSURE = [
    (f"{word} {text}", label)
    for word in ("perhaps", "it seems", "i think")
    for text, label in (("this was billed twice", "billing"), ("my password is refused", "login"))
]
MEASURED = [("another invoice with a wrong amount", "billing"), ("sign in fails on the desktop", "login")]
EPOCHS = 3


def write_rows(file: Path, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
    file.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, texts to learn from and texts that are only measured on."""
    directory = tmp_path_factory.mktemp("desk")
    write_encoder(directory / "base", [text for texts in TEXTS.values() for text in texts])
    write_rows(directory / "learned.jsonl", [(text, label) for label, texts in TEXTS.items() for text in texts])
    write_rows(directory / "unsure.jsonl", UNSURE)
    write_rows(directory / "measured.jsonl", MEASURED)
    return directory


def write_recipe(desk: Path, file: Path, **changes: object) -> Path:
    sources = [
        {"path": "learned.jsonl", "name": "desk"},
        {"path": "unsure.jsonl", "label_smoothing": 0.2},
        {"path": "measured.jsonl", "name": "desk / kept back", "use": "measure"},
    ]
    recipe = {
        "name": "desk",
        "base": str(desk / "base"),
        "tasks": [{"name": "intent", "labels": list(TEXTS), "sources": sources}],
        "epochs": EPOCHS,
        "batch": 4,
        "validation": 0.3,
        "split": "random",
        "max_tokens": 32,
        "train_tokens": 32,
        "precision": "fp32",
        "optimiser": {"rate": 1.0e-9, "head_rate": 1.0e-9},
        **changes,
    }
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(desk: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run and what it said."""
    directory = tmp_path_factory.mktemp("finished")
    recipe = write_recipe(desk, directory / "recipe.yaml")
    done = bearwire("models", "train", str(recipe), "--data", str(desk), "-o", str(directory / "run"), "--threads", "1")
    assert done.exit_code == 0, done.output
    return directory / "run", done.output


def test_every_epoch_has_a_classification_report(finished: tuple[Path, str]) -> None:
    run, said = finished
    for epoch in range(1, EPOCHS + 1):
        report = said.partition(f"epoch {epoch}, intent\n")[2]
        assert [line.split()[0] for line in report.splitlines()[:4]] == ["precision", "billing", "login", "accuracy"]
    lines = (run / "member-0" / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    assert all(entry["intent"]["per_label"].keys() == TEXTS.keys() for entry in entries)


def test_tensorboard_finds_the_loss_and_the_validation_of_every_epoch(finished: tuple[Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[0] / "member-0"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "train/loss",
        "validation/intent/accuracy",
        "validation/intent/macro_f1",
    }
    assert [point.step for point in events.Scalars("validation/intent/accuracy")] == [1, 2, 3]


def test_at_the_end_stand_reports_pictures_and_mistakes(finished: tuple[Path, str]) -> None:
    run, said = finished
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert {(entry["data"], entry["use"]) for entry in report["results"]} == {
        ("desk", "validation"),
        ("unsure.jsonl", "validation"),
        ("desk / kept back", "measuring"),
    }
    assert "intent on desk / kept back (measuring)" in said
    for picture in ("intent.png", "intent-unsure.jsonl-validation.png", "intent-desk-kept-back.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG"), picture
    wrong = sum(
        count
        for entry in report["results"]
        for true, row in enumerate(entry["result"]["confusion"])
        for answer, count in enumerate(row)
        if answer != true
    )
    mistakes = [json.loads(line) for line in (run / "mistakes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(mistakes) == wrong > 0
    assert all(mistake["true"] != mistake["said"] and mistake["text"] for mistake in mistakes)
    sure = [mistake["probability"] for mistake in mistakes]
    assert sure == sorted(sure, reverse=True)


def test_a_task_that_nothing_is_measured_on_is_said_to_be_judged_by_validation_alone(
    finished: tuple[Path, str], desk: Path, tmp_path: Path
) -> None:
    warning = "intent: reported on validation texts alone"
    assert warning not in finished[1]
    assert json.loads((finished[0] / "report.json").read_text(encoding="utf-8"))["validation_only"] == []
    task = {"name": "intent", "labels": list(TEXTS), "sources": [{"path": "learned.jsonl"}]}
    recipe = write_recipe(desk, tmp_path / "recipe.yaml", epochs=1, tasks=[task])
    done = bearwire("models", "train", str(recipe), "--data", str(desk), "-o", str(tmp_path / "run"), "--threads", "1")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-2].startswith(warning)
    assert json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["validation_only"] == ["intent"]


def test_the_picture_has_the_counts_and_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    from models.training.report import draw_task

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), save(figure, *a, **k)))
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.65, 0.35]])
    draw_task(tmp_path / "a.png", "intent", ("billing", "login"), probabilities, np.array([0, 0, 1, 1]))
    matrix, curve = drawn[0].axes
    assert {(text.get_position(), text.get_text()) for text in matrix.texts} == {
        ((0, 0), "2"),
        ((1, 1), "1"),
        ((0, 1), "1"),
    }
    points = np.asarray(curve.lines[1].get_xydata())
    assert points == pytest.approx(np.array([[0.65, 0.5], [0.95, 1.0]]))


def test_a_run_that_has_not_finished_is_not_exported(finished: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    result = bearwire("models", "export", str(tmp_path / "run"), "-o", str(tmp_path / "bundle"))
    assert result.exit_code == 1
    assert "has not finished; run `bearwire models train` again" in result.output
    assert not (tmp_path / "bundle").exists()


def test_labels_weigh_what_the_recipe_says_and_rare_ones_more_where_weights_are_balanced(desk: Path) -> None:
    import torch

    from models.training.batches import Batch
    from models.training.loop import load_data
    from models.training.losses import LossFunction
    from models.training.recipe_file import parse_recipe

    write_rows(desk / "uneven.jsonl", [(f"{word} invoice", "billing") for word in "abcdefghijklmnop"])
    with (desk / "uneven.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": f"{word} login", "label": "login"}) + "\n" for word in "abcd")
    task = {"name": "intent", "labels": list(TEXTS), "sources": [{"path": "uneven.jsonl"}]}
    weights = {}
    for kind in ("none", "balanced", "own"):
        said = {"login": 3.0} if kind == "own" else kind
        content = {"name": "desk", "base": "x", "validation": 0.01, "tasks": [{**task, "class_weights": said}]}
        recipe = parse_recipe(content)
        data = load_data(recipe, {"data": desk}, lambda _: None)
        label = torch.tensor([0, 1])
        batch = Batch(label, label, torch.zeros(2, dtype=torch.int64), label, label, torch.ones(2))
        each = LossFunction(recipe, data.splits)({"intent": torch.zeros(2, 2)}, batch)
        weights[kind] = float(each[1] / each[0])
    assert weights["none"] == pytest.approx(1.0)
    assert weights["own"] == pytest.approx(3.0)
    counts = data.splits["intent"].report.train
    assert weights["balanced"] == pytest.approx(counts["billing"] / counts["login"])
