"""Scorers on a real broker with a model that is only played, without a worker around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from streamer.config.settings import Config
from streamer.core.languages import LanguageRules
from streamer.kafka.client import client_arguments
from streamer.worker.inference import InferenceQueue
from streamer.worker.scorer import Scorer
from streamer.worker.status import WorkerStatus
from streamer.worker.topics import ensure_topics
from tests.core.worlds import LABELS, answer


class RunningScorer:
    """A scorer and the task that runs it."""

    def __init__(self, config: Config) -> None:
        self.status = WorkerStatus("score")
        self.inference = InferenceQueue(lambda texts, routes: answer(texts))
        self.scorer = Scorer(
            config, self.inference, self.status, labels=LABELS, model="stand-in-1", languages=LanguageRules()
        )
        self.task: asyncio.Task[Any] = asyncio.create_task(self.scorer.run())

    @property
    def has_partitions(self) -> bool:
        """Whether the group gave it any."""
        return bool(self.scorer._pipelines)

    async def end(self) -> None:
        """Finish, commit and leave the group. Raises what `run` raised."""
        self.scorer.stop()
        try:
            await asyncio.wait_for(self.task, 30)
        finally:
            self.inference.close()


@asynccontextmanager
async def scorers(config: Config, count: int) -> AsyncIterator[list[RunningScorer]]:
    """So many scorers of one group, once the topics are there; those whose task has not ended are ended."""
    admin = AIOKafkaAdminClient(**client_arguments(config.kafka))
    await admin.start()
    try:
        await ensure_topics(admin, config)
    finally:
        await admin.close()
    running = [RunningScorer(config) for _ in range(count)]
    try:
        yield running
    finally:
        await asyncio.gather(*(each.end() for each in running if not each.task.done()))
