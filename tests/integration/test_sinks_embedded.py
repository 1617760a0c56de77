"""Delivering notifications, on the embedded broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.delivery import (
    check_age_and_nonsense,
    check_dead_letters,
    check_delivery,
    serving,
    sinks_of,
)
from tests.integration.deployment import Deployment
from tests.shell.commands import bearwire

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
