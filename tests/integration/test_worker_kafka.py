"""The worker on Apache Kafka: what comes out is what a backtest of the same topic says, byte for byte."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from models.bundle import default_bundle_path
from tests.integration.deployment import OUTPUTS, Deployment, until
from tests.integration.stream import documents

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

HOUR_MS = 3_600_000
BOOKS = [
    {"name": "main", "windows": ["15m", "1h"], "rules": {"learning": {"warm_up": "6h"}, "rules": [{"name": "surge"}]}},
    {"name": "wires", "select": {"sources": ["wire-1", "wire-2"]}, "windows": ["20m"], "company_topics": True},
]


@pytest.mark.parametrize("model", ["tiny", "shipped"])
async def test_the_worker_and_a_backtest_agree(kafka: str, tiny_bundle: str, tmp_path: Path, model: str) -> None:
    if model == "shipped" and not (default_bundle_path() / "bundle.json").exists():
        pytest.skip("the bundle models/bundles/finance-en is not in this checkout")
    deployment = Deployment(
        kafka,
        tmp_path,
        model__bundle=tiny_bundle if model == "tiny" else "default",
        topics__documents__partitions=4,
        time__pane_seconds=300,
        time__idle_timeout_seconds=3,
        books=BOOKS,
    )
    deployment.idempotent = True
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    start = int(time.time() * 1000) - 50 * HOUR_MS
    stream = documents(4000, seed=3, partitions=4, start_ms=start, step_ms=48 * HOUR_MS // 4000, surge_every=400)
    count = await deployment.publish(stream)

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count

    async def same() -> bool:
        return all([await deployment.latest(topic) == expected[topic] for topic in OUTPUTS])

    await until(all_out, f"{count} documents are accounted for", worker=worker)
    expected, counts = await deployment.backtest()
    await until(same, "the windows and alerts are those of a backtest", worker=worker)
    fates = await deployment.accounted_for()
    assert (fates["scores"], fates["late"], fates["dead_letters"]) == (counts.scored, counts.late, counts.dead)
    assert len(expected["windows"]) > 1000
    if model == "tiny":
        assert expected["alerts"]
    assert worker.finish() == 0, worker.tail()


async def test_a_graceful_stop_commits_so_that_the_next_worker_repeats_nothing(
    kafka: str, tiny_bundle: str, tmp_path: Path
) -> None:
    deployment = Deployment(kafka, tmp_path, model__bundle=tiny_bundle, topics__documents__partitions=2)
    deployment.idempotent = True
    start = int(time.time() * 1000) - HOUR_MS
    total = 0
    for seed in (1, 2):
        worker = deployment.worker(number=seed)
        await until(deployment.has_topics, "the topics exist", worker=worker)
        total += await deployment.publish(documents(500, seed=seed, partitions=2, start_ms=start, step_ms=1000))

        async def all_out(total: int = total) -> bool:
            return (await deployment.accounted_for())["all"] == total

        await until(all_out, f"{total} documents are accounted for", worker=worker)
        assert worker.finish() == 0, worker.tail()
    assert (await deployment.accounted_for())["repeats"] == 0
    assert "without its clock" not in worker.log.read_text()


async def test_a_topic_that_grows_loses_nothing(kafka: str, tiny_bundle: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka, tmp_path, model__bundle=tiny_bundle, topics__documents__partitions=8)
    deployment.idempotent = True
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    start = int(time.time() * 1000) - HOUR_MS
    count = await deployment.publish(documents(800, seed=1, partitions=8, start_ms=start, step_ms=1000))
    await deployment.grow("documents", 12)
    count += await deployment.publish(documents(1200, seed=2, partitions=12, start_ms=start, step_ms=1000))

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count

    await until(all_out, f"{count} documents are accounted for", worker=worker)
    assert worker.finish() == 0, worker.tail()


async def test_partitions_that_end_with_the_mark_of_a_transaction_become_idle_too(
    kafka: str, tiny_bundle: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        kafka,
        tmp_path,
        model__bundle=tiny_bundle,
        topics__documents__partitions=2,
        time__pane_seconds=300,
        time__idle_timeout_seconds=2,
    )
    deployment.idempotent = True
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    start = int(time.time() * 1000) - 5 * HOUR_MS
    await deployment.publish_in_transaction(documents(300, seed=6, partitions=2, start_ms=start, step_ms=30_000))
    expected, _ = await deployment.backtest()

    async def same() -> bool:
        return await deployment.latest("windows") == expected["windows"]

    await until(same, "the last panes have closed", seconds=60, worker=worker)
    assert worker.finish() == 0, worker.tail()
