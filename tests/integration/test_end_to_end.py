"""The whole way in one piece: news on a broker, the shipped model in a worker, a signed webhook at the other end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import subprocess
import time
from pathlib import Path

import orjson
import pytest

from alerts.notifications import Notification, decode_notification
from alerts.records import AlertRecord, decode_alert
from tests.integration.deployment import Deployment, until
from tests.integration.news import HIT, HOUR_MS, SURGE_MS, news
from tests.shell.commands import process_arguments
from tests.sinks.http_server import Got, serving

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(90)]

SECRET = "an invented secret of the desk"
SERIES = f"company:{HIT}"
TOPICS = ("alerts", "notifications")


async def test_a_surge_reaches_the_desk_signed_and_as_the_backtest_said(embedded: str, tmp_path: Path) -> None:
    file = tmp_path / "news.jsonl"
    file.write_bytes(b"".join(document + b"\n" for document in news()))
    async with serving() as desk:
        webhook = {"name": "desk", "url": desk.url, "secret": SECRET, "max_age_seconds": 0}
        deployment = Deployment(
            embedded,
            tmp_path / "live",
            topics__documents__partitions=2,
            time__idle_timeout_seconds=3,
            novelty__similarity=0.6,
            sinks={"webhooks": [webhook]},
        )
        expected = await backtest(file, tmp_path / "backtest", deployment)
        worker = deployment.worker("--role", "all")
        await until(deployment.has_topics, "the topics exist", worker=worker)
        documents = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        await deployment.publish((None, each["id"].encode(), orjson.dumps(each)) for each in documents)

        async def all_out() -> bool:
            counts = [len(await values(deployment, topic)) for topic in TOPICS]
            told = len(desk.requests) >= len(expected["notifications"])
            return told and all(count >= len(expected[topic]) for count, topic in zip(counts, TOPICS, strict=True))

        await until(all_out, "alerts are as many as in the backtest, and told to the desk", seconds=60, worker=worker)
        live = {topic: changes(await values(deployment, topic)) for topic in TOPICS}
        assert worker.finish() == 0, worker.tail()

    assert live["alerts"] == changes(expected["alerts"]), "alerts, byte for byte"
    assert live["notifications"] == changes(expected["notifications"])
    assert [request.body for request in desk.requests] == expected["notifications"], "each once, and in order"
    for request in desk.requests:
        assert signed(request)
    check_alerts([decode_alert(line) for line in expected["alerts"]])
    check_told([decode_notification(request.body) for request in desk.requests])


def check_alerts(records: list[AlertRecord]) -> None:
    """The company's alert fires in the surge's first hour, says why in words of its texts, and is over a day later."""
    fired = next(record for record in records if record.series == SERIES and record.at_ms > SURGE_MS)
    assert fired.change == "fired"
    assert fired.at_ms < SURGE_MS + HOUR_MS
    story = [record for record in records if record.id == fired.id]
    for record in story:
        assert record.words
        said = " ".join(text.text for text in record.texts).casefold()
        assert all(word.casefold() in said for word in record.words)
    assert story[-1].state == "resolved"
    assert story[-1].peak_severity == "critical"
    worst = {record.series for record in records if record.peak_severity == "critical"}
    assert {series for series in worst if series.startswith("company:")} == {SERIES}


def check_told(told: list[Notification]) -> None:
    """The desk hears of the company when it fires and when it is over."""
    about = [each for each in told if any(alert.series == SERIES for alert in each.alerts) and each.at_ms > SURGE_MS]
    assert (about[0].status, about[-1].status) == ("firing", "resolved")
    assert about[0].at_ms < SURGE_MS + HOUR_MS
    for each in about:
        assert HIT in each.title
        assert "Pellowick" in each.text.split("\n")[0], "the strongest text"


def signed(request: Got) -> bool:
    """Whether the body is signed as docs/sinks.md says, worked out here from RFC 2104 alone, and just now."""
    stamp = request.headers["bearwire-timestamp"]
    wanted = hmac.new(SECRET.encode(), stamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    return request.headers["bearwire-signature"] == f"v1={wanted}" and abs(time.time() - int(stamp)) < 90


def changes(lines: list[bytes]) -> dict[tuple[str, int], bytes]:
    """Each record by what it is about and its number there; a record that came twice must be the same bytes."""
    found: dict[tuple[str, int], bytes] = {}
    for line in lines:
        record = orjson.loads(line)
        about = record["id"] if record["schema"].startswith("bearwire.alert/") else record["group"]
        assert found.setdefault((about, record["sequence"]), line) == line
    return found


async def values(deployment: Deployment, topic: str) -> list[bytes]:
    return [record.value or b"" for record in await deployment.records(topic)]


async def backtest(file: Path, output: Path, deployment: Deployment) -> dict[str, list[bytes]]:
    """The lines of `alerts.jsonl` and `notifications.jsonl` of `bearwire backtest` with the same configuration."""
    command = process_arguments("backtest", str(file), "-o", str(output), "-c", str(deployment.file))
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return {name: (output / f"{name}.jsonl").read_bytes().splitlines() for name in TOPICS}
