"""What goes on beside the work of a worker, while Kafka or what it takes to speak to it is away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from streamer.config.settings import Config
from streamer.kafka.client import KafkaSetupError
from streamer.worker import silence_feed
from streamer.worker.broker import watch_broker
from streamer.worker.silence_feed import SilenceFeed
from streamer.worker.status import WorkerStatus

GONE = KafkaSetupError("kafka.sasl_password_file: /run/secret cannot be read: No such file or directory")


async def test_silences_are_followed_again_when_the_file_of_a_secret_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0
    again = asyncio.Event()

    def arguments(*_: Any, **__: Any) -> dict[str, Any]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise GONE
        again.set()
        raise KafkaConnectionError

    monkeypatch.setattr(silence_feed, "client_arguments", arguments)
    monkeypatch.setattr(silence_feed, "_RETRY_SECONDS", 0.001)
    following = asyncio.create_task(SilenceFeed(Config()).follow())
    async with asyncio.timeout(10):
        await asyncio.wait([following, asyncio.create_task(again.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not following.done() and str(GONE) in caplog.text
    following.cancel()


async def test_a_silences_topic_that_was_made_anew_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka goes, without a word, to `auto_offset_reset` where a log does not reach as far as it was read."""
    made: list[dict[str, Any]] = []

    class Consumer:
        def __init__(self, **how: Any) -> None:
            made.append(how)

        async def start(self) -> None:
            raise KafkaConnectionError

        async def stop(self) -> None:
            pass

    monkeypatch.setattr(silence_feed, "AIOKafkaConsumer", Consumer)
    with pytest.raises(KafkaConnectionError):
        await SilenceFeed(Config())._read()
    assert made[0]["auto_offset_reset"] == "earliest"


async def test_the_broker_is_looked_at_again_when_the_file_of_a_token_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [GONE, None]
    held = []

    async def describe_cluster() -> None:
        held.append(dict(status.holds))
        answer = answers.pop(0) if answers else None
        if answer is not None:
            raise answer

    monkeypatch.setattr("streamer.worker.broker._PROBE_SECONDS", 0.01)
    status = WorkerStatus("watch")
    watching = asyncio.create_task(watch_broker(SimpleNamespace(describe_cluster=describe_cluster), Config(), status))
    async with asyncio.timeout(10):
        while len(held) < 3 and not watching.done():  # noqa: ASYNC110 - what is waited for is no event
            await asyncio.sleep(0.001)
    assert not watching.done()
    assert held == [{}, {"broker": str(GONE)}, {}]
    watching.cancel()
