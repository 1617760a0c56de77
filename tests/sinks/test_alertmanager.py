"""Against Prometheus' own Alertmanager (Debian's package): alerts come, stay while repeated, resolve and expire."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from alerts.sinks.alertmanager import AlertmanagerSink
from alerts.sinks.delivery import Refused
from alerts.sinks.http import Endpoint
from streamer.worker.embedded import answers, free_port
from tests.sinks.http_server import serving, status
from tests.sinks.notifications import alert, notification, now_ms

CONFIGURATION = """\
route: {receiver: hook, group_wait: 0s, group_interval: 1s, group_by: [alert_id]}
receivers:
  - name: hook
    webhook_configs: [{url: "%s", send_resolved: true}]
"""


@pytest.fixture(scope="module")
def binary() -> str:
    """The program, or a skip (in CI a failure)."""
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if found is None:
        why = "prometheus-alertmanager is not installed (apt-get install prometheus-alertmanager)"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return found


@pytest.fixture
def alertmanager(binary: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an Alertmanager of our own."""
    port = free_port()
    configuration = tmp_path / "alertmanager.yml"
    configuration.write_text(CONFIGURATION % "http://127.0.0.1:1/")
    process = subprocess.Popen(
        [binary, f"--config.file={configuration}", f"--storage.path={tmp_path}", "--cluster.listen-address=",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not answers("127.0.0.1", port):
            assert process.poll() is None, "the Alertmanager ended"
            assert time.monotonic() < deadline, "the Alertmanager does not answer"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def sink(url: str, **how: Any) -> AlertmanagerSink:
    return AlertmanagerSink(Endpoint(url=lambda: url), **how)


async def known(url: str) -> list[dict[str, Any]]:
    """What the Alertmanager has active, by its own API."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v2/alerts") as response:
        found: list[dict[str, Any]] = await response.json()
        return found


async def test_every_member_is_an_alert_with_labels_and_annotations(alertmanager: str) -> None:
    to = sink(alertmanager)
    await to.deliver(notification(alert("company:A"), alert("topic:Legal | Regulation", labels={"team": "风险"})))
    await to.close()
    found = {each["labels"]["series"]: each for each in await known(alertmanager)}
    assert found.keys() == {"company:A", "topic:Legal | Regulation"}
    one = found["topic:Legal | Regulation"]
    assert one["labels"] | {"alertname": "negative-surge", "severity": "high", "team": "风险"} == one["labels"]
    assert one["annotations"]["link"] == "https://news.example/2026/tallybridge"
    assert one["status"]["state"] == "active"


async def test_a_resolved_alert_is_gone_and_so_is_the_old_severity(alertmanager: str) -> None:
    to = sink(alertmanager)
    one = alert(at_ms=now_ms() - 60_000)
    await to.deliver(notification(one))
    worse = msgspec.structs.replace(one, severity="critical", sequence=2, at_ms=now_ms() - 30_000)
    await to.deliver(notification(worse, sequence=2))
    assert [each["labels"]["severity"] for each in await known(alertmanager)] == ["critical"]
    over = msgspec.structs.replace(worse, state="resolved", sequence=3, resolved_at_ms=now_ms() - 1000)
    await to.deliver(notification(over, sequence=3))
    assert await known(alertmanager) == []
    await to.close()


async def test_what_is_repeated_stays_and_what_is_not_expires(alertmanager: str) -> None:
    stays, goes = sink(alertmanager, resend_seconds=0.5), sink(alertmanager, resend_seconds=0.5)
    await stays.deliver(notification(alert("company:STAYS")))
    await goes.deliver(notification(alert("company:GOES"), group="g2"))
    deadline = time.monotonic() + 20
    while {each["labels"]["series"] for each in await known(alertmanager)} != {"company:STAYS"}:
        assert time.monotonic() < deadline
        await stays.refresh()
        await asyncio.sleep(0.3)
    await stays.close()
    await goes.close()


async def test_a_successor_goes_on_repeating_what_it_only_remembers(alertmanager: str) -> None:
    to = sink(alertmanager)
    to.remember(notification(alert("company:A")))
    await to.refresh()
    assert [each["labels"]["series"] for each in await known(alertmanager)] == ["company:A"]
    await to.close()


async def test_a_receiver_that_is_no_alertmanager_refuses() -> None:
    async with serving() as server:
        server.then(status(404))
        to = sink(server.url)
        with pytest.raises(Refused, match="404"):
            await to.deliver(notification())
        await to.close()
        assert server.requests[0].path == "/hook/api/v2/alerts"
