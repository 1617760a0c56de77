"""Window records: one closed pane of one series, with the aggregates of the windows that end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from alerts.panes import DOCUMENTS, FIELDS, WEIGHT_MICRO
from streamer.core.records import KeyedRecord
from streamer.core.reduction import Reduced
from streamer.core.runs import run_numbers
from streamer.core.story_times import NO_TIME
from streamer.core.watch_settings import WatchSettings
from streamer.timestamps import format_duration

_COUNTS = FIELDS[:5]
_ROWS_AT_ONCE = 1024
_SQUARES = FIELDS.index("sentiment_sq_micro")


@dataclass(frozen=True, slots=True)
class WindowRows:
    """n rows, one per closed pane and series that had documents or late ones in it, by pane, then key.

    `start_ms` int64[n] is the beginning of the pane; `counts` int64[n, F]; `windows` int64[W, n, F]: the sums over the
    windows that end with the pane. Of the pane, then of each window: `sources` int64[1 + W, n], independent ones;
    `first_ms`, `last_ms` int64[1 + W, n], of its stories, `NO_TIME` for none; `strongest` int64[1 + W, n, k], the most
    negative stories, places in `ids`, -1 for none; `late` int64[1 + W, n], documents that came too late, by the pane
    that was open then. `models`: who scored the pane.
    """

    book: str
    pane_ms: int
    windows_ms: tuple[int, ...]
    keys: list[str]
    start_ms: NDArray[np.int64]
    counts: NDArray[np.int64]
    windows: NDArray[np.int64]
    sources: NDArray[np.int64]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    strongest: NDArray[np.int64]
    ids: list[str]
    late: NDArray[np.int64]
    models: list[str]

    @classmethod
    def of(
        cls,
        settings: WatchSettings,
        reduced: Reduced,
        *,
        keys: list[str],
        windows: NDArray[np.int64],
        times: NDArray[np.int64],
        strongest: NDArray[np.int64],
        ids_of: Callable[[NDArray[np.int64]], list[str]],
        sources: NDArray[np.int64],
        late: NDArray[np.int64],
        models: list[str],
    ) -> WindowRows:
        """The rows of a reduced batch. `models` is by pane, everything else by group.

        `times` int64[2, W, g] are the first and last story of each window; `strongest` int64[1 + W, g, k] are texts
        whose ids `ids_of` knows, given their numbers, ascending.
        """
        number = run_numbers(reduced.pane).tolist()
        order = sorted(range(len(keys)), key=lambda group: (number[group], keys[group]))
        rows = np.array(order, dtype=np.int64)
        texts, place = _distinct(strongest[:, rows])
        return cls(
            book=settings.book,
            pane_ms=settings.pane_ms,
            windows_ms=settings.windows_ms,
            keys=[keys[group] for group in order],
            start_ms=reduced.pane[rows] * settings.pane_ms,
            counts=reduced.counts[rows],
            windows=windows[:, rows],
            sources=sources[:, rows],
            first_ms=np.concatenate((reduced.first_ms[None, rows], times[0][:, rows])),
            last_ms=np.concatenate((reduced.last_ms[None, rows], times[1][:, rows])),
            strongest=place,
            ids=ids_of(texts),
            late=late[:, rows],
            models=[models[number[group]] for group in order],
        )

    def records(self) -> Iterator[KeyedRecord]:
        """One record per row. The key is unique per book, series and pane, so a repeat is an upsert."""
        ids = np.array([*self.ids, None], dtype=object)
        for begin in range(0, len(self.keys), _ROWS_AT_ONCE):
            yield from self._records(slice(begin, begin + _ROWS_AT_ONCE), ids)

    def _records(self, rows: slice, ids: NDArray[np.object_]) -> Iterator[KeyedRecord]:
        names = [format_duration(window / 1000) for window in self.windows_ms]
        counts = [self.counts[rows], *self.windows[:, rows]]
        first, last = _times(self.first_ms[:, rows]), _times(self.last_ms[:, rows])
        strongest = [_ids(ids, places) for places in self.strongest[:, rows]]
        spans = map(_span_columns, counts, self.sources[:, rows], first, last, strongest, self.late[:, rows])
        start_ms = self.start_ms[rows]
        starts, ends = _times(start_ms), _times(start_ms + self.pane_ms)
        for key, start, end, model, pane, *windows in zip(
            self.keys[rows], starts, ends, self.models[rows], *spans, strict=True
        ):
            record: dict[str, Any] = {"book": self.book, "series": key, "start": start, "end": end, **pane}
            record["windows"] = dict(zip(names, windows, strict=True))
            record["model"] = model
            yield KeyedRecord(f"{self.book}/{key}@{start}".encode(), orjson.dumps(record))

    def strongest_ids(self, span: int) -> list[list[str]]:
        """By row, the ids of the most negative stories of the pane (0) or window (1 and on)."""
        return _ids(np.array([*self.ids, None], dtype=object), self.strongest[span])


def _ids(ids: NDArray[np.object_], places: NDArray[np.int64]) -> list[list[str]]:
    """Row by row the `ids`, of which the last is none, at `places` int64[n, k]; -1, behind all others, is left out."""
    rows: list[list[str]] = ids[places].tolist()
    return [row[:size] for row, size in zip(rows, (places >= 0).sum(axis=1).tolist(), strict=True)]


def mean_sentiment(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64[n]: the weighted mean of p(positive) - p(negative) of sums int64[n, F]; 0 without documents."""
    weight = np.maximum(counts[:, WEIGHT_MICRO], 1)
    means: NDArray[np.float64] = (counts[:, WEIGHT_MICRO + 3] - counts[:, WEIGHT_MICRO + 1]) / weight
    return means


def dispersion(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64[n]: the weighted standard deviation of the same; 0 without documents."""
    weight = np.maximum(counts[:, WEIGHT_MICRO], 1)
    spread: NDArray[np.float64] = np.sqrt(np.maximum(counts[:, _SQUARES] / weight - mean_sentiment(counts) ** 2, 0))
    return spread


def _span_columns(
    counts: NDArray[np.int64],
    sources: NDArray[np.int64],
    first: list[str | None],
    last: list[str | None],
    strongest: list[list[str]],
    late: NDArray[np.int64],
) -> list[dict[str, Any]]:
    weight = np.maximum(counts[:, WEIGHT_MICRO], 1)[:, None]
    shares = np.round(counts[:, WEIGHT_MICRO + 1 : WEIGHT_MICRO + 4] / weight, 6)
    return [
        {
            "documents": documents,
            "copies": copies,
            "negative": negative,
            "neutral": neutral,
            "positive": positive,
            "sources": source,
            "weight": total,
            "shares": {"negative": share[0], "neutral": share[1], "positive": share[2]},
            "mean_sentiment": mean,
            "dispersion": spread,
            "first": begun,
            "last": ended,
            "strongest": ids,
            "late": missed,
        }
        for (
            documents,
            copies,
            negative,
            neutral,
            positive,
        ), source, total, share, mean, spread, begun, ended, ids, missed in zip(
            counts[:, DOCUMENTS : len(_COUNTS)].tolist(),
            sources.tolist(),
            (counts[:, WEIGHT_MICRO] / 1e6).tolist(),
            shares.tolist(),
            np.round(mean_sentiment(counts), 6).tolist(),
            np.round(dispersion(counts), 6).tolist(),
            first,
            last,
            strongest,
            late.tolist(),
            strict=True,
        )
    ]


def _times(times_ms: NDArray[np.int64]) -> Any:
    """RFC 3339 of each time, None for `NO_TIME`, as nested lists of the array's shape; each time is written once."""
    distinct, place = np.unique(times_ms, return_inverse=True)
    texts = np.datetime_as_string(distinct.astype("datetime64[ms]"), unit="ms").tolist()
    table = np.array([f"{text}Z" for text in texts], dtype=object)
    table[distinct == NO_TIME] = None
    return table[place].tolist()


def _distinct(texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct numbers in `texts` but -1, ascending; and for each, in its shape, the place among them or -1."""
    high = int(texts.max(initial=0))
    low = int(np.where(texts < 0, high, texts).min(initial=high))
    if high - low > 4 * texts.size:
        distinct, place = np.unique(texts, return_inverse=True)
        absent = int(np.searchsorted(distinct, 0))
        return distinct[absent:], place.reshape(texts.shape) - absent
    used = np.zeros(high - low + 2, dtype=np.bool_)
    used[np.maximum(texts - low, -1)] = True
    used[-1] = False
    table = np.cumsum(used) - 1
    table[-1] = -1
    return np.flatnonzero(used) + low, table[np.maximum(texts - low, -1)]
