"""Training that is killed without a warning goes on where it was, and comes out as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.models.tiny_model import write_encoder
from tests.models.training import needs_training
from tests.shell.commands import bearwire, process_arguments

needs_training()
pytestmark = pytest.mark.train

TEXTS = {
    "billing": [f"the invoice of {month} has a wrong amount" for month in ("may", "june", "july", "march", "april")],
    "login": [f"i cannot sign in on my {device}" for device in ("phone", "laptop", "tablet", "watch", "desktop")],
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members and a student that learns from them, so that a run has three parts to be killed in."""
    directory = tmp_path_factory.mktemp("desk")
    write_encoder(directory / "base", [text for texts in TEXTS.values() for text in texts])
    rows = [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts]
    (directory / "learned.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content = {
        "name": "desk",
        "base": str(directory / "base"),
        "tasks": [{"name": "intent", "labels": list(TEXTS), "sources": [{"path": "learned.jsonl"}]}],
        "epochs": 3,
        "batch": 4,
        "validation": 0.3,
        "split": "random",
        "max_tokens": 32,
        "train_tokens": 32,
        "precision": "fp32",
        "members": 2,
        "distillation": {"epochs": 2},
        "augmentation": {"typos": 0.5},
    }
    (directory / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return directory / "recipe.yaml"


def command(recipe: Path, run: Path) -> tuple[str, ...]:
    return ("models", "train", str(recipe), "-o", str(run), "--threads", "1")


def kill_at(line_begins: str, arguments: tuple[str, ...]) -> None:
    """Run the command in a process of its own until it says a line, and take the process away."""
    with subprocess.Popen(process_arguments(*arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(line_begins):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL, f"it ended before it said {line_begins!r}"


def test_a_run_killed_again_and_again_has_the_weights_and_the_report_of_one_that_was_not(
    recipe: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = bearwire(*command(recipe, whole))
    assert done.exit_code == 0, done.output
    for place in ("member 1 epoch 2", "asking 2 teachers", "student epoch 2"):
        kill_at(place, command(recipe, parts))
    done = bearwire(*command(recipe, parts))
    assert done.exit_code == 0, done.output
    assert "student: going on in epoch 2" in done.output
    assert not any(f"member {member} epoch" in done.output for member in (0, 1))
    wanted, found = (load_file(run / "model.safetensors") for run in (whole, parts))
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
    assert (whole / "report.json").read_bytes() == (parts / "report.json").read_bytes()


@pytest.mark.parametrize("name", ["recipe.json", "cleaning.json", "data.json", "held_back.jsonl"])
def test_a_file_of_the_run_is_whole_or_not_there(
    name: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training.loop import load_data
    from models.training.recipe_file import load_recipe
    from models.training.run import write_run

    asked = load_recipe(recipe)
    data = load_data(asked, {"data": recipe.parent}, lambda _: None)
    write = Path.write_bytes

    def cut_off(file: Path, content: bytes) -> int:
        if file.name.startswith(name):
            write(file, content[:3])
            raise KeyboardInterrupt
        return write(file, content)

    monkeypatch.setattr(Path, "write_bytes", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_run(tmp_path, asked, data.splits)
    assert not (tmp_path / name).exists()


def test_weights_lie_in_a_run_when_all_else_of_the_model_does(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import models.training.network as network
    from models.training.loop import layout_of
    from models.training.recipe_file import load_recipe

    asked = load_recipe(recipe)
    classifier, tokenizer = network.new_classifier(asked)
    save = network.save_file

    def cut_off(state: object, file: Path) -> None:
        save(state, file)
        file.write_bytes(file.read_bytes()[:999])
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        network.save_classifier(classifier, tokenizer, layout_of(asked), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "config.json").is_file() and (tmp_path / "tokenizer.json").is_file()


def test_a_run_killed_after_it_stopped_early_trains_no_further_epoch(recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    still = {"rate": 1.0e-9, "head_rate": 1.0e-9}
    changed = {**content, "epochs": 9, "patience": 1, "optimiser": still, "members": 1, "distillation": None}
    early = recipe.with_name("early.yaml")
    early.write_text(yaml.safe_dump(changed), encoding="utf-8")
    assert bearwire(*command(early, tmp_path / "run")).exit_code == 0
    member = tmp_path / "run" / "member-0"
    epochs = (member / "epochs.jsonl").read_text(encoding="utf-8")
    assert len(epochs.splitlines()) == 2
    (member / "model.safetensors").unlink()
    done = bearwire(*command(early, tmp_path / "run"))
    assert "stopped early, epoch 1 was best" in done.output
    assert (member / "epochs.jsonl").read_text(encoding="utf-8") == epochs


def test_a_run_does_not_go_on_with_other_texts_and_is_unfinished_once_it_goes_on(recipe: Path, tmp_path: Path) -> None:
    from models.training.loop import load_data
    from models.training.recipe import RecipeError
    from models.training.recipe_file import load_recipe
    from models.training.run import finish_run, is_finished, write_run

    asked = load_recipe(recipe)
    roots = {"data": recipe.parent, "recipe": recipe.parent}
    data = load_data(asked, roots, lambda _: None)
    write_run(tmp_path, asked, data.splits)
    finish_run(tmp_path, asked)
    write_run(tmp_path, asked, data.splits)
    assert not is_finished(tmp_path)
    name, split = next(iter(data.splits.items()))
    fewer = {**data.splits, name: split._replace(train=split.train[1:])}
    with pytest.raises(RecipeError, match="other texts"):
        write_run(tmp_path, asked, fewer)
