"""The same machinery on any numeric series: what is expected now, how surprising, how often ordinary days do that.

Counts (non-negative whole numbers) are negative binomial, other values normal around the expected. The expected
follows the series' rhythm over the day (see `season`) times a level that forgets over days; outliers teach it only up
to a bound. Surprise is the mean over several window lengths, so a lone spike of one row and a slow swell both must show
in more than one of them; it goes through the measured tail of its own past (see `tails`, after Siffer et al. 2017). One
excursion is one alert: while a series stays surprising, or shortly after, it scores nothing unless it becomes much
rarer still.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from alerts.baseline import Floats, Ints
from alerts.durations import DAY_MS, HOUR_MS
from alerts.season import Season, keep_over
from alerts.surprise import count_surprise
from alerts.tails import Tails

_LN10 = float(np.log(10.0))
_WINSOR_SD = 3.0
_ORDINARY_SURPRISE = 1.0
_EPISODE_FLOOR = 0.3
_PRIOR_DAYS = 3.0
_REFRESH_MS = DAY_MS // 4


class NumericSettings(NamedTuple):
    """How a series is watched.

    `windows` in rows; `memory_days` the half-life of the level; `rest_days` how long one excursion mutes what is not
    `much_rarer` (decades) than it; `warm_up_days` without alerts; `alert_every_days` the false-alarm budget.
    """

    windows: tuple[int, ...] = (1, 3, 6, 12, 36)
    memory_days: float = 4.0
    rest_days: float = 0.5
    much_rarer: float = 1.0
    warm_up_days: float = 1.0
    alert_every_days: float = 30.0
    two_sided: bool = False


class NumericScores(NamedTuple):
    """Columns float64[n] and bool[n], one row per input row.

    Whether the values are counts is told from all of them, and the first spread of other values from the first 20;
    nothing else in a row depends on later rows.
    """

    expected: Floats
    score: Floats
    alert: NDArray[np.bool_]


class _Expected(NamedTuple):
    """Per row, float64[n, windows]: a window's sum, its mean, and its relative variance (of values: variance)."""

    level: Floats
    seen: Floats
    mean: Floats
    spread: Floats


DEFAULTS = NumericSettings()


def score_series(times_ms: Ints, values: Floats, settings: NumericSettings = DEFAULTS) -> NumericScores:
    """Score a series of rows in order of time. Raises ValueError where lengths differ or times go back."""
    if len(times_ms) != len(values):
        raise ValueError(f"{len(times_ms)} times for {len(values)} values")
    if len(times_ms) == 0:
        return NumericScores(np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))
    if int(np.diff(times_ms).min(initial=0)) < 0:
        raise ValueError("times go back: sort the rows by time")
    values = np.nan_to_num(np.asarray(values, np.float64))
    counts = bool((values >= 0).all() and (values == np.round(values)).all())
    expected = _expect(times_ms, values, settings, counts)
    surprise = _surprise(expected, settings, counts).mean(axis=1)
    rarity = once(times_ms, rarities(times_ms, surprise, settings), settings)
    rarity[times_ms - times_ms[0] < settings.warm_up_days * DAY_MS] = 0.0
    return NumericScores(expected.level, rarity / (rarity + 1.5), rarity >= math.log10(settings.alert_every_days))


def _expect(times_ms: Ints, values: Floats, settings: NumericSettings, counts: bool) -> _Expected:
    """One pass in order of time: level, rhythm and spread as they stood before each row."""
    memory_ms = settings.memory_days * DAY_MS
    season = Season(round(7 * memory_ms))
    windows = settings.windows
    rows = len(values)
    level_of = np.zeros(rows)
    seen_of, mean_of, spread_of = (np.zeros((rows, len(windows))) for _ in range(3))
    spread = [0.2] * len(windows) if counts else [float(values[:20].var()) * window + 1e-9 for window in windows]
    total = weight = 0.0
    known = 20.0
    hour = last_ms = -1
    profile = 1.0
    value_sums, level_sums = [0.0], [0.0]
    for row, (now_ms, value) in enumerate(zip(times_ms.tolist(), values.tolist(), strict=True)):
        if now_ms // HOUR_MS != hour:
            hour = now_ms // HOUR_MS
            season.advance(now_ms)
            profile = (
                max(float(season.days_between(hour * HOUR_MS, (hour + 1) * HOUR_MS)) * 24.0, 0.02) if counts else 1.0
            )
        level = total / weight if weight > 0.0 else value
        level_of[row] = expected = level * profile
        value_sums.append(value_sums[-1] + value)
        level_sums.append(level_sums[-1] + expected)
        for number, window in enumerate(windows):
            start = max(row + 1 - window, 0)
            seen, mean = value_sums[-1] - value_sums[start], level_sums[-1] - level_sums[start]
            share = spread[number]
            if counts:
                mean = max(mean, 0.5)
                moment = min(((seen - mean) ** 2 - mean) / mean**2, 9.0 * (share + 1.0 / mean) + 1.0)
            else:
                moment = min((seen - mean) ** 2, 9.0 * share)
            seen_of[row, number], mean_of[row, number], spread_of[row, number] = seen, mean, share
            spread[number] = max(share + (moment - share) / (known + 1.0), 0.01 if counts else 1e-12)
        known = min(known + 1.0, 2000.0)
        variance = level**2 * spread[0] + level / profile if counts else spread[0]
        bound = _WINSOR_SD * math.sqrt(variance)
        taught = value if row < 20 else min(max(value / profile, level - bound), level + bound) * profile
        keep = keep_over(memory_ms, now_ms - last_ms) if last_ms >= 0 else 1.0
        total, weight = total * keep + taught, weight * keep + profile
        if counts:
            season.add(taught)
        last_ms = now_ms
    return _Expected(level_of, seen_of, mean_of, spread_of)


def _surprise(expected: _Expected, settings: NumericSettings, counts: bool) -> Floats:
    """-log10 of the chance of each window's sum, float64[n, windows]; what is too low counts only when two-sided."""
    if counts:
        high = count_surprise(expected.seen, expected.mean, expected.spread)
        z = 2.0 * (np.sqrt(expected.seen) - np.sqrt(expected.mean)) / np.sqrt(1.0 + expected.mean * expected.spread)
    else:
        z = (expected.seen - expected.mean) / np.sqrt(expected.spread)
        high = -log_ndtr(-z) / _LN10
    low = -log_ndtr(z) / _LN10 if settings.two_sided else np.zeros_like(z)
    return np.asarray(np.where(z > 0.0, high, low))


def rarities(times_ms: Ints, surprise: Floats, settings: NumericSettings) -> Floats:
    """log10 of the days between ordinary scores as high, float64[n], each row by the tail measured before it."""
    rarity = np.zeros(len(times_ms))
    one = np.zeros(1, np.int64)
    gap_ms = settings.rest_days * DAY_MS / 4
    tails = Tails(np.array([1.0]))
    peak, peak_ms, begin = 0.0, 0, 0
    bounds = np.searchsorted(times_ms, np.arange(int(times_ms[0]), int(times_ms[-1]) + _REFRESH_MS, _REFRESH_MS))
    for end in [*bounds[1:].tolist(), len(times_ms)]:
        if end <= begin:
            continue
        part = surprise[begin:end]
        found = -tails.log_rate(np.zeros(len(part), np.int64), part)
        rarity[begin:end] = np.where(part > _ORDINARY_SURPRISE, np.maximum(found, 0.0), 0.0)
        for place in np.flatnonzero(part >= _EPISODE_FLOOR).tolist():
            value, now_ms = float(part[place]), int(times_ms[begin + place])
            if peak > 0.0 and now_ms - peak_ms > gap_ms:
                tails.record(one, np.array([peak]), np.zeros(1, np.bool_))
                peak = 0.0
            if value >= 0.7 * peak:
                peak, peak_ms = max(value, peak), now_ms
        tails.watch(one, np.array([(times_ms[end - 1] - times_ms[begin]) / DAY_MS]))
        tails.refresh(_PRIOR_DAYS)
        begin = end
    return rarity


def once(times_ms: Ints, rarity: Floats, settings: NumericSettings) -> Floats:
    """One excursion scores once: what follows within the rest scores only where it is much rarer."""
    kept = np.zeros(len(rarity))
    held, held_ms = 0.0, 0
    rest_ms = settings.rest_days * DAY_MS
    for row in np.flatnonzero(rarity > 0.0).tolist():
        now_ms, value = int(times_ms[row]), float(rarity[row])
        if held > 0.0 and now_ms - held_ms >= rest_ms:
            held = 0.0
        if held == 0.0 or value > held + settings.much_rarer:
            kept[row] = held = value
            held_ms = now_ms
        elif value > 0.7 * held:
            held_ms = now_ms
    return kept
