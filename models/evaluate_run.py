"""How good a bundle is on what a training run held back: every data set, in the form the daemon serves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from models.evaluate import Evaluation, evaluate
from models.labelled import Labelled, LabelledError
from models.predictor import Predictor
from models.robustness import Noisy, robustness
from models.training.recipe import Recipe
from models.training.run import RECIPE, grouped, read_held_back


class DataSet(NamedTuple):
    """What a run held back of one source for one task: `use` is "validation", or "measuring" for data that nothing is
    learned or chosen from."""

    task: str
    use: str
    data: str
    rows: Labelled


class Measured(Struct, frozen=True, kw_only=True):
    """What a bundle reached on one data set. `robustness` is empty where it was not asked for."""

    data: str
    use: str
    result: Evaluation
    robustness: dict[str, Noisy] = {}


def evaluate_run(predictor: Predictor, run: Path, *, task: str | None = None, noise: bool = False) -> list[Measured]:
    """Measure `predictor` on every data set that the run in directory `run` held back, or those of `task`; `noise` also
    with robustness.

    Raises LabelledError as `data_sets_of` does; BundleError where the predictor has no numbers for a text.
    """
    return [_measure(predictor, each, noise) for each in data_sets_of(run, predictor, task=task)]


def data_sets_of(run: Path, *predictors: Predictor, task: str | None = None) -> list[DataSet]:
    """The data sets that the run in directory `run` held back, or those of `task`.

    Raises LabelledError where `run` is no training run, or its tasks and labels are not those of each of `predictors`,
    or none is `task`.
    """
    try:
        tasks = msgspec.json.decode((run / RECIPE).read_bytes(), type=Recipe).tasks
        groups = grouped(read_held_back(run))
    except (OSError, ValueError) as error:
        raise LabelledError(f"{run} is no training run that can be measured on: {error}") from error
    if not groups:
        raise LabelledError(f"{run} held no texts back; train with `validation` above 0 or sources with `use: measure`")
    held = {name for name, *_ in groups}
    if task is not None and task not in held:
        raise LabelledError(f"{run} held back no text of a task {task!r}, but of {', '.join(sorted(held))}")
    wanted = {each.name: each.labels for each in tasks if task in {None, each.name}}
    for predictor in predictors:
        for name, labels in wanted.items():
            if predictor.labels.get(name) != labels:
                raise LabelledError(
                    f"{run} has for its task {name!r} the labels {', '.join(labels)}; {predictor.version_id} has "
                    f"{', '.join(predictor.labels.get(name, ())) or 'no such task'}"
                )
    return [
        DataSet(*group, Labelled([row.text for row in rows], np.array([row.label for row in rows], dtype=np.int64)))
        for group, rows in groups.items()
        if group[0] in wanted
    ]


def evaluation_table(measured: Sequence[Measured]) -> str:
    """A line per data set, and the points of accuracy that noise costs."""
    width = max(len(f"{each.result.task}, {each.data}") for each in measured)
    kinds = next((tuple(each.robustness) for each in measured if each.robustness), ())
    titles = "".join(f"  {kind.replace('_', ' '):>14}" for kind in kinds)
    lines = [f"{'':{width}}  {'use':10}   texts  accuracy  macro F1     ECE{titles}"]
    for each in measured:
        lost = "".join(f"  {round(-each.robustness[kind].lost, 2) + 0.0:14.2f}" for kind in kinds)
        score = each.result
        lines.append(
            f"{f'{score.task}, {each.data}':{width}}  {each.use:10}  {score.rows:6d}  {score.accuracy:8.4f}  "
            f"{score.macro_f1:8.4f}  {score.ece:6.4f}{lost}"
        )
    if kinds:
        lines += ["", "the last columns: points of accuracy under that noise against none"]
    return "\n".join(lines)


def _measure(predictor: Predictor, each: DataSet, noise: bool) -> Measured:
    task, rows = each.task, each.rows
    result = evaluate(predictor.predict(rows.texts).of_all(task), rows.truth, task=task, labels=predictor.labels[task])
    lost: dict[str, Noisy] = {}
    if noise:
        lost = robustness(lambda noisy: predictor.predict(noisy).of_all(task), rows, result)
    return Measured(data=each.data, use=each.use, result=result, robustness=lost)
