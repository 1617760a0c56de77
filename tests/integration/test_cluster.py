"""Three brokers, two of which must have a record before it is acknowledged: one goes down and comes back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.brokers.kraft import KafkaCluster
from tests.integration.conftest import started
from tests.integration.deployment import Deployment, until
from tests.integration.stream import documents

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1200)]

HOUR_MS = 3_600_000


async def test_a_broker_of_three_goes_down_and_comes_back(tmp_path: Path, tiny_bundle: str) -> None:
    cluster = KafkaCluster(tmp_path / "kafka", nodes=3, settings={"min.insync.replicas": "2"})
    with await asyncio.to_thread(started, cluster):
        deployment = Deployment(
            cluster.bootstrap_servers,
            tmp_path,
            model__bundle=tiny_bundle,
            topics__documents__partitions=6,
            time__pane_seconds=300,
            time__idle_timeout_seconds=15,
        )
        deployment.idempotent = True
        worker = deployment.worker()
        await until(deployment.has_topics, "the topics exist", worker=worker)
        start = int(time.time() * 1000) - 50 * HOUR_MS
        records = list(documents(1500, seed=5, partitions=6, start_ms=start, step_ms=60_000))
        count = await deployment.publish(records[:500])
        cluster.kill(2)
        count += await deployment.publish(records[500:1000])
        await asyncio.to_thread(cluster.start, 2)
        count += await deployment.publish(records[1000:])

        async def all_out() -> bool:
            return (await deployment.accounted_for())["all"] == count

        async def same() -> bool:
            return await deployment.latest("windows") == expected["windows"]

        await until(all_out, f"{count} documents are accounted for", worker=worker)
        expected, counts = await deployment.backtest()
        await until(same, "the windows are those of a backtest", worker=worker)
        assert counts.received == count
        assert worker.finish() == 0, worker.tail()
