"""How long one closed pane takes the desk of a book with 100,000 series: baselines, detection, lives, dispatch."""

from __future__ import annotations

from collections import deque
from time import process_time

import numpy as np
from numpy.typing import NDArray

from alerts.desk import Desk
from alerts.panes import DOCUMENTS, FIELDS, NEGATIVE, NO_EVIDENCE, POSITIVE, ClosedPane
from alerts.rules import RuleSet

SERIES = 100_000
ALLOWED_SECONDS = 0.5
_PANE_MS = 900_000
_WINDOWS = (1, 4, 96)
_START_MS = 1_704_067_200_000
_COLUMNS = (DOCUMENTS, NEGATIVE, POSITIVE)


def pane_seconds(active: int, panes: int, measured: int) -> NDArray[np.float64]:
    """CPU seconds of each of the last `measured` of `panes` panes of 15 minutes in which `active` series have texts.

    One in five texts is negative, at random: alerts are false ones, as many as the default rules allow.
    """
    random = np.random.default_rng(7)
    keys = ["all", *(f"company:S{number}" for number in range(1, SERIES))]
    desk = Desk(RuleSet(), book="main", pane_ms=_PANE_MS, windows_ms=tuple(_PANE_MS * n for n in _WINDOWS))
    past: deque[NDArray[np.int16]] = deque(maxlen=_WINDOWS[-1] + 1)
    windows = np.zeros((len(_WINDOWS), SERIES, len(FIELDS)), np.int64)
    seconds = []
    for pane in range(panes):
        chosen = random.choice(SERIES, active, replace=False) if active < SERIES else np.arange(SERIES)
        told = np.zeros((SERIES, len(_COLUMNS)), np.int16)
        told[chosen, 0] = 1 + random.poisson(1.0, len(chosen))
        told[chosen, 1] = random.binomial(told[chosen, 0], 0.2)
        told[chosen, 2] = random.binomial(told[chosen, 0] - told[chosen, 1], 0.4)
        past.append(told)
        for number, length in enumerate(_WINDOWS):
            windows[number][:, _COLUMNS] += told
            if len(past) > length:
                windows[number][:, _COLUMNS] -= past[-1 - length]
        ids = np.sort(chosen)
        counts = np.zeros((len(ids), len(FIELDS)), np.int64)
        counts[:, _COLUMNS] = told[ids]
        start_ms = _START_MS + pane * _PANE_MS
        closed = ClosedPane(start_ms, start_ms + _PANE_MS, ids, counts, windows, keys)
        begun = process_time()
        desk.observe(closed, lambda series, start, end: NO_EVIDENCE, "made-up")
        seconds.append(process_time() - begun)
    return np.array(seconds[-measured:])


def many_series_panes(panes: int) -> bool:
    """Seconds per closed pane of a book with 100,000 series, all of them or one in a hundred with texts."""
    kept = True
    for active in (SERIES // 100, SERIES):
        seconds = pane_seconds(active, panes, panes // 6)
        median, most = float(np.median(seconds)), float(seconds.max())
        print(f"  {active:,} of {SERIES:,} series with texts: median {median:.3f} s a pane, longest {most:.3f} s")
        kept = kept and median <= ALLOWED_SECONDS
    return kept
