"""Streams in which nothing is the matter, to hold the stated false-alarm rate against the observed one.

`synthetic`: every series has its own rate (log-spaced) and share of negative texts; both wander from day to day and,
more, from hour to hour (gamma and logistic-normal), over a rhythm of the day and the week. `resampled`: days of a real
background drawn with replacement, weekday for weekday, several of them laid on top of each other so that the budgets
asked for can be spent at all: what happens within a day, and between series, stays real; trends and news that last
for days are gone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.alerts.streams import DAY_MS, HOUR_MS, NEGATIVE, NEUTRAL, POSITIVE, Texts
from tests.benchmarks.alert_streams import Background

MONDAY_MS = 4 * DAY_MS
"""1970-01-05, the first Monday of the epoch: surrogates begin there."""


def synthetic(
    seed: int, *, series: int, days: int, slowest: float, busiest: float, hour_spread: float = 0.5
) -> Texts:  # fmt: skip
    """`series` companies with `slowest` to `busiest` texts a day; `hour_spread` is the relative variance of an hour."""
    rng = np.random.default_rng(seed)
    rates = np.geomspace(slowest, busiest, series)
    hours = np.arange(days * 24)
    rhythm = 1.0 + 0.7 * np.sin((hours % 24 - 9) * 2 * np.pi / 24)
    rhythm *= np.where((hours // 24) % 7 < 5, 1.2, 0.5)
    day_volume = rng.gamma(10.0, 0.1, (series, days)).repeat(24, axis=1)
    hour_volume = rng.gamma(1.0 / hour_spread, hour_spread, (series, len(hours)))
    counts = rng.poisson(rates[:, None] / 24.0 * rhythm * day_volume * hour_volume)
    share = rng.beta(4.0, 16.0, series)
    odds = np.log(share / (1.0 - share))[:, None] + 0.2 * rng.standard_normal((series, days)).repeat(24, axis=1)
    odds = odds + 0.4 * rng.standard_normal(odds.shape)
    cell = np.repeat(np.arange(counts.size), counts.ravel())
    of, hour = np.divmod(cell, len(hours))
    times = MONDAY_MS + hour * HOUR_MS + rng.integers(0, HOUR_MS, len(cell))
    negative = rng.random(len(cell)) < 1.0 / (1.0 + np.exp(-odds.ravel()[cell]))
    labels = np.where(negative, NEGATIVE, np.where(rng.random(len(cell)) < 0.35, POSITIVE, NEUTRAL))
    order = np.argsort(times, kind="stable")
    text = np.arange(len(cell))
    return Texts(
        keys=["all", *(f"company:C{number}" for number in range(series))],
        times_ms=times[order],
        labels=labels[order].astype(np.int64),
        text_of=np.repeat(text, 2),
        series_of=np.column_stack((np.zeros_like(text), of[order] + 1)).ravel(),
    )


def resampled(background: Background, seed: int, *, days: int, layers: int) -> Texts:
    """`days` days, each made of `layers` days of the background of the same weekday."""
    rng = np.random.default_rng(seed)
    day_of = background.times_ms // DAY_MS
    first, last = int(day_of[0]), int(day_of[-1])
    bounds = np.searchsorted(day_of, np.arange(first, last + 2))
    weekday = (np.arange(first, last + 1) - MONDAY_MS // DAY_MS) % 7
    picked: list[NDArray[np.int64]] = []
    times: list[NDArray[np.int64]] = []
    for day in range(days):
        alike = np.flatnonzero(weekday == day % 7)
        for source in rng.choice(alike, layers).tolist():
            rows = np.arange(bounds[source], bounds[source + 1])
            picked.append(rows)
            times.append(background.times_ms[rows] % DAY_MS + MONDAY_MS + day * DAY_MS)
    rows, at = np.concatenate(picked), np.concatenate(times)
    order = np.argsort(at, kind="stable")
    rows, at = rows[order], at[order]
    keys: dict[str, int] = {"all": 0}
    text_of: list[int] = []
    series_of: list[int] = []
    for number, row in enumerate(rows.tolist()):
        names = ("all", f"topic:{background.topics[row]}", *(f"company:{name}" for name in background.companies[row]))
        text_of += [number] * len(names)
        series_of += [keys.setdefault(name, len(keys)) for name in names]
    return Texts(list(keys), at, background.labels[rows], np.array(text_of, np.int64), np.array(series_of, np.int64))
