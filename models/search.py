"""Hyper-parameter search: trials of a recipe with other values, the hopeless ones stopped early.

study/study.sqlite    optuna's study: what was tried and what came of it
study/search.json     what is searched, so that another recipe does not go on here
study/texts.sha256    a digest of the texts, so that trials over other texts do not
study/trials/N/       TensorBoard events and epochs.jsonl of each trial
study/trials.csv      a row per trial
study/best.yaml       the best recipe, for `bearwire models train`

What trial N draws follows from the seed and the trials before it, so a search that was killed and started again
goes on as if it had not been, in the middle of a trial too.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import optuna
import torch
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState

from models.train import check
from models.training.alone import alone
from models.training.compute import Compute, choose_compute
from models.training.loop import EPOCHS, Data, load_data, train_member
from models.training.network import CONFIG, TOKENIZER, WEIGHTS
from models.training.recipe import Recipe, RecipeError, Search
from models.training.recipe_file import parse_recipe
from models.training.run import digest, kept_recipe, same_texts
from models.training.search_space import Parameter, Value, parameters, with_values

Say = Callable[[str], None]
DATABASE = "study.sqlite"
BEST = "best.yaml"
_REFUSED = "refused"
"""What the study keeps of a trial that failed: why. One that a dead process left unfinished has no such reason."""


class Tried(NamedTuple):
    """A finished trial: its number from 0, whether it was stopped early, its score after `epochs` epochs, its keys.

    One that `failed`, since no recipe can be followed with its keys, has no score.
    """

    number: int
    pruned: bool
    score: float
    epochs: int
    values: dict[str, Value]
    failed: bool = False


class _OutOfTime(Exception):
    pass


def search(
    content: object,
    directory: Path,
    *,
    data: Path,
    recipe_directory: Path,
    where: str = "recipe",
    trials: int | None = None,
    hours: float | None = None,
    threads: int = 0,
    say: Say = print,
    clock: Callable[[], float] = time.monotonic,
) -> list[Tried]:
    """Search what the recipe in `content` (plain data) asks for, in `directory`; the finished trials, best first.

    `trials` and `hours` override the recipe's; `clock` gives seconds. A trial trains one member and no student; one
    whose keys cannot be followed fails, and the search goes on. Raises RecipeError where the recipe itself or its space
    cannot be followed, or `directory` holds another search or one over other texts.
    """
    recipe = parse_recipe(content, where)
    plain: dict[str, Any] = content  # type: ignore[assignment]
    settings = recipe.search or Search()
    space = parameters(recipe, plain, settings.space)
    wanted, allowed = trials or settings.trials, hours or settings.hours
    end = clock() + allowed * 3600 if allowed else float("inf")
    if threads:
        torch.set_num_threads(threads)
    with alone(directory, "search"):
        _refuse_another(directory, recipe, settings)
        compute = choose_compute(recipe)
        say(f"computing in {compute.precision} on {compute.device.type}: {compute.why}")
        read = load_data(recipe, {"data": data, "recipe": recipe_directory}, say)
        if not any(split.validation for split in read.splits.values()):
            raise RecipeError("validation: no text is held back to judge trials by; raise it or add texts")
        if not same_texts(directory, digest(read.splits, judges=True)):
            raise RecipeError(
                f"{directory} holds a search over other texts, so its trials do not compare with further ones; put the "
                "data back as they were, or choose another directory"
            )
        check(msgspec.structs.replace(recipe, distillation=None), read, compute, directory, told=False)
        study = _study(directory, settings)
        while (number := len(_finished(study))) < wanted and clock() < end:
            study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=settings.startup, seed=settings.seed * 1_000_003 + number
            )
            if number == 0:
                _begin_with_the_recipe(study, space, say)
            trial = study.ask()
            values = {parameter.key: _draw(trial, parameter) for parameter in space}
            try:
                _run(
                    study, trial, settings, values, plain, read, directory / "trials" / str(number), compute, end, clock
                )
            except _OutOfTime:
                say(f"trial {number}: the time is up; started again, the search goes on here")
                break
            except RecipeError as error:
                trial.set_user_attr(_REFUSED, str(error))
                study.tell(trial, state=TrialState.FAIL)
                _clear(directory / "trials" / str(number))
                say(f"trial {number}: failed, {error}; {_written(values)}")
                continue
            tried = _tried(study, settings)[-1]
            say(f"trial {number}: {_outcome(tried, settings)}; {_written(values)}")
        found = sorted(_tried(study, settings), key=lambda one: (one.failed, one.pruned, -one.score, one.number))
        _write_table(directory / "trials.csv", found, space, settings)
        if found and not (found[0].pruned or found[0].failed):
            best = with_values(plain, found[0].values)
            _write_best(directory / BEST, best, found[0], settings, recipe_directory)
    return found


def table(found: list[Tried]) -> str:
    """The trials as text, a line each."""
    lines = ["trial     score  epochs           values"]
    for one in found:
        state = "failed" if one.failed else "stopped" if one.pruned else ""
        lines.append(f"{one.number:5d}  {one.score:8.4f}  {one.epochs:6d}  {state:7}  {_written(one.values)}")
    return "\n".join(lines)


def _run(
    study: optuna.Study,
    trial: Trial,
    settings: Search,
    values: dict[str, Value],
    content: dict[str, Any],
    data: Data,
    directory: Path,
    compute: Compute,
    end: float,
    clock: Callable[[], float],
) -> None:
    """Train the trial's recipe in `directory`, or go on with it, and tell the study what came of it."""
    recipe = parse_recipe(with_values(content, values))
    asked = directory / "recipe.json"
    if asked.is_file() and kept_recipe(asked) != recipe:
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    asked.write_bytes(msgspec.json.encode(recipe))
    reported = 0

    def judge(epochs: int) -> None:
        nonlocal reported
        scores = read_scores(directory, settings.metric)
        for epoch in range(reported, epochs):
            trial.report(scores[epoch], epoch + 1)
        reported = epochs
        if epochs < recipe.epochs and trial.should_prune():
            raise optuna.TrialPruned
        if clock() >= end and epochs < recipe.epochs:
            raise _OutOfTime

    try:
        train_member(recipe, data, directory, member=0, compute=compute, say=lambda _: None, after_epoch=judge)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, read_scores(directory, settings.metric)[kept_epoch(directory, recipe)])
    _clear(directory)


def _clear(directory: Path) -> None:
    """Remove the weights of a trial that has come to its end."""
    for name in ("checkpoint", "best"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        (directory / name).unlink(missing_ok=True)


def read_scores(directory: Path, metric: str) -> list[float]:
    """The mean of `metric` over tasks after each epoch of a run; of an epoch that was done twice, the later one."""
    by_epoch: dict[int, float] = {}
    file = directory / EPOCHS
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        entry: dict[str, Any] = json.loads(line)
        epoch = entry.pop("epoch")
        by_epoch[epoch] = float(np.mean([result[metric] for result in entry.values()]))
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def kept_epoch(directory: Path, recipe: Recipe) -> int:
    """Which epoch's model a run keeps, from 0: the last, or with `patience` the most accurate."""
    accuracies = read_scores(directory, "accuracy")
    return int(np.argmax(accuracies)) if recipe.patience else len(accuracies) - 1


def _refuse_another(directory: Path, recipe: Recipe, settings: Search) -> None:
    endless = msgspec.structs.replace(settings, trials=1, hours=None)
    wanted = msgspec.structs.replace(recipe, search=endless)
    file = directory / "search.json"
    if not file.is_file():
        if (directory / DATABASE).exists():
            raise RecipeError(f"{directory} holds a study of something else; choose another directory")
        file.write_bytes(msgspec.json.format(msgspec.json.encode(wanted), indent=1))
    elif kept_recipe(file) != wanted:
        raise RecipeError(f"{directory} holds a search of another recipe or space; choose another directory")


def _study(directory: Path, settings: Search) -> optuna.Study:
    """The study in `directory`; trials that a dead process left unfinished are given up, to be drawn again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if settings.pruner == "median":
        pruner = optuna.pruners.MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=1)
    elif settings.pruner == "hyperband":
        pruner = optuna.pruners.HyperbandPruner()
    study = optuna.create_study(
        storage=f"sqlite:///{(directory / DATABASE).resolve()}",
        study_name="search",
        direction="maximize",
        pruner=pruner,
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _begin_with_the_recipe(study: optuna.Study, space: list[Parameter], say: Say) -> None:
    """The first trial is the recipe as it stands, where it lies in the space: the best is then never worse."""
    inside, outside = {}, []
    for parameter in space:
        low, high = parameter.range.low, parameter.range.high
        if parameter.own in parameter.range.choices or (
            low is not None and high is not None and low <= parameter.own <= high  # type: ignore[operator]
        ):
            inside[parameter.key] = parameter.own
        else:
            outside.append(f"{parameter.key} {parameter.own}")
    if outside:
        say(f"no trial is the recipe as it stands, which lies outside the space: {', '.join(outside)}")
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not outside and not waiting:
        study.enqueue_trial(inside)


def _draw(trial: Trial, parameter: Parameter) -> Value:
    key, allowed = parameter.key, parameter.range
    low: Any = allowed.low
    high: Any = allowed.high
    drawn: Any
    if parameter.kind == "choice":
        drawn = trial.suggest_categorical(key, allowed.choices)
    elif parameter.kind == "int":
        drawn = trial.suggest_int(key, low, high, log=allowed.log)
    else:
        drawn = trial.suggest_float(key, low, high, log=allowed.log)
    value: Value = drawn
    return value


def _tried(study: optuna.Study, settings: Search) -> list[Tried]:
    """Finished trials in the order they ran, numbered without those that were given up."""
    return [
        Tried(
            number=number,
            pruned=trial.state == TrialState.PRUNED,
            score=float(trial.value or 0.0),
            epochs=max(trial.intermediate_values, default=0),
            values={key: trial.params[key] for key in settings.space},
            failed=trial.state == TrialState.FAIL,
        )
        for number, trial in enumerate(_finished(study))
    ]


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end: complete, stopped early, or failed for a reason."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False, states=ended)
    return [trial for trial in trials if trial.state != TrialState.FAIL or _REFUSED in trial.user_attrs]


def _outcome(tried: Tried, settings: Search) -> str:
    stopped = "stopped early, " if tried.pruned else ""
    return f"{stopped}{settings.metric} {tried.score:.4f} after {tried.epochs} epochs"


def _written(values: dict[str, Value]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def _write_table(file: Path, found: list[Tried], space: list[Parameter], settings: Search) -> None:
    keys = [parameter.key for parameter in space]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "state", settings.metric, "epochs", *keys])
        for one in found:
            state = "failed" if one.failed else "stopped" if one.pruned else "complete"
            score = "" if one.failed else f"{one.score:.6f}"
            writer.writerow([one.number, state, score, one.epochs, *(one.values[key] for key in keys)])


def _write_best(file: Path, best: dict[str, Any], found: Tried, settings: Search, recipe_directory: Path) -> None:
    """Write the recipe so that it works from where it lies: sources beside the old recipe are named from here."""
    for task in best["tasks"]:
        for source in task["sources"]:
            if source.get("path") and source.get("root") == "recipe" and not Path(source["path"]).is_absolute():
                source["path"] = os.path.relpath(recipe_directory / source["path"], file.parent)
    head = f"# Trial {found.number} of `bearwire models search`: {settings.metric} {found.score:.4f} in validation.\n"
    body = yaml.safe_dump(best, sort_keys=False, allow_unicode=True, width=120)
    draft = file.with_name(file.name + ".new")
    draft.write_text(head + body, encoding="utf-8")
    draft.replace(file)
