"""The files that a backtest leaves: all of them, or none."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from alerts.notifications import Notification
from alerts.panes import FIELDS
from alerts.records import AlertRecord
from streamer.core.story_times import NO_TIME
from streamer.core.window_records import WindowRows, dispersion, mean_sentiment
from streamer.timestamps import format_duration

ALERTS, NOTIFICATIONS, WINDOWS = "alerts.jsonl", "notifications.jsonl", "windows.parquet"
METRICS, REJECTS = "metrics.json", "rejects.jsonl"
NAMES: Final = frozenset((ALERTS, NOTIFICATIONS, WINDOWS, METRICS, REJECTS))

_PARTIAL: Final = ".partial-"
_ROWS_AT_ONCE: Final = 50_000
_TIME: Final = pa.timestamp("ms", tz="UTC")


class OutputError(Exception):
    """A directory that cannot take the results; says why and what to do."""


@contextmanager
def result_directory(target: Path) -> Iterator[Path]:
    """A directory to write to, whose files are at `target` once all went well. Raises OutputError.

    A new `target` appears as a whole. One that exists stays (it may be a mount, a link, where the user stands) and
    gets the files one by one: its `metrics.json` goes first and comes last, so where that is the rest is complete.
    """
    target = target.resolve()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = target.parent / f".{target.name}-{token_hex(4)}"
    elif target.is_dir():
        foreign = sorted(
            name for each in target.iterdir() if (name := each.name) not in NAMES and not name.startswith(_PARTIAL)
        )
        if foreign:
            raise OutputError(f"{target} holds {foreign[0]!r}, which no backtest wrote; name another directory")
        work = target / f"{_PARTIAL}{token_hex(4)}"
    else:
        raise OutputError(f"{target} is a file; name a directory")
    work.mkdir()
    try:
        yield work
        if work.parent == target:
            _replace(work, target)
        else:
            work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _replace(work: Path, target: Path) -> None:
    (target / METRICS).unlink(missing_ok=True)
    for name in (*sorted(NAMES - {METRICS}), METRICS):
        if (work / name).exists():
            (work / name).replace(target / name)
        else:
            (target / name).unlink(missing_ok=True)
    work.rmdir()


class AlertFile:
    """`alerts.jsonl`: every change of every alert, in order; and what they come to."""

    def __init__(self, directory: Path) -> None:
        self._out: BinaryIO = (directory / ALERTS).open("wb")
        self._changes: Counter[str] = Counter()
        self._latest: dict[str, tuple[bool, str]] = {}

    @property
    def fired(self) -> int:
        """How many alerts have fired."""
        return self._changes["fired"]

    def write(self, alerts: list[AlertRecord]) -> None:
        """Append the next changes."""
        for alert in alerts:
            self._out.write(alert.encode() + b"\n")
            self._changes[alert.change] += 1
            if alert.fired_at_ms is not None:
                self._latest[alert.id] = (alert.state == "firing", alert.peak_severity)

    def close(self) -> dict[str, Any]:
        """End the file; counts of changes, and of alerts that fired by their peak severity."""
        self._out.close()
        return {
            "records": sum(self._changes.values()),
            "changes": dict(sorted(self._changes.items())),
            "fired": len(self._latest),
            "still_firing": sum(firing for firing, _ in self._latest.values()),
            "by_severity": dict(sorted(Counter(severity for _, severity in self._latest.values()).items())),
        }


class NotificationFile:
    """`notifications.jsonl`: every notification, in order; and what they come to."""

    def __init__(self, directory: Path) -> None:
        self._out: BinaryIO = (directory / NOTIFICATIONS).open("wb")
        self._groups: set[str] = set()
        self._written = 0

    def write(self, notifications: list[Notification]) -> None:
        """Append the next notifications."""
        for notification in notifications:
            self._out.write(notification.encode() + b"\n")
            self._groups.add(notification.group)
            self._written += 1

    def close(self) -> dict[str, int]:
        """End the file; how many notifications, about how many groups."""
        self._out.close()
        return {"records": self._written, "groups": len(self._groups)}


class WindowFile:
    """`windows.parquet`: one row per book, series and closed pane.

    The sums of a window of 15 minutes are columns `15m_documents` and so on, null where a book has no such window;
    `windows_ms` are the windows of all books.
    """

    def __init__(self, directory: Path, windows_ms: Collection[int]) -> None:
        self._windows_ms = sorted(windows_ms)
        self._waiting: list[WindowRows] = []
        self._rows = 0
        self._written = 0
        self._schema = self._columns([]).schema
        self._writer = parquet.ParquetWriter(directory / WINDOWS, self._schema, compression="zstd")

    def write(self, windows: list[WindowRows]) -> None:
        """Append the next closed panes."""
        self._waiting += windows
        self._rows += sum(len(rows.keys) for rows in windows)
        if self._rows >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> int:
        """End the file; how many rows it has."""
        self._flush()
        self._writer.close()
        return self._written

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._columns(self._waiting))
        self._written += self._rows
        self._waiting, self._rows = [], 0

    def _columns(self, panes: list[WindowRows]) -> pa.Table:
        columns: dict[str, Any] = {
            "book": pa.array([rows.book for rows in panes for _ in rows.keys], pa.string()),
            "series": pa.array([key for rows in panes for key in rows.keys], pa.string()),
            "start": pa.array(_joined([rows.start_ms for rows in panes]), _TIME),
            "end": pa.array(_joined([rows.start_ms + rows.pane_ms for rows in panes]), _TIME),
        }
        counts = [rows.counts for rows in panes]
        columns |= _sums("", counts, [rows.sources[0] for rows in panes])
        columns |= _stories("", panes, [0] * len(panes))
        columns["model"] = pa.array([model for rows in panes for model in rows.models], pa.string())
        for window_ms in self._windows_ms:
            columns |= self._window(window_ms, panes)
        return pa.table(columns)

    def _window(self, window_ms: int, panes: list[WindowRows]) -> dict[str, Any]:
        name = format_duration(window_ms / 1000)
        having = [rows for rows in panes if window_ms in rows.windows_ms]
        place = [rows.windows_ms.index(window_ms) for rows in having]
        counts = [rows.windows[at] for rows, at in zip(having, place, strict=True)]
        sources = [rows.sources[1 + at] for rows, at in zip(having, place, strict=True)]
        columns = _sums(f"{name}_", counts, sources) | _stories(f"{name}_", having, [1 + at for at in place])
        if len(having) == len(panes):
            return columns
        known = np.repeat([window_ms in rows.windows_ms for rows in panes], [len(rows.keys) for rows in panes])
        places = pa.array(np.cumsum(known) - 1, mask=~known)
        return {column: values.take(places) for column, values in columns.items()}


def _sums(prefix: str, counts: list[NDArray[np.int64]], sources: list[NDArray[np.int64]]) -> dict[str, Any]:
    sums = _joined(counts, len(FIELDS))
    columns = {f"{prefix}{name}": pa.array(sums[:, number], pa.int64()) for number, name in enumerate(FIELDS)}
    columns[f"{prefix}sources"] = pa.array(_joined(sources), pa.int64())
    columns[f"{prefix}mean_sentiment"] = pa.array(mean_sentiment(sums), pa.float64())
    columns[f"{prefix}dispersion"] = pa.array(dispersion(sums), pa.float64())
    return columns


def _stories(prefix: str, panes: list[WindowRows], spans: list[int]) -> dict[str, Any]:
    """When the stories of one span of each of `panes` came, the ids of the strongest, and how many were too late."""
    columns = {}
    for name in ("first_ms", "last_ms"):
        times = _joined([getattr(rows, name)[span] for rows, span in zip(panes, spans, strict=True)])
        columns[f"{prefix}{name.removesuffix('_ms')}"] = pa.array(times, _TIME, mask=times == NO_TIME)
    ids = [each for rows, span in zip(panes, spans, strict=True) for each in rows.strongest_ids(span)]
    late = _joined([rows.late[span] for rows, span in zip(panes, spans, strict=True)])
    columns[f"{prefix}strongest"] = pa.array(ids, pa.list_(pa.string()))
    return columns | {f"{prefix}late": pa.array(late, pa.int64())}


def _joined(parts: list[NDArray[np.int64]], width: int | None = None) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty((0,) if width is None else (0, width), dtype=np.int64)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """One JSON object, indented."""
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
