"""Window records: one closed pane of one series, with the aggregates of the windows that end with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from alerts.panes import DOCUMENTS, FIELDS, WEIGHT_MICRO
from streamer.records import KeyedRecord
from streamer.timestamps import format_duration, format_rfc3339

_COUNTS = FIELDS[:5]
_SQUARES = FIELDS.index("sentiment_sq_micro")


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The n series that had documents in one closed pane, ascending by key.

    `counts` int64[n, F]; `windows` int64[W, n, F]; `sources` int64[1 + W, n]: of the pane, then of each window;
    `first_ms`, `last_ms` int64[n]; `strongest`: ids of each series' most negative stories. `late` documents missed
    their pane since the pane before.
    """

    book: str
    start_ms: int
    end_ms: int
    windows_ms: tuple[int, ...]
    keys: list[str]
    counts: NDArray[np.int64]
    windows: NDArray[np.int64]
    sources: NDArray[np.int64]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    strongest: list[list[str]]
    late: int
    model: str

    def records(self) -> list[KeyedRecord]:
        """One record per series. The key is unique per book, series and pane, so a repeat is an upsert."""
        start, end = format_rfc3339(self.start_ms), format_rfc3339(self.end_ms)
        names = [format_duration(window / 1000) for window in self.windows_ms]
        spans = [_span_columns(self.counts, self.sources[0])]
        spans += [_span_columns(self.windows[w], self.sources[1 + w]) for w in range(len(names))]
        first, last = _times(self.first_ms), _times(self.last_ms)
        records = []
        for row, (key, strongest, *span) in enumerate(zip(self.keys, self.strongest, *spans, strict=True)):
            record: dict[str, Any] = {"book": self.book, "series": key, "start": start, "end": end}
            record |= span[0]
            record |= {"first": first[row], "last": last[row], "strongest": strongest}
            if key == "all":
                record["late"] = self.late
            record["windows"] = dict(zip(names, span[1:], strict=True))
            record["model"] = self.model
            records.append(KeyedRecord(f"{self.book}/{key}@{start}".encode(), orjson.dumps(record)))
        return records


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


def _span_columns(counts: NDArray[np.int64], sources: NDArray[np.int64]) -> list[dict[str, Any]]:
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
        }
        for (documents, copies, negative, neutral, positive), source, total, share, mean, spread in zip(
            counts[:, DOCUMENTS : len(_COUNTS)].tolist(),
            sources.tolist(),
            (counts[:, WEIGHT_MICRO] / 1e6).tolist(),
            shares.tolist(),
            np.round(mean_sentiment(counts), 6).tolist(),
            np.round(dispersion(counts), 6).tolist(),
            strict=True,
        )
    ]


def _times(times_ms: NDArray[np.int64]) -> list[str]:
    texts: list[str] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), unit="ms").tolist()
    return [f"{text}Z" for text in texts]
