"""What delivering notifications must do on every broker; run on the embedded one and on Apache Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from alerts.notifications import decode_notification
from streamer.core.dead_letters import REASON, REPLAYS, SINK
from tests.integration.deployment import Deployment, WorkerProcess, until
from tests.sinks.http_server import Server, hang, serving, status
from tests.sinks.notifications import alert, notification, now_ms


def sinks_of(folder: Path, server: Server, **more: Any) -> dict[str, Any]:
    """A webhook called desk, and a file that takes the same receiver."""
    desk = {"name": "desk", "url": server.url, "timeout_seconds": 1, "retry_seconds": 3600, **more}
    return {
        "webhooks": [desk],
        "files": [{"name": "archive", "receivers": ["desk", "other"], "path": str(folder / "archive.jsonl")}],
    }


def archived(folder: Path) -> list[str]:
    """The ids in the file."""
    file = folder / "archive.jsonl"
    return [decode_notification(line).id for line in file.read_bytes().splitlines()] if file.exists() else []


async def ready(deployment: Deployment, *, number: int = 0) -> WorkerProcess:
    """A worker of the role `sinks`, once the topics are there."""
    worker = deployment.worker("--role", "sinks", number=number)
    await until(deployment.has_topics, "the topics exist", worker=worker)
    return worker


async def check_delivery(deployment: Deployment, server: Server) -> None:
    """Each notification reaches the receivers that it names; a dead receiver holds up nobody; a restart doubles nothing
    for those that were well."""
    worker = await ready(deployment)
    folder = deployment.folder
    first = [notification(group="a", sequence=number) for number in (1, 2, 3)]
    other = notification(group="b", receivers=("other",))
    await deployment.notify(*first, other)
    await server.wait(3)

    async def all_archived() -> bool:
        return archived(folder) == [each.id for each in (*first, other)]

    await until(all_archived, "the file has all four", worker=worker)
    assert [request.headers["idempotency-key"] for request in server.requests] == [each.id for each in first]
    assert decode_notification(server.requests[0].body) == decode_notification(first[0].encode())

    server.then(hang)
    more = [notification(group="c", sequence=number) for number in (1, 2, 3)]
    await deployment.notify(*more)

    async def more_archived() -> bool:
        return archived(folder)[4:] == [each.id for each in more]

    await until(more_archived, "the file has three more though the webhook hangs", worker=worker)
    await server.wait(5)
    assert {request.headers["idempotency-key"] for request in server.requests[3:]} == {more[0].id}
    assert worker.finish() == 0, worker.tail()

    server.then(status(200))
    sent = len(server.requests)
    worker = await ready(deployment, number=1)
    await server.wait(sent + 3)
    assert [request.headers["idempotency-key"] for request in server.requests[sent:]] == [each.id for each in more]
    assert worker.finish() == 0, worker.tail()


async def check_dead_letters(deployment: Deployment, server: Server, replay: Any) -> None:
    """What a receiver refuses becomes a dead letter, which a replay sends to that sink alone."""
    worker = await ready(deployment)
    server.then(status(410, b"gone"))
    old = notification(alert(at_ms=now_ms() - 3_600_000), group="a")
    await deployment.notify(old)

    async def buried() -> bool:
        return len(await deployment.records("dead_letters")) == 1

    await until(buried, "the notification is a dead letter", worker=worker)
    (letter,) = await deployment.records("dead_letters")
    headers = dict(letter.headers)
    assert (headers[REASON], headers[SINK]) == (b"sink_failed", b"desk")
    assert (letter.key, letter.value) == (old.id.encode(), old.encode())
    assert b"desk: HTTP 410: gone" in headers["bearwire-detail"]

    server.then(status(200))
    await replay()
    await server.wait(2)
    assert server.requests[1].headers["idempotency-key"] == old.id
    again = (await deployment.records("notifications"))[-1]
    assert dict(again.headers) == {SINK: b"desk", REPLAYS: b"1"}
    assert worker.finish() == 0, worker.tail()
    assert archived(deployment.folder) == [old.id], "the replay was meant for desk alone"


async def check_age_and_nonsense(deployment: Deployment, server: Server) -> None:
    """A backfill pages nobody; what is no notification is a dead letter; both let what follows through."""
    worker = await ready(deployment)
    topic = deployment.config.topics.notifications.name
    producer = await deployment.producer(topic)
    try:
        await producer.send_and_wait(topic, b"{}", key=b"x")
        await producer.send_and_wait(topic, None, key=b"x")
    finally:
        await producer.stop()
    history = [notification(alert(at_ms=now_ms() - 400 * 86_400_000), group="h", sequence=n) for n in range(1, 50)]
    today = notification(group="t")
    await deployment.notify(*history, today)
    await server.wait(1)
    assert server.requests[0].headers["idempotency-key"] == today.id

    async def all_archived() -> bool:
        return len(archived(deployment.folder)) == 50

    await until(all_archived, "the file keeps history too", worker=worker)
    (letter,) = await deployment.records("dead_letters")
    assert (dict(letter.headers)[REASON], letter.value) == (b"bad_notification", b"{}")
    assert worker.finish() == 0, worker.tail()
    assert len(server.requests) == 1
    assert orjson.loads(server.requests[0].body)["group"] == "t"


__all__ = ["check_age_and_nonsense", "check_dead_letters", "check_delivery", "serving", "sinks_of"]
