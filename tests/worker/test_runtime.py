"""How a worker ends, and what it says then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.exceptions import ProducerSendError

from streamer.config.settings import Config
from streamer.worker.runtime import Worker, WorkerError, _of_faust


def test_the_last_word_on_what_ended_faust_says_what_it_means() -> None:
    gave_up = _of_faust(ProducerSendError("Error while sending: KafkaTimeoutError()"))
    assert isinstance(gave_up, WorkerError)
    assert "Kafka took no state of the books" in str(gave_up) and "KafkaTimeoutError" in str(gave_up)
    assert isinstance(_of_faust(None), WorkerError)
    other = ValueError("a defect")
    assert _of_faust(other) is other


class Part:
    """A scorer or deliverer that has nothing to do."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        await self.stopped.wait()

    def stop(self) -> None:
        self.stopped.set()

    async def close(self) -> None:
        pass


async def test_a_worker_that_is_told_to_stop_before_it_scores_does_not_wait_for_the_scorer() -> None:
    # Faust starts its services, of which the scorer is one, only when the books are open.
    worker = Worker(Config())
    deliverer: Any = Part()
    scorer: Any = Part()
    worker._deliverer, worker._scorer = deliverer, scorer
    worker._delivering = asyncio.create_task(worker._keep_running("sinks", deliverer.run))
    await asyncio.sleep(0)
    worker.stop()
    async with asyncio.timeout(5):
        await worker._finish()
    assert worker._failure is None


async def test_a_worker_that_cannot_finish_in_time_names_the_setting_and_what_becomes_of_the_rest() -> None:
    usual = Config()
    settings = msgspec.structs.replace(usual.worker, shutdown_timeout_seconds=0.01)
    worker = Worker(msgspec.structs.replace(usual, worker=settings))
    scorer: Any = Part()
    worker._scorer, worker._scoring = scorer, True
    await worker._finish()
    assert "worker.shutdown_timeout_seconds" in str(worker._failure) and "done again" in str(worker._failure)


async def test_a_part_that_ends_in_a_panic_ends_the_worker_which_says_so() -> None:
    class PanicException(BaseException):
        """As `pyo3_runtime.PanicException`, by which a library in Rust says that it has panicked."""

    async def panics() -> None:
        raise PanicException("index out of bounds")

    worker = Worker(Config())
    await worker._keep_running("scorer", panics)
    assert str(worker._failure) == "index out of bounds"
    assert "index out of bounds" in worker.status.not_ready()


async def test_what_goes_on_beside_the_rest_does_not_end_without_a_word() -> None:
    async def odd() -> None:
        raise ValueError("nobody thought of that")

    worker = Worker(Config())
    worker._beside(odd())
    async with asyncio.timeout(10):
        await worker._stop.wait()
    assert worker.status.dead() == ["nobody thought of that"]


async def test_a_part_that_ran_for_long_starts_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamer.worker.runtime._FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("streamer.worker.runtime._STEADY_SECONDS", 0.5)
    worker = Worker(Config())
    lasting = [0.0, 0.0, 0.0, 0.6]

    async def run() -> None:
        if not lasting:
            worker.stop()
            return
        await asyncio.sleep(lasting.pop(0))
        raise KafkaConnectionError

    waits: list[float] = []
    monkeypatch.setattr("streamer.worker.runtime.random.uniform", lambda low, high: high)
    monkeypatch.setattr("streamer.worker.runtime.log", SimpleNamespace(warning=lambda *said: waits.append(said[-1])))
    await worker._keep_running("scorer", run)
    assert waits == [0.01, 0.02, 0.04, 0.01]


LEFT_OPEN = """
import gc

from aiokafka.errors import KafkaConnectionError
from streamer.cli import main
from streamer.worker.runtime import Worker


class LeftOpen:
    def __del__(self):
        raise ValueError("collected while it was open")


async def away(worker):
    raise KafkaConnectionError("nobody\\nanswers")


gc.disable()
left_open = LeftOpen()
left_open.itself = left_open  # so that it is collected at the very end, as the event loop of a thread may be
del left_open
Worker.run = away
main(["worker", "-c", "bearwire.yaml"])
"""


def test_nothing_follows_the_line_that_says_why_a_worker_ended(tmp_path: Path) -> None:
    (tmp_path / "bearwire.yaml").write_text("kafka: {bootstrap_servers: '127.0.0.1:1'}\n")
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("bearwire: Kafka: KafkaConnectionError: nobody answers; "), (
        done.stderr
    )
