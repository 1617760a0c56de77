"""Stated against observed false alarms on streams in which nothing is the matter (see `alert_surrogates`).

Counted are the series that can spend the budget at all: at least `SPENDABLE` times as many negative texts a day as the
budget allows alarms. The statistical error is that of the counted alarms (one over the root of their number; alarms of
one series and day come together, so it is a little more). Panes here are of 15 minutes, to save time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alerts.durations import parse_rate_per_day
from alerts.engine import AlertEngine
from alerts.rules import Rule, RuleSet
from tests.alerts.streams import DAY_MS, MINUTE_MS, NEGATIVE, WINDOWS_MS, Texts, run
from tests.benchmarks.alert_streams import Background
from tests.benchmarks.alert_surrogates import MONDAY_MS, resampled, synthetic

BUDGETS = ("1 per day", "1 per week", "1 per month")
LEARNING_DAYS = 30
SPENDABLE = 10.0
PANE_MS = 15 * MINUTE_MS


@dataclass(frozen=True)
class Calibration:
    """One line of the table; `ratio` is the observed over the stated rate of alarms."""

    stream: str
    seed: int
    budget: str
    series: int
    series_days: int
    alarms: int
    ratio: float
    error: float


def calibrate(stream: str, texts: Texts, seed: int, days: int, budget: str) -> Calibration:
    """Run the default rule with this budget over a surrogate of `days` days."""
    per_day = parse_rate_per_day(budget)
    negative = np.bincount(texts.series_of[texts.labels[texts.text_of] == NEGATIVE], minlength=len(texts.keys)) / days
    counted = {key for key, rate in zip(texts.keys, negative.tolist(), strict=True) if rate >= SPENDABLE * per_day}
    rules = RuleSet(rules=(Rule(name="surge", max_false_alarms=budget),))
    engine = AlertEngine(rules, book="main", pane_ms=PANE_MS, windows_ms=WINDOWS_MS)
    begin_ms = MONDAY_MS + LEARNING_DAYS * DAY_MS
    alarms = sum(
        record.change == "fired" and record.at_ms > begin_ms and record.series in counted
        for record in run(engine, texts)
    )
    series_days = len(counted) * (days - LEARNING_DAYS)
    stated = max(series_days * per_day, 1e-9)
    return Calibration(
        stream,
        seed,
        budget,
        len(counted),
        series_days,
        alarms,
        alarms / stated,
        alarms / stated / math.sqrt(alarms or 1),
    )


def calibrations(background: Background | None, seeds: list[int], days: int) -> Iterator[Calibration]:
    """Synthetic and, where a background is given, resampled streams, every budget."""
    for seed in seeds:
        streams = {"synthetic": synthetic(seed, series=60, days=days, slowest=25.0, busiest=150.0)}
        if background is not None:
            streams["resampled"] = resampled(background, seed, days=days, layers=8)
        for name, texts in streams.items():
            for budget in BUDGETS:
                yield calibrate(name, texts, seed, days, budget)
