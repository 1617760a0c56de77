"""From logits to calibrated probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Calibration(NamedTuple):
    """What `softmax` takes beside the logits."""

    temperature: float = 1.0
    exponent: float = 1.0


def softmax(
    logits: NDArray[np.float32] | NDArray[np.float64], temperature: float = 1.0, exponent: float = 1.0
) -> NDArray[np.float64]:
    """Probabilities float64[n, labels] of logits [n, labels], calibrated: proportional to exp(-(gap / temperature) **
    exponent), where the gap of a label is how far its logit lies below the highest one.

    Every row is worked out apart, to the last bit. With an exponent of 1 it is temperature scaling: Guo et al. 2017,
    "On Calibration of Modern Neural Networks" (arXiv:1706.04599). No exponent changes the order of the labels: Rahimi
    et al. 2020, "Intra Order-preserving Functions for Calibration" (arXiv:2003.06820). A row with a logit that is NaN
    or plus infinity is NaN.
    """
    scaled = np.ascontiguousarray(logits, dtype=np.float64) / temperature
    with np.errstate(invalid="ignore"):  # infinite logits have no gap: the row is NaN, and `not_finite` tells
        gaps = scaled.max(axis=1, keepdims=True) - scaled
    powers = np.exp(-(gaps if exponent == 1.0 else gaps**exponent))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def not_finite(tables: Iterable[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """bool[n]: which of n rows are NaN or infinite anywhere in the tables float32[n, labels], at least one."""
    found: NDArray[np.bool_] = np.logical_or.reduce([~np.isfinite(table).all(axis=1) for table in tables])
    return found


def expected_calibration_error(
    probabilities: NDArray[np.float32] | NDArray[np.float64], truth: NDArray[np.int64], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their size, in [0, 1].

    `probabilities` [n, labels], `truth` int64[n]; 0 without texts. Naeini et al. 2015, "Obtaining Well
    Calibrated Probabilities Using Bayesian Binning"; 15 bins as in Guo et al. 2017.
    """
    if len(truth) == 0:
        return 0.0
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(place, weights=confidence - correct, minlength=bins)).sum() / len(truth))
