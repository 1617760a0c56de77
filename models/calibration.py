"""Calibration: what makes a task's stated probabilities match how often they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from models.probabilities import Calibration, softmax

Logits = NDArray[np.float32] | NDArray[np.float64]
TEMPERATURES = (0.05, 20.0)
EXPONENTS = (0.5, 3.0)
EXPONENT_TEXTS = 200
"""With fewer texts the exponent stays 1: they would not tell it from chance."""


def negative_log_likelihood(logits: Logits, truth: NDArray[np.int64], calibration: Calibration) -> float:
    """Mean surprise, in nats, at the true labels int64[n] under logits [n, labels]."""
    said = softmax(logits, *calibration)[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(said, 1e-300)).mean())


def fit_calibration(logits: Logits, truth: NDArray[np.int64], *, exponent_texts: int = EXPONENT_TEXTS) -> Calibration:
    """The temperature and exponent under which `truth` is likeliest.

    `logits` [n, labels] and `truth` int64[n] of texts that the model did not learn from; logarithms of
    probabilities do as logits. The temperature is that of Guo et al. 2017 (arXiv:1706.04599); the exponent mends what
    it cannot, a model that is right about what it is sure of and too sure of the rest (`softmax` has its source); with
    fewer than `exponent_texts` it stays 1.0. Both are 1.0 with fewer than two texts or where every answer is right,
    since then no finite temperature is best.
    """
    if len(truth) < 2 or bool((logits.argmax(axis=1) == truth).all()):
        return Calibration()

    def surprise(powers: NDArray[np.float64]) -> float:
        return negative_log_likelihood(logits, truth, Calibration(*np.exp(powers)))

    scaling = minimize_scalar(
        lambda power: surprise(np.array([power, 0.0])),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-5},
    )
    powers = np.array([scaling.x, 0.0])
    if len(truth) >= exponent_texts:
        both = minimize(surprise, powers, bounds=np.log([TEMPERATURES, EXPONENTS]), method="L-BFGS-B")
        if both.fun < scaling.fun:
            powers = both.x
    temperature, exponent = np.exp(powers)
    return Calibration(round(float(temperature), 4), round(float(exponent), 4))
