"""The usual detectors, on negative counts per quarter of an hour, each with one threshold to be tuned.

z-score of the last 1 h and 24 h against two weeks; an EWMA chart (Roberts 1959); what ElastAlert's spike rule does
(this window against the one before it, 1 h and 24 h); Page-Hinkley (Page 1954, with the forgetting of river's) on
standardised counts; the test of ADWIN (Bifet and Gavalda 2007) at cut points a power of two back, over four weeks. The
last two are written from the papers, without the reset after an alarm: `episodes` takes a day between alarms instead.
All see the same counts, want two negative texts, and know no sentiment shares.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.alerts.streams import MINUTE_MS, NEGATIVE, Texts

STEP_MS = 15 * MINUTE_MS
DAY_STEPS = 96
LEAST = 2
Floats = NDArray[np.float64]


def negative_counts(texts: Texts, start_ms: int, steps: int) -> Floats:
    """float64[series, steps]: negative texts of every series per quarter of an hour."""
    keep = texts.labels[texts.text_of] == NEGATIVE
    at = (texts.times_ms[texts.text_of[keep]] - start_ms) // STEP_MS
    counts = np.zeros((len(texts.keys), steps))
    np.add.at(counts, (texts.series_of[keep], np.clip(at, 0, steps - 1)), 1.0)
    return counts


def _rolling(counts: Floats, span: int) -> Floats:
    total = np.cumsum(np.pad(counts, ((0, 0), (span, 0))), axis=1)
    return np.asarray(total[:, span:] - total[:, :-span])


def _standard(values: Floats, lag: int) -> Floats:
    span = 14 * DAY_STEPS
    past = np.pad(values, ((0, 0), (lag, 0)))[:, : values.shape[1]]
    mean = _rolling(past, span) / span
    variance = _rolling(past**2, span) / span - mean**2
    return np.asarray((values - mean) / np.sqrt(np.maximum(variance, 1e-2)))


def z_score(counts: Floats) -> Floats:
    """Larger of the z-scores of the last hour and the last day."""
    scores = [np.where(_rolling(counts, n) >= LEAST, _standard(_rolling(counts, n), n), 0.0) for n in (4, DAY_STEPS)]
    return np.asarray(np.maximum(*scores))


def ewma(counts: Floats) -> Floats:
    """EWMA with weight 0.1 per quarter of an hour, standardised by its own two weeks."""
    level = np.zeros_like(counts)
    now = np.zeros(len(counts))
    for step in range(counts.shape[1]):
        now = 0.9 * now + 0.1 * counts[:, step]
        level[:, step] = now
    return np.where(_rolling(counts, DAY_STEPS) >= LEAST, _standard(level, DAY_STEPS), 0.0)


def spike_ratio(counts: Floats) -> Floats:
    """This window over the one before it."""
    scores = []
    for span in (4, DAY_STEPS):
        now = _rolling(counts, span)
        before = np.pad(now, ((0, 0), (span, 0)))[:, : now.shape[1]]
        scores.append(np.where(now >= LEAST, now / np.maximum(before, 1.0), 0.0))
    return np.asarray(np.maximum(*scores))


def page_hinkley(counts: Floats) -> Floats:
    """Sum of what standardised counts lie above their mean and a half, never below zero, forgotten over ten days."""
    lately = np.pad(counts, ((0, 0), (1, 0)))[:, : counts.shape[1]]
    span = 14 * DAY_STEPS
    mean = _rolling(lately, span) / span
    deviation = np.sqrt(np.maximum(_rolling(lately**2, span) / span - mean**2, 1e-2))
    steps = (counts - mean) / deviation - 0.5
    level = np.zeros_like(counts)
    now = np.zeros(len(counts))
    for step in range(counts.shape[1]):
        now = np.maximum(0.999 * now + steps[:, step], 0.0)
        level[:, step] = now
    return np.where(_rolling(counts, DAY_STEPS) >= LEAST, level, 0.0)


def adwin(counts: Floats) -> Floats:
    """-ln delta of ADWIN's variance-aware bound at which the last 1, 2, 4, ... steps differ from the rest."""
    span = 28 * DAY_STEPS
    total, squares = _rolling(counts, span), _rolling(counts**2, span)
    variance = np.maximum(squares / span - (total / span) ** 2, 1e-4)
    best = np.zeros_like(counts)
    recent = 1
    while recent < span // 2:
        now = _rolling(counts, recent)
        gap = now / recent - (total - now) / (span - recent)
        size = 1.0 / (1.0 / recent + 1.0 / (span - recent))
        # gap = sqrt(2/size variance L) + 2/(3 size) L, solved for L
        linear = 2.0 / (3.0 * size)
        root = (
            -np.sqrt(2.0 * variance / size) + np.sqrt(2.0 * variance / size + 4.0 * linear * np.maximum(gap, 0.0))
        ) / (2.0 * linear)
        best = np.maximum(best, np.where((gap > 0.0) & (now >= LEAST), root**2, 0.0))
        recent *= 2
    return best


COMPARATORS: dict[str, Callable[[Floats], Floats]] = {
    "ElastAlert spike": spike_ratio,
    "z-score": z_score,
    "EWMA": ewma,
    "Page-Hinkley": page_hinkley,
    "ADWIN": adwin,
}


def episodes(scores: Floats, threshold: float) -> list[NDArray[np.int64]]:
    """Per series the steps at which an alarm starts: scores at or above the threshold with a day between alarms."""
    found = []
    for row in scores:
        over = np.flatnonzero(row >= threshold)
        starts, last = [], -DAY_STEPS
        for step in over.tolist():
            if step - last >= DAY_STEPS:
                starts.append(step)
            last = step
        found.append(np.array(starts, np.int64))
    return found


def tune(scores: Floats, alarms: float) -> float:
    """The threshold that gives at most this many alarms on a clean stream."""
    low, high = 0.0, float(scores.max()) + 1.0
    for _ in range(25):
        middle = (low + high) / 2
        if sum(map(len, episodes(scores, middle))) > alarms:
            low = middle
        else:
            high = middle
    return high
