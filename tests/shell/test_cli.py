from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import streamer.cli
from streamer import __version__
from streamer.cli import COMMANDS, Entry, load_command
from tests.shell.commands import bearwire, process_arguments

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_and_imports_none() -> None:
    code = "import sys; from streamer.cli import run; run(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in COMMANDS:
        assert f"\n  {name}" in done.stdout
    for heavy in ("numpy", "onnxruntime", "faust", "aiokafka", "rich", "streamer.config.settings"):
        assert f"'{heavy}'" not in done.stderr


def test_version() -> None:
    assert bearwire("--version").stdout == f"bearwire {__version__}\n"


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if find_spec(entry.module)])
def test_every_command_explains_itself(name: str) -> None:
    result = bearwire(name, "--help")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Usage: bearwire {name}")
    assert load_command(name, COMMANDS[name]).help


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = bearwire("classfy")
    assert result.exit_code == 2
    assert "Did you mean 'classify'?" in result.stderr


@pytest.mark.parametrize(
    ("group", "name", "meant"),
    [
        ("config", "chek", "check"),
        ("models", "verfy", "verify"),
        ("rules", "tests", "test"),
        ("dead-letters", "x", None),
    ],
)
def test_an_unknown_command_of_a_group_is_answered_with_the_nearest(group: str, name: str, meant: str | None) -> None:
    result = bearwire(group, name)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Usage: bearwire {group} ")
    hint = f"Did you mean {meant!r}?" if meant else f"`bearwire {group} --help` lists the commands."
    assert f"bearwire: No such command {name!r}. {hint}\n" in result.stderr


def test_a_command_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "doctor", Entry("streamer.no_such_room", "doctor", "-"))
    result = bearwire("doctor")
    assert result.exit_code == 1
    assert "not part of this installation (streamer.no_such_room)" in result.stderr
    assert "doctor" in bearwire("--help").stdout


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


class PlainError(Exception):
    """An error of ours."""


PlainError.__module__ = "streamer.somewhere"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (PlainError("the broker is gone\nstart it"), 1, "bearwire: the broker is gone\nbearwire: start it\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.jsonl"),
            1,
            "bearwire: x.jsonl: No such file or directory\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (click.UsageError("no"), 2, "bearwire: no\n"),
        (click.ClickException("\x1b]0;x\x9b1m\u202eno"), 1, "bearwire: \\x1b]0;x\\x9b1m\\u202eno\n"),
        (click.BadParameter("\x1b]0;x\x07", param_hint="--x"), 2, "bearwire: Invalid value for --x: \\x1b]0;x\\x07\n"),
        (PlainError("\x1b[31m\u2028\r\nb"), 1, "bearwire: \\x1b[31m\\u2028\\r\nbearwire: b\n"),
        (FileNotFoundError(2, "No such file", "\x1b[31m"), 1, "bearwire: \\x1b[31m: No such file\n"),
    ],
)
def test_errors_that_explain_themselves_have_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, message: str
) -> None:
    monkeypatch.setattr(streamer.cli, "load_command", lambda name, entry: failing(error))
    result = bearwire("doctor")
    assert result.exit_code == status
    assert result.stderr.endswith(message)
    assert "Traceback" not in result.stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.cli, "load_command", lambda name, entry: failing(ZeroDivisionError("bug")))
    assert isinstance(bearwire("doctor").exception, ZeroDivisionError)


def test_a_process_of_its_own_exits_with_the_status() -> None:
    done = subprocess.run(
        process_arguments("config", "check", "--set", "web.prot=1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "bearwire: --set: web.prot: unknown key; did you mean web.port?\n"
        "bearwire: there may be more once these are mended\n"
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--for", "2x", 'bearwire: --for "2x": not a duration, expected seconds or for example 30s, 15m, 1h30m, 7d'),
        ("--until", "noon", 'bearwire: --until "noon": not RFC 3339, expected for example '),
    ],
)
def test_a_length_of_a_silence_that_is_none_is_repeated(option: str, value: str, said: str) -> None:
    result = bearwire("silences", "add", "series=all", "--reason", "r", option, value)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(said)
