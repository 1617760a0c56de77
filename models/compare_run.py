"""Two bundles on what a training run held back: how far apart they are on every data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from models.compare import Comparison, compare, points_apart
from models.evaluate_run import data_sets_of
from models.predictor import Predictor


class Compared(Struct, frozen=True, kw_only=True):
    """What two bundles reached on one data set; its speeds are of one round, and say little of few texts."""

    data: str
    use: str
    result: Comparison

    @property
    def name(self) -> str:
        """What people call the data set: its task and its source."""
        return f"{self.result.task}, {self.data}"


def compare_run(first: Predictor, second: Predictor, run: Path, *, task: str | None = None) -> list[Compared]:
    """Compare two predictors on every data set that the run in directory `run` held back, or those of `task`.

    Raises LabelledError where `run` is no training run, or its tasks and labels are not those of both, or none is
    `task`; BundleError where one has no numbers for a text.
    """
    return [
        Compared(data=each.data, use=each.use, result=compare(first, second, each.rows, each.task, rounds=1))
        for each in data_sets_of(run, first, second, task=task)
    ]


def too_far_apart(compared: Sequence[Compared], points: float) -> list[str]:
    """A line for each data set on which accuracy differs by more than `points`, hundredths."""
    return [
        f"{each.name} ({each.use}) by {points_apart(each.result):.2f}"
        for each in compared
        if points_apart(each.result) > points + 1e-9
    ]


def comparison_table(compared: Sequence[Compared]) -> str:
    """A line per data set: the accuracy of both, by how many points the second is better, and how often both agree."""
    width = max(len(each.name) for each in compared)
    lines = [f"{'':{width}}  {'use':10}   texts     first    second   points  same label"]
    for each in compared:
        score = each.result
        gained = round(100.0 * (score.second.accuracy - score.first.accuracy), 2) + 0.0
        lines.append(
            f"{each.name:{width}}  {each.use:10}  {score.rows:6d}  {score.first.accuracy:8.4f}  "
            f"{score.second.accuracy:8.4f}  {gained:+7.2f}  {score.agreement:10.2%}"
        )
    return "\n".join([*lines, "", "accuracy of both, and by how many points that of the second is higher"])
