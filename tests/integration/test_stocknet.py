"""The 2014 StockNet tweets through replay and a worker on Apache Kafka, against a backtest of the file."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from models.bundle import default_bundle_path
from tests.integration.deployment import Deployment, until

TWEETS = Path(__file__).parents[3] / "shared" / "data" / "stocknet" / "tweets-2014.jsonl.gz"

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.data,
    pytest.mark.acceptance,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not TWEETS.exists(), reason=f"{TWEETS} is not there"),
]


async def test_every_tweet_is_accounted_for_and_the_alerts_are_those_of_a_backtest(kafka: str, tmp_path: Path) -> None:
    if not (default_bundle_path() / "bundle.json").exists():
        pytest.skip("the bundle models/bundles/finance-en is not in this checkout")
    with gzip.open(TWEETS) as lines:
        count = sum(1 for _ in lines)
    deployment = Deployment(kafka, tmp_path, time__idle_timeout_seconds=10, model__threads=0)
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    await run("replay", str(TWEETS), "--speed", "max", "-c", str(deployment.file))
    began = time.monotonic()

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count

    await until(all_out, f"{count} tweets are accounted for", seconds=1500, worker=worker)
    print(f"the worker scored {count} tweets at {count / (time.monotonic() - began):.0f}/s after the replay")
    fates = await deployment.accounted_for()
    assert fates["scores"] + fates["late"] + fates["dead_letters"] == count == 41_875
    began = time.monotonic()
    await run("backtest", str(TWEETS), "-o", str(tmp_path / "backtest"), "-c", str(deployment.file))
    print(f"the backtest took {time.monotonic() - began:.0f} s")
    with (tmp_path / "backtest" / "alerts.jsonl").open("rb") as lines:
        expected = {orjson.loads(line)["id"].encode(): line.rstrip(b"\n") for line in lines}
    assert expected

    async def same() -> bool:
        return await deployment.latest("alerts") == expected

    await until(same, "the alerts are those of the backtest", worker=worker)
    assert worker.finish() == 0, worker.tail()


async def run(*arguments: str) -> None:
    """A `bearwire` command of its own, which must succeed."""
    command = [sys.executable, "-m", "streamer.cli", *arguments]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
