from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config.secret import Secret
from streamer.escaping import escaped, escaped_json, quoted
from streamer.logs import TextLines, configure_logging

log = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def logged(format: Literal["text", "json"], message: str, *arguments: object, **extra: object) -> str:
    stream = io.StringIO()
    handler = configure_logging("info", format, stream)
    log.info(message, *arguments, extra=extra)
    handler.flush()
    return stream.getvalue()


def test_a_record_is_one_line_with_its_fields() -> None:
    line = logged("text", "took %d partitions", 3, book="main")
    assert line[10:11] == "T"
    assert line.endswith("Z INFO    tests.logs: took 3 partitions book=main\n") or " INFO    tests.logs: took" in line


def test_json_has_time_level_logger_and_fields() -> None:
    record = orjson.loads(logged("json", "took %d partitions", 3, book="main", lag=7))
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "info", "logger": "tests.logs", "message": "took 3 partitions", "book": "main", "lag": 7,
    }  # fmt: skip


@pytest.mark.parametrize("format", ["text", "json"])
@given(hostile=st.text())
def test_whatever_is_logged_stays_on_its_line(format: Literal["text", "json"], hostile: str) -> None:
    line = logged(format, "said %s", hostile + "\n2026-01-01T00:00:00.000Z INFO    root: forged \x1b[31m", who=hostile)
    assert line.count("\n") == 1
    assert line.removesuffix("\n").isprintable()


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_traceback_cannot_forge_a_record(format: Literal["text", "json"]) -> None:
    stream = io.StringIO()
    configure_logging("info", format, stream)
    try:
        raise ValueError("evil\n2026-01-01T00:00:00.000Z INFO    root: forged")
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    if format == "json":
        assert len(lines) == 1
        assert any("ValueError: evil" in part for part in orjson.loads(lines[0])["trace"])
    else:
        assert all(line.startswith("  | ") for line in lines[1:])


def test_wrong_arguments_are_still_logged() -> None:
    record = logging.makeLogRecord({"name": "x", "msg": "took %d partitions", "args": ("three",)})
    assert "took %d partitions ('three',)" in TextLines().format(record)


def test_configuring_twice_does_not_double_lines() -> None:
    first = io.StringIO()
    configure_logging("info", "text", first)
    assert logged("text", "once").count("once") == 1
    assert first.getvalue() == ""


def test_a_secret_shows_itself_nowhere() -> None:
    assert "hunter2" not in logged(
        "text", "password %s %r", Secret("hunter2"), Secret("hunter2"), secret=Secret("hunter2")
    )


@given(st.text(), st.integers(1, 80))
def test_escaped_text_is_one_printable_line_of_bounded_length(text: str, limit: int) -> None:
    assert escaped(text, limit).isprintable()
    assert len(escaped(text, limit)) <= limit
    assert quoted(text, limit).isprintable()


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_escaped_json_is_the_same_json_and_printable(value: object) -> None:
    shown = escaped_json(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    assert orjson.loads(shown) == value
    assert shown.decode().removesuffix("\n").isprintable()


def test_controls_that_encoders_of_json_leave_are_escaped() -> None:
    assert escaped_json(orjson.dumps("\x7f\x9b\u202e\u2066\u200f\U000e0041 市")) == (
        '"\\u007f\\u009b\\u202e\\u2066\\u200f\\udb40\\udc41 市"'.encode()
    )


def test_ordinary_text_is_left_alone() -> None:
    assert escaped("Größe 5 % 市场 📉") == "Größe 5 % 市场 📉"
    assert quoted('say "no"') == '"say \\"no\\""'
