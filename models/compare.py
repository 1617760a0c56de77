"""Two models on the same texts: do they agree, which is better, which is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from models.evaluate import Evaluation, evaluate
from models.labelled import Labelled
from models.predictor import Predictions, Predictor

SPEED_ROUNDS = 3


class Comparison(Struct, frozen=True, kw_only=True):
    """`agreement` is the share of texts both give the same label; probability differences are over all labels;
    speeds are texts per second, best of rounds that take turns."""

    task: str
    rows: int
    agreement: float
    largest_difference: float
    mean_difference: float
    first: Evaluation
    second: Evaluation
    first_texts_per_second: float
    second_texts_per_second: float


def points_apart(comparison: Comparison) -> float:
    """By how many points, hundredths, the accuracy of the two differs."""
    return 100.0 * abs(comparison.first.accuracy - comparison.second.accuracy)


def compare(
    first: Predictor, second: Predictor, data: Labelled, task: str, *, rounds: int = SPEED_ROUNDS
) -> Comparison:
    """Compare two predictors (made with `cache_entries=0`, else the speed is the cache's) on labelled texts, which both
    score in each of `rounds`.

    Raises ValueError where the task's labels differ between the two, BundleError where one has no numbers for a text.
    """
    labels = first.labels[task]
    if second.labels.get(task) != labels:
        raise ValueError(
            f"{second.version_id} has for task {task!r} the labels {second.labels.get(task)}, "
            f"{first.version_id} has {labels}; only models with the same labels can be compared"
        )
    answers, speeds = _take_turns([first.predict, second.predict], data.texts, rounds)
    one, other = (answer.of_all(task) for answer in answers)
    difference = np.abs(one - other)
    return Comparison(
        task=task,
        rows=len(data.texts),
        agreement=float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        first=evaluate(one, data.truth, task=task, labels=labels),
        second=evaluate(other, data.truth, task=task, labels=labels),
        first_texts_per_second=speeds[0],
        second_texts_per_second=speeds[1],
    )


def _take_turns(
    models: Sequence[Callable[[Sequence[str]], Predictions]], texts: Sequence[str], rounds: int
) -> tuple[list[Predictions], list[float]]:
    answers: list[Predictions] = []
    best = [0.0] * len(models)
    for _ in range(rounds):
        answers.clear()
        for at, model in enumerate(models):
            start = time.perf_counter()
            answers.append(model(texts))
            best[at] = max(best[at], len(texts) / (time.perf_counter() - start))
    return answers, best
