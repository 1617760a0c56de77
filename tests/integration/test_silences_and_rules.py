"""Silences and new rules reach a running worker; what it tells is what a backtest with them tells, byte for byte."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
import yaml

from alerts.records import decode_alert
from alerts.silences import decode_silence
from streamer.cli import run
from tests.integration.deployment import OUTPUTS, Deployment, WorkerProcess, until
from tests.integration.stream import documents

pytestmark = pytest.mark.timeout(600)
BROKERS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("embedded", "kafka")]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RULES = {"learning": {"warm_up": "6h"}, "rules": [{"name": "surge", "min_negative": 3}]}


async def said(worker: WorkerProcess, words: str) -> None:
    async def there() -> bool:
        return words in worker.log.read_text()

    await until(there, f"the log says {words!r}", worker=worker)


@pytest.mark.parametrize("broker", BROKERS)
async def test_silences_and_rules_reach_a_running_worker(
    broker: str, tiny_bundle: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES))
    deployment = Deployment(
        request.getfixturevalue(broker),
        tmp_path,
        model__bundle=tiny_bundle,
        topics__documents__partitions=2,
        time__pane_seconds=300,
        time__idle_timeout_seconds=3,
        books=[{"name": "main", "windows": ["15m", "1h"], "rules": str(rules)}],
    )
    deployment.idempotent = broker == "kafka"
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    # At midnight, since whether a surge fires hangs on the minute that it begins in.
    start = (int(time.time() * 1000) // DAY_MS - 3) * DAY_MS
    stream = list(documents(4000, seed=3, partitions=2, start_ms=start, step_ms=48 * HOUR_MS // 4000, surge_every=1000))
    count = await deployment.publish(stream[:1100])

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count

    async def same() -> bool:
        return all([await deployment.latest(topic) == expected[topic] for topic in OUTPUTS])

    async def taken_in() -> bool:
        return any(decode_silence(record.value or b"").book for record in await deployment.records("silences"))

    await until(all_out, f"{count} documents are accounted for", worker=worker)
    add = ["silences", "add", "severity=*", "--for", "7d", "--reason", "known", "-c", str(deployment.file)]
    assert await asyncio.to_thread(run, add) == 0
    await until(taken_in, "the book has taken the silence in", worker=worker)
    worker.kill()
    worker = deployment.worker(number=1)
    count += await deployment.publish(stream[1100:])
    await until(all_out, f"{count} documents are accounted for", worker=worker)
    silences = [decode_silence(record.value or b"") for record in await deployment.records("silences")]
    expected, _ = await deployment.backtest(silences)
    await until(same, "windows, alerts and notifications are those of a backtest", worker=worker)
    alerts = [decode_alert(record.value or b"") for record in await deployment.records("alerts")]
    fired = {bool(alert.muted_by): alert.series for alert in alerts if alert.change == "fired"}
    assert fired.keys() == {True, False}, "some alerts fire before the silence and some while it holds"

    rules.write_text("rules: [{name: surge, min_negatve: 3}]")
    worker.process.send_signal(signal.SIGHUP)
    await said(worker, "the new ones are refused")
    rules.write_text(yaml.safe_dump(RULES | {"rules": [{"name": "calmer", "min_negative": 5}]}))
    worker.process.send_signal(signal.SIGHUP)
    await said(worker, "goes by the rules")
    assert worker.finish() == 0
