"""Delivering notifications, on the embedded broker."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import msgspec
import orjson
import pytest

from tests.integration.delivery import (
    check_age_and_nonsense,
    check_dead_letters,
    check_delivery,
    ready,
    serving,
    sinks_of,
)
from tests.integration.deployment import Deployment
from tests.shell.commands import bearwire
from tests.sinks.notifications import alert, notification, now_ms

pytestmark = pytest.mark.embedded


async def test_every_receiver_hears_it_and_none_holds_up_another(embedded: str, tmp_path: Path) -> None:
    async with serving() as server:
        await check_delivery(Deployment(embedded, tmp_path, sinks=sinks_of(tmp_path, server)), server)


async def test_what_cannot_be_delivered_is_a_dead_letter_and_can_be_replayed(embedded: str, tmp_path: Path) -> None:
    async with serving() as server:
        deployment = Deployment(embedded, tmp_path, sinks=sinks_of(tmp_path, server))

        async def replay() -> None:
            result = await asyncio.to_thread(
                bearwire, "dead-letters", "replay", "--reason", "sink_failed", "-c", str(deployment.file)
            )
            assert result.exit_code == 0, result.output
            assert "1 dead letters sent again" in result.stderr

        await check_dead_letters(deployment, server, replay)


async def test_history_pages_nobody_and_nonsense_stops_nothing(embedded: str, tmp_path: Path) -> None:
    async with serving() as server:
        await check_age_and_nonsense(Deployment(embedded, tmp_path, sinks=sinks_of(tmp_path, server)), server)


async def test_a_restart_goes_on_repeating_what_fires(embedded: str, tmp_path: Path) -> None:
    async with serving() as server:
        alertmanager = {"name": "am", "url": server.url, "resend_seconds": 1}
        deployment = Deployment(embedded, tmp_path, sinks={"alertmanager": [alertmanager]})
        worker = await ready(deployment)
        fires, over = alert("company:FIRES"), alert("company:OVER")
        ended = msgspec.structs.replace(over, sequence=2, state="resolved", resolved_at_ms=over.at_ms)
        told = [
            notification(fires, receivers=("*",), group="a"),
            notification(over, receivers=("*",), group="b"),
            notification(ended, receivers=("*",), group="b", sequence=2),
        ]
        await deployment.notify(*told)
        await server.wait(4)
        assert worker.finish() == 0, worker.tail()
        before = len(server.requests)
        worker = await ready(deployment, number=1)
        await server.wait(before + 2)
        assert worker.finish() == 0, worker.tail()
        for request in server.requests[before:]:
            (repeated,) = orjson.loads(request.body)
            assert request.path == "/hook/api/v2/alerts"
            assert repeated["labels"]["series"] == "company:FIRES"
            assert datetime.fromisoformat(repeated["endsAt"]).timestamp() * 1000 > now_ms() - 60_000
