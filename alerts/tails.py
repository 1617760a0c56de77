"""From scores to false-alarm rates: how often a score as high comes up when nothing is the matter.

The idea of SPOT (Siffer et al. 2017, "Anomaly detection in streams with extreme value theory"): do not believe the
model's tail, measure it. For every class of series (by how busy they are) the maxima of past episodes are counted over
the series days watched; above the level that only a few have passed the tail is exponential with a fitted decay,
because scores are logarithms of chances. Classes with little history lean on all classes together, and those on the
model. Episodes far beyond what fires are censored and may count for less: more of them are real surges than ordinary
days, and what a threshold is to be measured on is ordinary days.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 120
STEP = 0.1
GRID: Floats = np.arange(BINS, dtype=np.float64) * STEP
_LN10 = float(np.log(10.0))

_FEW = 12.0
_PRIOR_DAYS_CLASS = 20.0
_PRIOR_EXCESSES = 8.0


class Tails:
    """Episode maxima per class of series, and the curve of false alarms per series day that follows from them.

    `first_rates` float64[classes] are the model's own guess of episodes per series day with a score of 0 or more; its
    guess above is ten times fewer per unit of score. Curves are rebuilt by `refresh` only: scoring is a table look-up.
    An episode `beyond` decades rarer than what fires is recorded as censored and counts for `weight`; rates are scaled
    so that they are right for a tail with no real surge in it.
    """

    def __init__(self, first_rates: Floats, beyond: float = 1.0, weight: float = 1.0) -> None:
        self.beyond, self.weight = beyond, weight
        self.discount = 1.0 - (1.0 - weight) * 10.0**-beyond
        classes = len(first_rates)
        self.first_rates = first_rates
        self.counts = np.zeros((classes, BINS))
        self.censored = np.zeros((classes, BINS))
        self.exposure_days = np.zeros(classes)
        self.curves = np.log10(first_rates)[:, None] - GRID
        self.slopes = np.full(classes, _LN10)

    def watch(self, classes: NDArray[np.int64], days: Floats) -> None:
        """Count the time that series of these classes were watched."""
        np.add.at(self.exposure_days, classes, days)

    def record(self, classes: NDArray[np.int64], maxima: Floats, censored: NDArray[np.bool_]) -> None:
        """Count the maxima of ended episodes."""
        bins = np.clip((maxima / STEP).astype(np.int64), 0, BINS - 1)
        np.add.at(self.counts, (classes, bins), np.where(censored, self.weight, 1.0))
        np.add.at(self.censored, (classes[censored], bins[censored]), self.weight)

    def forget(self, keep: float) -> None:
        """Let all history count for `keep` of what it did."""
        self.counts *= keep
        self.censored *= keep
        self.exposure_days *= keep

    def refresh(self, prior_days: float) -> None:
        """Rebuild the curves from the history; the guess weighs as much as `prior_days` series days of it."""
        guess = np.log10(float(np.average(self.first_rates, weights=self.exposure_days + 1e-6))) - GRID
        pool_counts = self.counts.sum(axis=0)
        pool, pool_slope = _curve(
            pool_counts, self.censored.sum(axis=0), float(self.exposure_days.sum()), guess, _LN10, prior_days
        )
        for row in range(len(self.exposure_days)):
            self.curves[row], self.slopes[row] = _curve(
                self.counts[row],
                self.censored[row],
                float(self.exposure_days[row]),
                pool,
                pool_slope,
                _PRIOR_DAYS_CLASS,
            )

    def level(self, log_rate: float) -> Floats:
        """The score of each class that is passed `10**log_rate` times per series day, float64[classes]."""
        places = (self.curves > log_rate).sum(axis=1)
        rows = np.arange(len(self.curves))
        above = self.curves[rows, np.maximum(places - 1, 0)]
        below = self.curves[rows, np.minimum(places, BINS - 1)]
        part = np.where(above > below, (above - log_rate) / np.maximum(above - below, 1e-9), 0.0)
        beyond = (self.curves[:, -1] - log_rate) * _LN10 / self.slopes
        inside = STEP * np.maximum(places - 1 + part, 0.0)
        return np.asarray(np.where(places == BINS, GRID[-1] + beyond, inside))

    def log_rate(self, classes: NDArray[np.int64], scores: Floats) -> Floats:
        """log10 of episodes per series day with a maximum of `scores` or more."""
        place = np.clip(scores / STEP, 0.0, None)
        low = np.minimum(place.astype(np.int64), BINS - 2)
        part = np.minimum(place - low, 1.0)
        inside = self.curves[classes, low] * (1.0 - part) + self.curves[classes, low + 1] * part
        beyond = np.maximum(scores - GRID[-1], 0.0) * self.slopes[classes] / _LN10
        return np.asarray(inside - beyond - np.log10(self.discount))


def _curve(
    counts: Floats, censored: Floats, days: float, parent: Floats, parent_slope: float, prior_days: float
) -> tuple[Floats, float]:
    """log10 rate over GRID of one class, and the decay of its tail per unit of score (natural logarithm)."""
    above = np.cumsum(counts[::-1])[::-1]
    rates = (above + prior_days * 10.0**parent) / (days + prior_days)
    measured = np.cumsum((counts - censored)[::-1])[::-1]
    start = int(np.argmax(measured <= _FEW)) or int(np.argmax(counts > 0.0))
    excess = float(counts[start:] @ (GRID[start:] - GRID[start] + STEP / 2))
    seen = float((counts[start:] - censored[start:]).sum())
    slope = (seen + _PRIOR_EXCESSES) / (excess + _PRIOR_EXCESSES / parent_slope)
    curve = np.log10(rates)
    curve[start:] = curve[start] + (parent[start:] - parent[start]) * slope / parent_slope
    return curve, slope
