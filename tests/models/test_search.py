"""A search tries recipes, stops the hopeless ones, goes on after a kill, and leaves a recipe that trains."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.models.training import needs_training

needs_training()

from models.search import search
from models.training.recipe import RecipeError
from models.training.recipe_file import parse_recipe
from models.training.search_space import parameters, searchable, with_values
from tests.models.test_train import DESK
from tests.models.tiny_model import write_encoder
from tests.shell.commands import bearwire, process_arguments

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    write_encoder(directory, [text for texts in DESK.values() for text in texts])
    rows = [{"text": text, "label": label} for label, texts in DESK.items() for text in texts]
    (directory / "intent.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return directory


SPACE: dict[str, Any] = {
    "optimiser.rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
    "batch": {"choices": [4, 8]},
    "head_dropout": {"low": 0.0, "high": 0.3},
}


def recipe_for(base: Path, search: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    source = {"path": "intent.jsonl", "root": "recipe"}
    return {
        "name": "desk",
        "base": str(base),
        "tasks": [{"name": "intent", "labels": list(DESK), "sources": [source]}],
        "epochs": 3,
        "batch": 8,
        "validation": 0.3,
        "max_tokens": 32,
        "train_tokens": 32,
        "precision": "fp32",
        "device": "cpu",
        "optimiser": {"rate": 2.0e-3, "head_rate": 5.0e-3},
        "search": search or {"space": SPACE, "trials": 4, "startup": 2},
        **changes,
    }


def run(content: dict[str, Any], base: Path, directory: Path, **options: Any) -> list[Any]:
    return search(content, directory, data=base, recipe_directory=base, threads=1, **{"say": lambda _: None, **options})


class Killed(Exception):
    pass


def test_a_search_that_is_cut_off_goes_on_as_if_it_had_not_been(base: Path, tmp_path: Path) -> None:
    content = recipe_for(base)
    whole = run(content, base, tmp_path / "whole")
    assert len(whole) == 4
    ticks = iter(range(1000))
    parts = run(content, base, tmp_path / "parts", hours=5 / 3600, clock=lambda: float(next(ticks)))
    assert len(parts) < 4

    def stop(line: str) -> None:
        if line.startswith("trial 2"):
            raise Killed

    with pytest.raises(Killed):
        run(content, base, tmp_path / "parts", say=stop)
    assert run(content, base, tmp_path / "parts") == whole
    assert run(content, base, tmp_path / "parts") == whole


def test_trials_over_other_texts_are_not_ranked_together(base: Path, tmp_path: Path) -> None:
    content = recipe_for(base)
    file = base / "intent.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    run(content, base, tmp_path, trials=1)
    try:
        for changed in (lines[:-1], lines[1:], [lines[0].replace("charged", "refused"), *lines[1:]]):
            file.write_text("".join(changed), encoding="utf-8")
            with pytest.raises(RecipeError, match="a search over other texts"):
                run(content, base, tmp_path, trials=2)
    finally:
        file.write_text("".join(lines), encoding="utf-8")
    assert len(run(content, base, tmp_path, trials=2)) == 2


def test_a_trial_whose_weights_run_away_fails_and_the_search_goes_on(base: Path, tmp_path: Path) -> None:
    space = {"optimiser.rate": {"choices": [2.0e-3, 1.0e30]}}
    content = recipe_for(base, {"space": space}, optimiser={"rate": 1.0e30}, epochs=1)
    said: list[str] = []
    found = run(content, base, tmp_path, say=said.append, trials=1)
    assert [one.failed for one in found] == [True]
    assert any("weights have run away; lower `optimiser.rate`" in line for line in said)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_recipe_itself_is_tried_first_and_the_best_is_written_and_trains(base: Path, tmp_path: Path) -> None:
    (base / "recipe.yaml").write_text(yaml.safe_dump(recipe_for(base)), encoding="utf-8")
    result = bearwire("models", "search", str(base / "recipe.yaml"), "-o", str(tmp_path / "study"), "--trials", "3")
    assert result.exit_code == 0, result.output
    with (tmp_path / "study" / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    first = next(row for row in rows if row["trial"] == "0")
    assert (first["optimiser.rate"], first["batch"], first["head_dropout"]) == ("0.002", "8", "0.1")
    assert float(rows[0]["accuracy"]) >= float(first["accuracy"])
    best = yaml.safe_load((tmp_path / "study" / "best.yaml").read_text(encoding="utf-8"))
    assert best["optimiser"]["rate"] == float(rows[0]["optimiser.rate"])
    command = result.output.rsplit("`", 2)[1].split()
    assert command[:3] == ["bearwire", "models", "train"]
    trained = bearwire(*(str(tmp_path / "run") if word == "RUN" else word for word in command[1:]))
    assert trained.exit_code == 0, trained.output
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["results"][0]["result"]["accuracy"] == pytest.approx(float(rows[0]["accuracy"]), abs=1e-6)


def test_a_recipe_outside_the_space_is_said_to_be_no_trial(base: Path, tmp_path: Path) -> None:
    said: list[str] = []
    tried = run(recipe_for(base, batch=16), base, tmp_path, trials=1, say=said.append)
    assert [line for line in said if "outside the space" in line and line.endswith(": batch 16")]
    assert tried[0].values["batch"] in (4, 8)


def test_a_killed_process_leaves_a_study_that_goes_on(base: Path, tmp_path: Path) -> None:
    recipe = base / "long.yaml"
    recipe.write_text(yaml.safe_dump(recipe_for(base, epochs=6)), encoding="utf-8")
    arguments = ("models", "search", str(recipe), "-o", str(tmp_path / "study"), "--threads", "1", "--trials", "3")
    with subprocess.Popen(process_arguments(*arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("trial 0"):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    result = bearwire(*arguments)
    assert result.exit_code == 0, result.output
    assert "trial 0:" not in result.output and "trial 2:" in result.output
    assert len((tmp_path / "study" / "trials.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_trials_are_judged_by_the_metric_that_the_recipe_names(base: Path, tmp_path: Path) -> None:
    scores: dict[str, float] = {}
    for metric in ("accuracy", "macro_f1"):
        content = recipe_for(base, {"space": SPACE, "metric": metric}, epochs=1)
        (tried,) = run(content, base, tmp_path / metric, trials=1)
        entry = json.loads((tmp_path / metric / "trials" / "0" / "epochs.jsonl").read_text(encoding="utf-8"))
        assert tried.score == pytest.approx(entry["intent"][metric])
        scores[metric] = tried.score
    assert scores["accuracy"] != pytest.approx(scores["macro_f1"])


def test_the_seed_the_startup_and_the_range_decide_what_is_drawn(base: Path, tmp_path: Path) -> None:
    def drawn(name: str, *, log: bool = True, **settings: int) -> list[float]:
        space = {"optimiser.rate": {"low": 1.0e-5, "high": 1.0e-2, "log": log}}
        asked = {"space": space, "trials": 5, "startup": 5, **settings}
        found = run(recipe_for(base, asked, epochs=1), base, tmp_path / name)
        return [float(one.values["optimiser.rate"]) for one in sorted(found)]

    first = drawn("first")
    other = drawn("other", seed=2)
    assert first[0] == other[0] == 2.0e-3 and not set(first[1:]) & set(other[1:])
    early = drawn("early", startup=2)
    assert first[:2] == early[:2] and not set(first[2:]) & set(early[2:])
    even = (np.array(drawn("even", log=False)[1:]) - 1.0e-5) / (1.0e-2 - 1.0e-5)
    assert np.log10(first[1:]) == pytest.approx(-5 + 3 * even), "the same draws, over powers of ten"


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_trial_that_falls_behind_is_stopped_early(pruner: str, base: Path, tmp_path: Path) -> None:
    space = {"optimiser.head_rate": {"choices": [5.0e-3, 1.0e-9]}, "optimiser.rate": {"choices": [2.0e-3, 1.0e-9]}}
    content = recipe_for(
        base, {"space": space, "trials": 12, "startup": 2, "pruner": pruner, "metric": "macro_f1"}, epochs=9
    )
    found = run(content, base, tmp_path / "study")
    stopped = [one for one in found if one.pruned]
    assert stopped and all(one.epochs < 9 for one in stopped)
    assert all(one.epochs == 9 for one in found if not one.pruned)
    assert found[0].score == max(one.score for one in found if not one.pruned)


def test_no_trial_is_stopped_where_the_recipe_says_so(base: Path, tmp_path: Path) -> None:
    space = {"optimiser.head_rate": {"choices": [5.0e-3, 1.0e-9]}, "optimiser.rate": {"choices": [2.0e-3, 1.0e-9]}}
    settings = {"space": space, "trials": 6, "startup": 1}
    for pruner in ("median", "none"):
        found = run(recipe_for(base, {**settings, "pruner": pruner}, epochs=6), base, tmp_path / pruner)
        assert any(one.pruned for one in found) == (pruner == "median")


def test_a_trial_that_no_model_can_be_built_for_fails_and_the_search_goes_on(base: Path, tmp_path: Path) -> None:
    space = {"freeze.layers": {"choices": [0, 99]}, "head_dropout": {"low": 0.0, "high": 0.3}}
    content = recipe_for(base, {"space": space, "trials": 5, "startup": 5}, epochs=1)
    said: list[str] = []
    run(content, base, tmp_path / "study", trials=3, say=said.append)
    found = run(content, base, tmp_path / "study", say=said.append)
    assert sorted(one.number for one in found) == [0, 1, 2, 3, 4]
    failed = [one for one in found if one.failed]
    assert failed and found[-len(failed) :] == failed
    assert all((one.values["freeze.layers"] == 99) == one.failed for one in found)
    assert sum(": failed, freeze.layers: 99, but the encoder has 2 layers" in line for line in said) == len(failed)
    with (tmp_path / "study" / "trials.csv").open(encoding="utf-8", newline="") as stream:
        states = [row["state"] for row in csv.DictReader(stream)]
    assert states.count("failed") == len(failed)
    assert run(content, base, tmp_path / "whole") == found


def test_a_recipe_that_cannot_be_trained_is_refused_before_the_first_trial(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"freeze\.layers: 99"):
        run(recipe_for(base, freeze={"layers": 99}), base, tmp_path / "study")
    assert not (tmp_path / "study" / "study.sqlite").exists()


def test_a_directory_with_another_search_is_left_alone(base: Path, tmp_path: Path) -> None:
    run(recipe_for(base), base, tmp_path / "study", trials=1)
    with pytest.raises(RecipeError, match="another recipe or space"):
        run(recipe_for(base, epochs=2), base, tmp_path / "study", trials=1)


@pytest.mark.parametrize(
    ("key", "allowed", "message"),
    [
        ("optimiser.rat", {"low": 0.1, "high": 0.2}, "optimiser.rat is no key.*did you mean 'optimiser.rate'"),
        ("seed", {"low": 1, "high": 9}, "search.space: seed is no key that can be searched"),
        ("head_dropout", {"low": 0.0, "high": 1.5}, r"head_dropout cannot be 1.5.*<= 1.0"),
        ("batch", {"low": 1.5, "high": 4.0}, "batch cannot be 1.5"),
        ("batch", {"low": 8, "high": 4}, "batch: `low` must be at most `high`"),
        ("optimiser.weight_decay", {"low": 0.0, "high": 0.1, "log": True}, "above 0 with `log`"),
        ("optimiser.kind", {"low": 0, "high": 1}, "optimiser.kind cannot be 0"),
        ("optimiser.kind", {"choices": ["adamw", "sdg"]}, "optimiser.kind cannot be 'sdg'"),
        ("batch", {"low": 4}, "batch needs `low` and `high`, or `choices`"),
        ("batch", {}, "batch needs `low` and `high`, or `choices`"),
        ("batch", {"choices": [4], "log": True}, "`log` goes with `low`"),
        ("lora.rank", {"low": 1, "high": 8}, "has no `lora`"),
        ("freeze.embeddings", {"low": 0, "high": 1}, "freeze.embeddings cannot be 0"),
    ],
)
def test_a_space_that_cannot_be_searched_names_the_key(
    key: str, allowed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(recipe_for(tmp_path, {"space": {key: allowed}}), tmp_path, tmp_path / "study")


def test_another_base_goes_without_what_the_recipe_says_of_its_own() -> None:
    own = {"base_revision": "main", "base_sha256": "0" * 64, "base_licence": "MIT", "base_origin": "small-encoder"}
    content = recipe_for(Path("base"), **own)
    assert with_values(content, {"base": "base", "batch": 4}).items() >= own.items()
    assert not with_values(content, {"base": "other"}).keys() & own.keys()


def test_every_searchable_key_can_be_set_and_nothing_else_changes() -> None:
    content = recipe_for(Path("base"), lora={})
    recipe = parse_recipe(content)
    for key, own in searchable(recipe).items():
        changed = parse_recipe(with_values(content, {key: own}))
        assert searchable(changed) == searchable(recipe)
        assert changed.search is None
    assert "tasks.intent.weight" in searchable(recipe)
    own = {**recipe_for(Path("somewhere"))["tasks"][0], "class_weights": {"login": 2.0}}
    weighed = parse_recipe(recipe_for(Path("somewhere"), lora={}, tasks=[own]))
    assert set(searchable(recipe)) - set(searchable(weighed)) == {"tasks.intent.class_weights"}
    assert [p.kind for p in parameters(recipe, content, recipe.search.space)] == ["float", "choice", "float"]
