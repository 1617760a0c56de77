"""The worker on the embedded broker: documents in; scores, windows, dead letters and late documents out."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from streamer.dead_letters import REASON
from tests.integration.deployment import Deployment, until
from tests.integration.stream import documents

pytestmark = pytest.mark.embedded


async def test_documents_become_scores_windows_and_dead_letters(
    embedded: str, tiny_bundle: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        embedded, tmp_path, model__bundle=tiny_bundle, topics__documents__partitions=4, time__idle_timeout_seconds=2
    )
    worker = deployment.worker()
    await until(lambda: topics_exist(deployment), "the topics exist", worker=worker)
    start = int(time.time() * 1000) - 6 * 3_600_000
    count = await deployment.publish(documents(3000, seed=1, partitions=4, start_ms=start, step_ms=5000))
    count += await deployment.publish([(0, b"big", orjson.dumps({"id": "big", "text": "x" * 10_000_000}))])

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count

    async def same_windows() -> bool:
        return await deployment.latest("windows") == expected["windows"]

    await until(all_out, f"{count} documents are accounted for", worker=worker)
    expected, counts = await deployment.backtest()
    await until(same_windows, "the windows are those of a backtest", worker=worker)
    assert await deployment.latest("alerts") == expected["alerts"]
    dead = {dict(record.headers)[REASON]: record.value for record in await deployment.records("dead_letters")}
    assert len(dead[b"message_too_large"] or b"") > 10_000_000
    assert {b"invalid_json", b"tombstone", b"too_deep", b"empty_text", b"bad_timestamp"} <= dead.keys()
    fates = await deployment.accounted_for()
    assert (fates["scores"], fates["late"], fates["dead_letters"]) == (counts.scored, counts.late, counts.dead)
    assert worker.finish() == 0


async def test_a_graceful_stop_commits_so_that_the_next_worker_repeats_nothing(
    embedded: str, tiny_bundle: str, tmp_path: Path
) -> None:
    deployment = Deployment(embedded, tmp_path, model__bundle=tiny_bundle, topics__documents__partitions=2)
    start = int(time.time() * 1000) - 3_600_000
    total = 0
    for seed in (1, 2):
        worker = deployment.worker(number=seed)
        await until(lambda: topics_exist(deployment), "the topics exist", worker=worker)
        total += await deployment.publish(documents(500, seed=seed, partitions=2, start_ms=start, step_ms=1000))

        async def all_out(total: int = total) -> bool:
            return (await deployment.accounted_for())["all"] == total

        await until(all_out, f"{total} documents are accounted for", worker=worker)
        assert worker.finish() == 0, worker.tail()
    assert (await deployment.accounted_for())["repeats"] == 0


async def topics_exist(deployment: Deployment) -> bool:
    from streamer.topic_reader import open_consumer

    async with open_consumer(deployment.config.kafka) as consumer:
        return deployment.config.topics.documents.name in await consumer.topics()
