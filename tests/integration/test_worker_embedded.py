"""The worker on the embedded broker: documents in; scores, windows, dead letters and late documents out."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import orjson
import pytest

from streamer.core.dead_letters import REASON
from streamer.worker.embedded import free_port
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
    await until(deployment.has_topics, "the topics exist", worker=worker)
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
    assert await deployment.latest("notifications") == expected["notifications"]
    dead = {dict(record.headers)[REASON]: record.value for record in await deployment.records("dead_letters")}
    assert len(dead[b"message_too_large"] or b"") > 10_000_000
    assert {b"invalid_json", b"tombstone", b"too_deep", b"empty_text", b"bad_timestamp"} <= dead.keys()
    fates = await deployment.accounted_for()
    assert (fates["scores"], fates["late"], fates["dead_letters"]) == (counts.scored, counts.late, counts.dead)
    assert worker.finish() == 0


async def test_a_worker_that_watches_no_book_changes_and_shows_silences_too(
    embedded: str, tiny_bundle: str, tmp_path: Path
) -> None:
    port = free_port()
    deployment = Deployment(
        embedded, tmp_path, model__bundle=tiny_bundle, worker__role="score", web__enabled=True, web__port=port
    )
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    at = f"http://127.0.0.1:{port}/api/silences"
    wanted = {"matchers": ["series=all"], "for": "1h", "reason": "known", "author": "ana"}
    async with aiohttp.ClientSession(headers={"X-Bearwire": "test"}) as client:
        async with client.post(at, json=wanted) as response:
            assert response.status == 201, await response.text()
            made = await response.json()

        async def shown() -> bool:
            async with client.get(at) as response:
                return bool(await response.json() == [made])

        await until(shown, "its page shows the silence", worker=worker, seconds=60)
    assert worker.finish() == 0
