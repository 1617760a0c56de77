"""Calibrates a finished bundle on labelled texts: one exported from Hugging Face states probabilities as they come."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import Bundle, DataSource, write_manifest
from models.calibration import EXPONENT_TEXTS, Logits, fit_calibration, negative_log_likelihood
from models.evaluate import Evaluation, as_metric, evaluate
from models.labelled import Labelled
from models.predictor import Predictor
from models.probabilities import Calibration, softmax
from models.robustness import typos

LEAST_TEXTS = 40


class CalibrationError(ValueError):
    """No calibration was fitted. The message says why."""


class Fitted(Struct, frozen=True, kw_only=True):
    """A calibration of one task, and what stating probabilities by it brings.

    `before` is the bundle as it was, `after` what each half of the texts reaches under the calibration that was fitted
    on the other half alone; `surprise_before` and `surprise_after` are the mean negative log-likelihoods in nats.
    `calibration` itself was fitted on all of them.
    """

    calibration: Calibration
    before: Evaluation
    after: Evaluation
    surprise_before: float
    surprise_after: float


def fit(bundle: Bundle, rows: Labelled, task: str) -> Fitted:
    """Fit a task's temperature and exponent on labelled texts, which the model must not have learned from.

    Raises CalibrationError with too few texts, or where the halves show that it would make nothing better.
    """
    if len(set(rows.texts)) < LEAST_TEXTS:
        raise CalibrationError(f"{len(set(rows.texts))} different texts are too few, {LEAST_TEXTS} are needed")
    labels, now = bundle.task(task).labels, bundle.task(task).calibration
    logits = _logits(bundle, rows.texts, task)
    if (logits.argmax(axis=1) == rows.truth).all():
        raise CalibrationError("the model is right about every text, so that no calibration is best; give harder ones")
    second = second_half(rows.texts)
    # What is written is of the kind that is measured: with an exponent only where each half can tell one.
    enough = min(int(second.sum()), int((~second).sum())) >= EXPONENT_TEXTS
    exponent_texts = EXPONENT_TEXTS if enough else len(second) + 1
    calibration = fit_calibration(logits, rows.truth, exponent_texts=exponent_texts)
    apart = by_halves(logits, rows.truth, second, exponent_texts=exponent_texts)
    surprise = -np.log(np.maximum(apart[np.arange(len(second)), rows.truth], 1e-300)).mean()
    fitted = Fitted(
        calibration=calibration,
        before=evaluate(softmax(logits, *now).astype(np.float32), rows.truth, task=task, labels=labels),
        after=evaluate(apart.astype(np.float32), rows.truth, task=task, labels=labels),
        surprise_before=negative_log_likelihood(logits, rows.truth, now),
        surprise_after=float(surprise),
    )
    if fitted.surprise_after >= fitted.surprise_before:
        raise CalibrationError(
            f"fitted on one half of the texts, it states the truth of the other half no better ({report(fitted)}); "
            "give more texts, or keep the bundle"
        )
    return fitted


def typo_copies(texts: Sequence[str], share: float) -> list[str]:
    """Copies of all texts with typos in a `share` of their words, to fit a calibration on beside them; none for 0,
    nor of one text, on which there is nothing to fit."""
    return [typos(text, share=share) for text in texts] if share and len(texts) > 1 else []


def by_halves(
    logits: Logits, truth: NDArray[np.int64], second: NDArray[np.bool_], *, exponent_texts: int
) -> NDArray[np.float64]:
    """Probabilities float64[n, labels] of the texts of each half under the calibration fitted on those of the other."""
    apart = np.empty(logits.shape)
    for half in (second, ~second):
        other = fit_calibration(logits[~half], truth[~half], exponent_texts=exponent_texts)
        apart[half] = softmax(logits[half], *other)
    return apart


def calibrate(bundle: Bundle, fitted: Fitted, data: str) -> Bundle:
    """Put what was fitted on the texts called `data` into the bundle in place, and say so in its manifest.

    Calibration errors measured before are taken out: they are no longer this model's.
    """
    manifest, task = bundle.manifest, fitted.before.task
    metric = as_metric(fitted.after, f"{data} (calibrated on, by halves)")
    kept = [
        msgspec.structs.replace(old, ece=None) if old.task == task else old
        for old in manifest.metrics
        if (old.task, old.data) != (task, metric.data)
    ]
    return write_manifest(
        bundle.path,
        msgspec.structs.replace(
            manifest,
            tasks=tuple(
                msgspec.structs.replace(old, **fitted.calibration._asdict()) if old.name == task else old
                for old in manifest.tasks
            ),
            metrics=(*kept, metric),
            data=(*manifest.data, DataSource(name=data, licence="", rows=metric.rows, use="validation")),
        ),
    )


def report(fitted: Fitted) -> str:
    """What calibrating brings, in one line."""
    return (
        f"calibration error (ECE) {fitted.before.ece:.4f} before, {fitted.after.ece:.4f} after; "
        f"log loss {fitted.surprise_before:.4f} before, {fitted.surprise_after:.4f} after"
    )


def _logits(bundle: Bundle, texts: list[str], task: str) -> NDArray[np.float64]:
    """Logarithms of what the task says without any calibration, float64[n, labels]."""
    tasks = tuple(msgspec.structs.replace(each, **Calibration()._asdict()) for each in bundle.tasks)
    plain = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, tasks=tasks), bundle.external)
    predictor = Predictor(plain, cache_entries=0)
    predictor.warm_up()
    said = predictor.predict(texts).of_all(task)
    return np.log(np.maximum(said.astype(np.float64), 1e-30))


def second_half(texts: list[str]) -> NDArray[np.bool_]:
    """Which texts are of the second half, drawn by chance, but always the same; equal texts are of the same."""
    _, numbers = np.unique(np.array(texts, dtype=object), return_inverse=True)
    order = np.random.default_rng(11).permutation(int(numbers.max()) + 1)
    return np.asarray(order[numbers] % 2 == 1)
