"""Scorers on Apache Kafka: who stands by takes over."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from tests.integration.deployment import Deployment, until
from tests.integration.scorers import scorers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

STANDBY_SECONDS = 6


async def test_a_scorer_that_stood_by_for_longer_than_a_poll_interval_takes_over(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the scorer does not say otherwise, two seconds without a poll are too long, not five minutes.
    short = functools.partial(AIOKafkaConsumer, max_poll_interval_ms=2000)
    monkeypatch.setattr("streamer.worker.scorer.AIOKafkaConsumer", short)
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1)
    async with scorers(deployment.config, 2) as both:

        async def settled() -> bool:
            return sum(each.has_partitions for each in both) == 1 and not any(each.status.holds for each in both)

        await until(settled, "one scorer has the partition and the other stands by", seconds=60)
        owner, standby = sorted(both, key=lambda each: not each.has_partitions)
        await asyncio.sleep(STANDBY_SECONDS)
        assert not standby.status.holds
        await owner.end()

        async def taken_over() -> bool:
            return standby.has_partitions

        await until(taken_over, "the other scorer has taken the partition over", seconds=60)
