"""Closed panes built straight from arrays of labelled texts, so that detection is tested without models or Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alerts.engine import AlertEngine
from alerts.panes import FIELDS, NO_EVIDENCE, ClosedPane
from alerts.records import AlertRecord

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WINDOWS_MS = (15 * MINUTE_MS, HOUR_MS, DAY_MS)
NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2


@dataclass
class Texts:
    """Labelled texts: `times_ms`, `labels` int64[n] (0 negative, 1 neutral, 2 positive), and (text, series) pairs."""

    keys: list[str]
    times_ms: NDArray[np.int64]
    labels: NDArray[np.int64]
    text_of: NDArray[np.int64]
    series_of: NDArray[np.int64]


def gather(rows: Sequence[tuple[int, int, tuple[str, ...]]]) -> Texts:
    """Texts of rows (time_ms, label, series keys)."""
    keys: dict[str, int] = {}
    text_of, series_of = [], []
    for number, (_, _, names) in enumerate(rows):
        for name in names:
            text_of.append(number)
            series_of.append(keys.setdefault(name, len(keys)))
    return Texts(
        keys=list(keys),
        times_ms=np.array([row[0] for row in rows], np.int64),
        labels=np.array([row[1] for row in rows], np.int64),
        text_of=np.array(text_of, np.int64),
        series_of=np.array(series_of, np.int64),
    )


def panes(
    texts: Texts, is_live: Callable[[], bool], pane_ms: int = MINUTE_MS, windows_ms: tuple[int, ...] = WINDOWS_MS
) -> Iterator[ClosedPane]:
    """The closed panes of these texts in order of time; quiet ones only while `is_live()`."""
    fields = len(FIELDS)
    at = texts.times_ms[texts.text_of] // pane_ms
    labels = texts.labels[texts.text_of]
    series = len(texts.keys)
    cell, place = np.unique(at * series + texts.series_of, return_inverse=True)
    counts = np.zeros((len(cell), fields), np.int64)
    np.add.at(counts[:, 0], place, 1)
    for label in (NEGATIVE, NEUTRAL, POSITIVE):
        np.add.at(counts[:, 2 + label], place, labels == label)
        np.add.at(counts[:, 6 + label], place, (labels == label) * 1_000_000)
    np.add.at(counts[:, 5], place, 1_000_000)
    np.add.at(counts[:, 9], place, (labels != NEUTRAL) * 1_000_000)
    cell_pane, cell_series = np.divmod(cell, max(series, 1))
    busy, first = np.unique(cell_pane, return_index=True)
    last = np.append(first[1:], len(cell))
    windows = np.zeros((len(windows_ms), series, fields), np.int64)
    spans = [length // pane_ms for length in windows_ms]
    tails = [0] * len(spans)
    none = (np.zeros(0, np.int64), np.zeros((0, fields), np.int64))

    def expire(pane: int) -> None:
        for number, span in enumerate(spans):
            end = tails[number]
            while end < len(cell) and cell_pane[end] <= pane - span:
                end += 1
            if end > tails[number]:
                cut = slice(tails[number], end)
                np.subtract.at(windows[number], cell_series[cut], counts[cut])
                tails[number] = end

    view = windows.view()
    view.flags.writeable = False
    for number, pane in enumerate(busy.tolist()):
        cut = slice(int(first[number]), int(last[number]))
        expire(pane)
        windows[:, cell_series[cut]] += counts[cut]
        yield ClosedPane(pane * pane_ms, (pane + 1) * pane_ms, cell_series[cut], counts[cut], view, texts.keys)
        quiet = pane + 1
        stop = int(busy[number + 1]) if number + 1 < len(busy) else pane + 1 + 2 * spans[-1]
        while quiet < stop and is_live():
            expire(quiet)
            yield ClosedPane(quiet * pane_ms, (quiet + 1) * pane_ms, none[0], none[1], view, texts.keys)
            quiet += 1


def run(engine: AlertEngine, texts: Texts) -> list[AlertRecord]:
    """All records of these texts."""
    records: list[AlertRecord] = []
    for pane in panes(texts, engine.is_live, engine.pane_ms, engine.windows_ms):
        records += observed(engine, pane)
    return records


def observed(engine: AlertEngine, pane: ClosedPane) -> list[AlertRecord]:
    """The records of this pane, of which nothing is known but counts."""
    said = engine.observe(pane, lambda series, start_ms, end_ms: NO_EVIDENCE, "model-test")
    return [change.record for change in said]
