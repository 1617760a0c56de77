"""`bearwire demo` from its command line to its summary, with a tiny model so that it is quick."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.demo.compose import LATE
from streamer.demo.malformed import malformed_values
from streamer.demo.stream import read_values
from tests.models.tiny_bundle import write_tiny_bundle

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "tiny")
    return tmp_path / "tiny"


def command(*options: str) -> list[str]:
    return [sys.executable, "-c", "from streamer.cli import main; main()", "demo", *options]


def answers(page: str) -> bool:
    host, port = page.removeprefix("http://").rstrip("/").split(":")
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, int(port))) == 0


def page_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+/", text)
    assert found is not None, text
    return found[0]


@pytest.fixture
def running(bundle: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("--speed", "600x", "--bundle", str(bundle)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_ends_by_itself_and_accounts_for_every_message(bundle: Path) -> None:
    done = subprocess.run(
        command("--speed", "max", "--bundle", str(bundle)),
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "COLUMNS": "140", "BEARWIRE_KAFKA__BOOTSTRAP_SERVERS": "nowhere.example:1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    messages, bad = len(read_values()), len(malformed_values())
    figures = {
        name: int(number.replace(",", "")) for name, number in re.findall(r"│ ([\w ]+?)  +([\d,]+)", done.stdout)
    }
    assert figures["texts in"] == messages
    assert figures["dead letters"] == bad
    assert LATE <= figures["late"] <= LATE + 2
    assert figures["scored"] + figures["late"] + figures["dead letters"] == messages
    assert re.search(r"produce to score +p50 [\d,]+ ms, p99 [\d,]+ ms", done.stdout)
    for part in ("tombstone 3", "Tallybridge accounting fraud", "raised for nothing", "Saturday"):
        assert part in done.stdout
    assert not answers(page_in(done.stdout))


def test_an_interrupt_leaves_nothing_running(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    said = ""
    for line in running.stdout:
        said += line
        if "Monday" in line:
            break
    page = page_in(said)
    assert answers(page)
    running.send_signal(signal.SIGINT)
    rest = running.stdout.read()
    assert running.wait(timeout=60) == 130, said + rest
    assert "Traceback" not in rest
    assert not answers(page)


def test_a_worker_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    done = subprocess.run(command("--bundle", str(tmp_path / "nowhere")), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "the worker ended with status" in done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("speed", ["fast", "0", "-3", "nan", "inf", "0.5x"])
def test_a_speed_that_is_none_is_refused(speed: str) -> None:
    done = subprocess.run(command(f"--speed={speed}"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "is no speed" in done.stderr
