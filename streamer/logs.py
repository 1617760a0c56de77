"""Logging, set up in one place: one record is one line on standard error, whatever is in it."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Final, Literal, TextIO

import orjson

from streamer.escaping import escaped
from streamer.timestamps import format_rfc3339

MAX_MESSAGE_CHARACTERS: Final = 4000
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(
    level: str = "info", format: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> logging.Handler:
    """Sends every logger's records of `level` and above to `stream` (standard error). May be called again.

    Fields given as `extra={...}` are written as `key=value` (text) or as keys of their own (json).
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, JsonLines | TextLines)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    return handler


class TextLines(logging.Formatter):
    """`2026-11-23T21:37:00.120Z INFO  streamer.worker: took 3 partitions book=main`.

    A traceback follows on lines that begin with `  | `, so that no line of it can pass for a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {_message(record)}"
        for name, value in _extra(record).items():
            line += f" {escaped(name, 60)}={escaped(str(value), MAX_MESSAGE_CHARACTERS)}"
        return "\n".join([line, *("  | " + escaped(part, 1000) for part in _trace(record))])


class JsonLines(logging.Formatter):
    """`{"time":…,"level":…,"logger":…,"message":…,…}`, a traceback as the array `trace`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        for name, value in _extra(record).items():
            fields.setdefault(
                name, value if isinstance(value, int | float | bool) else escaped(str(value), MAX_MESSAGE_CHARACTERS)
            )
        trace = _trace(record)
        if trace:
            fields["trace"] = [escaped(part, 1000) for part in trace]
        return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _time(record: logging.LogRecord) -> str:
    return format_rfc3339(int(record.created * 1000))


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError) as error:
        message = f"{record.msg} {record.args!r} ({error})"
    return escaped(message, MAX_MESSAGE_CHARACTERS)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[1] is None:
        return []
    return "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n").split("\n")
