"""The numbers behind an alert: what every window holds against what was expected, what would make it calm; and the
words behind its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from alerts.baseline import Baselines
from alerts.detect import Detector, Scores
from alerts.durations import format_duration
from alerts.panes import DOCUMENTS, NEGATIVE, ClosedPane
from alerts.records import AlertText, Reading
from alerts.surprise import count_surprise

WORDS = 5


def readings(
    detector: Detector, scores: Scores, place: int, series: int, pane: ClosedPane, base: Baselines
) -> tuple[Reading, ...]:
    """One reading per window of the rule, shortest first, of the series at `place` of `scores`."""
    seen = []
    spread = detector.spread[base.activity[series]] + base.rate_variance(np.array([series]))
    for number, (row, window_ms) in enumerate(zip(detector.rows.tolist(), detector.windows_ms.tolist(), strict=True)):
        documents = float(pane.windows[row, series, DOCUMENTS])
        negative = float(pane.windows[row, series, NEGATIVE])
        expected = scores.expected[number : number + 1, place]
        unlikely = count_surprise(np.array([negative]), expected, spread[number : number + 1])[0] if negative else 0.0
        seen.append(
            Reading(
                window=format_duration(window_ms),
                window_ms=window_ms,
                negative=negative,
                documents=documents,
                share=negative / documents if documents else 0.0,
                expected_negative=float(expected[0]),
                expected_share=float(scores.share[place]),
                tail_probability=float(10.0**-unlikely),
            )
        )
    return tuple(seen)


def calm_below(
    detector: Detector, scores: Scores, place: int, series: int, channel: int, pane: ClosedPane, base: Baselines,
    calm: float,
) -> int:  # fmt: skip
    """The number of negative texts in the leading window under which its rarity is below `calm`; at least 1."""
    number = min(channel, len(detector.windows_ms) - 1)
    most = int(pane.windows[detector.rows[number], series, NEGATIVE])
    if most <= detector.min_negative:
        return detector.min_negative
    counts = np.unique(np.linspace(1, most, min(most, 200)).astype(np.int64)).astype(np.float64)
    activity = int(base.activity[series])
    spread = detector.spread[activity, number] + base.rate_variance(np.array([series]))[0]
    expected = np.full(len(counts), scores.expected[number, place])
    surprise = np.where(counts > expected, count_surprise(counts, expected, np.full(len(counts), spread)), 0.0)
    surprise[counts < detector.min_negative] = 0.0
    rare = -detector.tails[number].log_rate(np.full(len(counts), activity), surprise) >= calm
    return max(int(counts[rare.argmax()]) if rare.any() else most, detector.min_negative)


def shared_words(texts: Sequence[AlertText]) -> tuple[str, ...]:
    """The words that drove most of the texts, at most five; of those that drove as many, the first to come."""
    written: dict[str, str] = {}
    for text in texts:
        for word in text.words:
            written.setdefault(word.casefold(), word)
    often = Counter(word for text in texts for word in {word.casefold() for word in text.words})
    order = {word: place for place, word in enumerate(written)}
    return tuple(written[word] for word in sorted(written, key=lambda word: (-often[word], order[word]))[:WORDS])
