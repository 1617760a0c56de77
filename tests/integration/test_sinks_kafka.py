"""Delivering notifications, on Apache Kafka: the same as on the embedded broker, and a crash and a second worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from alerts.notifications import notification_id
from tests.integration.delivery import (
    archived,
    check_age_and_nonsense,
    check_dead_letters,
    check_delivery,
    ready,
    serving,
    sinks_of,
)
from tests.integration.deployment import Deployment, until
from tests.shell.commands import bearwire
from tests.sinks.http_server import hang, status
from tests.sinks.notifications import notification

pytestmark = pytest.mark.kafka


async def test_every_receiver_hears_it_and_none_holds_up_another(kafka: str, tmp_path: Path) -> None:
    async with serving() as server:
        await check_delivery(Deployment(kafka, tmp_path, sinks=sinks_of(tmp_path, server)), server)


async def test_what_cannot_be_delivered_is_a_dead_letter_and_can_be_replayed(kafka: str, tmp_path: Path) -> None:
    async with serving() as server:
        deployment = Deployment(kafka, tmp_path, sinks=sinks_of(tmp_path, server))

        async def replay() -> None:
            result = await asyncio.to_thread(
                bearwire, "dead-letters", "replay", "--reason", "sink_failed", "-c", str(deployment.file)
            )
            assert result.exit_code == 0, result.output
            assert "1 dead letters sent again" in result.stderr

        await check_dead_letters(deployment, server, replay)


async def test_history_pages_nobody_and_nonsense_stops_nothing(kafka: str, tmp_path: Path) -> None:
    async with serving() as server:
        await check_age_and_nonsense(Deployment(kafka, tmp_path, sinks=sinks_of(tmp_path, server)), server)


async def test_a_worker_that_was_killed_repeats_only_what_was_on_its_way(kafka: str, tmp_path: Path) -> None:
    async with serving() as server:
        deployment = Deployment(kafka, tmp_path, sinks=sinks_of(tmp_path, server))
        worker = await ready(deployment)
        sent = [notification(group="a", sequence=number) for number in range(1, 21)]
        server.then(*[status(200)] * 10, hang)
        await deployment.notify(*sent)
        await server.wait(11)
        await until(lambda: _archived(tmp_path, 20), "the file has all of them", worker=worker)
        await asyncio.sleep(1.0)  # two polls, so that what was delivered is committed
        worker.kill()
        server.then(status(200))
        worker = await ready(deployment, number=1)
        await server.wait(11 + 10)
        assert worker.finish() == 0, worker.tail()
        keys = [request.headers["idempotency-key"] for request in server.requests]
        assert keys[:10] == [each.id for each in sent[:10]]
        assert set(keys[10:]) == {each.id for each in sent[10:]}, "those that were delivered do not come again"
        assert archived(tmp_path) == [each.id for each in sent], "the sink that was ahead hears nothing again"


async def test_a_second_worker_takes_over_and_each_notification_comes(kafka: str, tmp_path: Path) -> None:
    async with serving() as server:
        deployment = Deployment(kafka, tmp_path, sinks=sinks_of(tmp_path, server))
        workers = [await ready(deployment, number=number) for number in range(2)]
        await deployment.notify(*(notification(group="a", sequence=number) for number in range(1, 6)))
        await server.wait(5)
        workers[0].kill()
        await deployment.notify(*(notification(group="b", sequence=number) for number in range(1, 6)))
        wanted = {notification_id(group, number) for group in "ab" for number in range(1, 6)}

        async def all_told() -> bool:
            return {request.headers["idempotency-key"] for request in server.requests} == wanted

        await until(all_told, "the webhook has heard all ten", worker=workers[1])
        assert workers[1].finish() == 0, workers[1].tail()


async def _archived(folder: Path, count: int) -> bool:
    return len(archived(folder)) == count
