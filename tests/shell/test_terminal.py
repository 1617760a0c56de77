"""What strangers wrote cannot take over the terminal of who looks at it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

import streamer.commands.alerts
import streamer.commands.dead_letters
import streamer.commands.silences
import streamer.commands.terminal
from alerts.silences import Silence
from streamer.commands.dead_letters import Letter
from streamer.core.dead_letters import Origin
from streamer.kafka.topic_reader import TopicRecord
from tests.shell.commands import bearwire

ROOT = Path(__file__).parents[2]
HOSTILE = "\x7f\x9b31m\u202e\u2066"
HOSTILE_BYTES = tuple(character.encode() for character in HOSTILE if not character.isprintable())


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def on_terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    for module in (streamer.commands.terminal, streamer.commands.dead_letters):
        monkeypatch.setattr(module, "is_on_terminal", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: object) -> AsyncIterator[Letter]:
        record = TopicRecord(0, 0, 1000, None, HOSTILE.encode(), ())
        yield Letter(record, Origin("invalid_json", HOSTILE, "documents", 0, 5, 1000, 0))

    monkeypatch.setattr(streamer.commands.dead_letters, "_letters", read)


def is_safe(shown: bytes) -> bool:
    return not any(each in shown for each in HOSTILE_BYTES)


@pytest.mark.parametrize("command", [("list", "--json"), ("export",), ("export", "-o", "-")])
def test_dead_letters_as_json(letters: None, on_terminal: bool, command: tuple[str, ...]) -> None:
    result = bearwire("dead-letters", *command)
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout_bytes)["value"] == HOSTILE
    assert is_safe(result.stdout_bytes) == on_terminal


def test_dead_letters_in_a_file_stay_as_they_are(letters: None, on_terminal: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert bearwire("dead-letters", "export", "-o", str(out)).exit_code == 0
    assert HOSTILE.encode() in out.read_bytes()
    assert bearwire("dead-letters", "export", "--values", "-o", str(out)).exit_code == 0
    assert out.read_bytes() == HOSTILE.encode() + b"\n"


def test_original_bytes_reach_a_terminal_only_where_that_is_asked_for(letters: None, on_terminal: bool) -> None:
    result = bearwire("dead-letters", "export", "--values")
    if on_terminal:
        assert (result.exit_code, result.stdout_bytes) == (2, b"")
        assert "-o FILE" in result.stderr
    else:
        assert result.stdout_bytes == HOSTILE.encode() + b"\n"
    assert bearwire("dead-letters", "export", "--values", "-o", "-").stdout_bytes == HOSTILE.encode() + b"\n"


def test_silences(on_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    times: dict[str, Any] = {"created_ms": 0, "starts_ms": 0, "ends_ms": 9_000_000_000_000}
    silence = Silence(id="a", revision=1, matchers={"book": ("x",)}, author=HOSTILE, reason="r", book=HOSTILE, **times)

    async def read() -> list[Silence]:
        return [silence]

    monkeypatch.setattr(streamer.commands.silences, "_topic", lambda config: SimpleNamespace(read=read))
    result = bearwire("silences", "list", "--json")
    assert orjson.loads(result.stdout_bytes)["author"] == HOSTILE
    assert is_safe(result.stdout_bytes) == on_terminal
    result = bearwire("silences", "list")
    assert "in book" in result.stdout
    assert is_safe(result.stdout_bytes)


def test_alerts(on_terminal: bool, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    alert: Any = SimpleNamespace(encode=lambda: orjson.dumps({"line": HOSTILE}))
    streamer.commands.alerts._as_line(alert)
    shown = capsysbinary.readouterr().out
    assert orjson.loads(shown) == {"line": HOSTILE}
    assert is_safe(shown) == on_terminal


def test_a_terminal_is_known_as_one() -> None:
    code = "from streamer.commands.terminal import *; print(json_for_stdout(b'\"\\xc2\\x9b\"').decode(), flush=True)"
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, check=True)
        assert done.returncode == 0
        assert os.read(ours, 100) == b'"\\u009b"\r\n'
    finally:
        os.close(ours)
        os.close(theirs)
