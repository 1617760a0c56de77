"""How good a model is on labelled texts: accuracy, macro F1, calibration, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import Metric
from models.probabilities import expected_calibration_error


class LabelScore(Struct, frozen=True):
    """One label: of those called so, how many are (precision); of those that are, how many were found (recall)."""

    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(Struct, frozen=True, kw_only=True):
    """What one task reached on one data set. `confusion[true][said]` counts texts, in the order of `labels`."""

    task: str
    labels: tuple[str, ...]
    rows: int
    accuracy: float
    macro_f1: float
    ece: float
    per_label: dict[str, LabelScore]
    confusion: list[list[int]]


def evaluate(
    probabilities: NDArray[np.float32], truth: NDArray[np.int64], *, task: str, labels: Sequence[str]
) -> Evaluation:
    """Measure probabilities float32[n, labels] against true label indices int64[n], n >= 1.

    Macro F1 is the mean over labels that occur in the truth or among the answers, as scikit-learn has it.
    """
    said = probabilities.argmax(axis=1)
    size = len(labels)
    confusion = np.bincount(truth * size + said, minlength=size * size).reshape(size, size)
    hits = np.diag(confusion).astype(np.float64)
    support, named = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = hits / np.maximum(named, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + named, 1)
    return Evaluation(
        task=task,
        labels=tuple(labels),
        rows=len(truth),
        accuracy=float((said == truth).mean()),
        macro_f1=float(f1[(support + named) > 0].mean()),
        ece=expected_calibration_error(probabilities, truth),
        per_label={
            label: LabelScore(float(precision[at]), float(recall[at]), float(f1[at]), int(support[at]))
            for at, label in enumerate(labels)
        },
        confusion=confusion.tolist(),
    )


def as_metric(evaluation: Evaluation, data: str) -> Metric:
    """The evaluation on texts called `data`, as a manifest keeps it."""
    return Metric(
        task=evaluation.task,
        data=data,
        rows=evaluation.rows,
        accuracy=round(evaluation.accuracy, 4),
        macro_f1=round(evaluation.macro_f1, 4),
        ece=round(evaluation.ece, 4),
    )


def report(evaluation: Evaluation) -> str:
    """The evaluation as text: a line per label, the totals, and the confusion matrix."""
    width = max(len(label) for label in evaluation.labels)
    lines = [f"{'':{width}}  precision  recall      F1  support"]
    for label, score in evaluation.per_label.items():
        numbers = f"{score.precision:9.4f}  {score.recall:6.4f}  {score.f1:6.4f}  {score.support:7d}"
        lines.append(f"{label:{width}}  {numbers}")
    lines += [
        "",
        f"accuracy {evaluation.accuracy:.4f}   macro F1 {evaluation.macro_f1:.4f}   "
        f"ECE (15 bins) {evaluation.ece:.4f}   texts {evaluation.rows}",
        "",
        "rows: the truth; columns: what the model said, in the same order",
    ]
    cell = max(5, len(str(evaluation.rows)) + 1)
    for label, row in zip(evaluation.labels, evaluation.confusion, strict=True):
        lines.append(f"{label:{width}} " + "".join(f"{count:{cell}d}" for count in row))
    return "\n".join(lines)
