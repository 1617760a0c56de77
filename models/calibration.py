"""Calibration: the temperature that makes a task's stated probabilities match how often they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from models.probabilities import softmax

Logits = NDArray[np.float32] | NDArray[np.float64]
LOWEST, HIGHEST = 0.05, 20.0


def negative_log_likelihood(logits: Logits, truth: NDArray[np.int64], temperature: float) -> float:
    """Mean surprise, in nats, at the true labels int64[n] under logits [n, labels]."""
    said = softmax(logits, temperature)[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(said, 1e-300)).mean())


def fit_temperature(logits: Logits, truth: NDArray[np.int64]) -> float:
    """The temperature under which `truth` is likeliest (Guo et al. 2017, arXiv:1706.04599).

    `logits` [n, labels] and `truth` int64[n] of texts that the model did not learn from; logarithms of
    probabilities do as logits. 1.0 with fewer than two texts or where every answer is right, since then no
    finite temperature is best.
    """
    if len(truth) < 2 or bool((logits.argmax(axis=1) == truth).all()):
        return 1.0
    found = minimize_scalar(
        lambda power: negative_log_likelihood(logits, truth, float(np.exp(power))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return round(float(np.exp(found.x)), 4)
