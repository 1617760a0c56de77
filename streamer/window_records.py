"""Window records: one closed pane of one series, with the aggregates of the windows that end with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from alerts.panes import DOCUMENTS, FIELDS, WEIGHT_MICRO
from streamer.evidence import text_column
from streamer.pending import Batch
from streamer.records import KeyedRecord
from streamer.reduction import Reduced
from streamer.runs import run_numbers
from streamer.timestamps import format_duration
from streamer.watch_settings import WatchSettings

_COUNTS = FIELDS[:5]
_SQUARES = FIELDS.index("sentiment_sq_micro")


@dataclass(frozen=True, slots=True)
class WindowRows:
    """n rows, one per closed pane and series that had documents in it, by pane, then key.

    `start_ms` int64[n] is the beginning of the pane; `counts` int64[n, F]; `windows` int64[W, n, F]: the sums over the
    windows that end with the pane; `sources` int64[1 + W, n]: independent ones in the pane, then in each window;
    `first_ms`, `last_ms` int64[n]; `strongest`: ids of the most negative stories; `late`: of the series `all`, how
    many documents missed their pane since the pane before; `models`: who scored the pane.
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
    strongest: list[list[str]]
    late: list[int]
    models: list[str]

    @classmethod
    def of(
        cls,
        settings: WatchSettings,
        batch: Batch,
        reduced: Reduced,
        *,
        keys: list[str],
        windows: NDArray[np.int64],
        sources: NDArray[np.int64],
        late: list[int],
        models: list[str],
    ) -> WindowRows:
        """The rows of a reduced batch. `keys`, `windows` and `sources` are by group, `late` and `models` by pane."""
        number = run_numbers(reduced.pane).tolist()
        order = sorted(range(len(keys)), key=lambda group: (number[group], keys[group]))
        rows = np.array(order, dtype=np.int64)
        return cls(
            book=settings.book,
            pane_ms=settings.pane_ms,
            windows_ms=settings.windows_ms,
            keys=[keys[group] for group in order],
            start_ms=reduced.pane[rows] * settings.pane_ms,
            counts=reduced.counts[rows],
            windows=windows[:, rows],
            sources=sources[:, rows],
            first_ms=reduced.first_ms[rows],
            last_ms=reduced.last_ms[rows],
            strongest=_ids(batch, reduced.strongest[rows]),
            late=[late[number[group]] if keys[group] == "all" else 0 for group in order],
            models=[models[number[group]] for group in order],
        )

    def records(self) -> list[KeyedRecord]:
        """One record per row. The key is unique per book, series and pane, so a repeat is an upsert."""
        names = [format_duration(window / 1000) for window in self.windows_ms]
        spans = [_span_columns(self.counts, self.sources[0])]
        spans += [_span_columns(self.windows[w], self.sources[1 + w]) for w in range(len(names))]
        starts, ends = _times(self.start_ms), _times(self.start_ms + self.pane_ms)
        first, last = _times(self.first_ms), _times(self.last_ms)
        records = []
        for row, (key, start, strongest, *span) in enumerate(
            zip(self.keys, starts, self.strongest, *spans, strict=True)
        ):
            record: dict[str, Any] = {"book": self.book, "series": key, "start": start, "end": ends[row]}
            record |= span[0]
            record |= {"first": first[row], "last": last[row], "strongest": strongest}
            if key == "all":
                record["late"] = self.late[row]
            record["windows"] = dict(zip(names, span[1:], strict=True))
            record["model"] = self.models[row]
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


def _ids(batch: Batch, documents: NDArray[np.int64]) -> list[list[str]]:
    """The ids of documents int64[n, k], row by row, -1 left out; each id is decoded once."""
    distinct = np.unique(documents)
    distinct = distinct[distinct >= 0]
    ids = dict(zip(distinct.tolist(), text_column(batch, distinct, "id").texts(), strict=True))
    return [[ids[document] for document in row if document >= 0] for row in documents.tolist()]
