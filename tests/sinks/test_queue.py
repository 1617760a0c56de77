"""A queue per sink: order, retries, giving up, age, and nobody else held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.notifications import Notification
from alerts.sinks.backoff import Retry, retry_after_seconds
from alerts.sinks.delivery import Stateless
from alerts.sinks.http import Endpoint
from alerts.sinks.queue import Fate, SinkQueue, Ticket
from alerts.sinks.webhook import WebhookSink
from tests.sinks.http_server import Server, hang, reset, serving, status
from tests.sinks.notifications import alert, notification, now_ms

QUICK = Retry(first_seconds=0.01, longest_seconds=0.05, budget_seconds=20.0)


class Settled(list[tuple[int, Fate, str]]):
    """The fates in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    async def note(self, _sink: str, ticket: Ticket, fate: Fate, why: str) -> None:
        self.append((ticket.offset, fate, why))
        self.news.set()


def ticket(offset: int, *, at_ms: int | None = None, again: bool = False) -> Ticket:
    made = notification(alert(at_ms=at_ms or now_ms()), sequence=offset + 1)
    return Ticket(made, 0, offset, time.monotonic(), again)


@asynccontextmanager
async def delivering(server: Server, retry: Retry = QUICK, **how: object) -> AsyncIterator[tuple[SinkQueue, Settled]]:
    fates = Settled()
    sink = WebhookSink(Endpoint(url=lambda: server.url, timeout_seconds=0.5))
    queue = SinkQueue("desk", sink, fates.note, retry, **how)  # type: ignore[arg-type]
    task = asyncio.create_task(queue.run())
    try:
        yield queue, fates
    finally:
        queue.close()
        await asyncio.wait_for(task, 10)
        await sink.close()


async def settle(fates: Settled, count: int) -> None:
    async with asyncio.timeout(30):
        while len(fates) < count:
            fates.news.clear()
            await fates.news.wait()


async def test_what_failed_is_sent_again_with_the_same_key_and_before_what_came_after_it() -> None:
    async with serving() as server, delivering(server) as (queue, fates):
        server.then(status(500), reset, hang, status(503), status(200))
        for offset in range(3):
            queue.put(ticket(offset))
        await settle(fates, 3)
        assert fates == [(0, "delivered", ""), (1, "delivered", ""), (2, "delivered", "")]
        keys = [request.headers["idempotency-key"] for request in server.requests]
        assert keys[0] == keys[1] == keys[2] == keys[3] == keys[4]
        assert len(set(keys)) == 3
        assert (queue.status.delivered, queue.status.retries, queue.status.failing) == (3, 4, False)


async def test_a_final_answer_is_not_tried_again() -> None:
    async with serving() as server, delivering(server) as (queue, fates):
        server.then(status(400, b"no such room"), status(200))
        queue.put(ticket(0))
        queue.put(ticket(1))
        await settle(fates, 2)
        assert fates == [(0, "failed", "HTTP 400: no such room"), (1, "delivered", "")]
        assert len(server.requests) == 2
        assert queue.status.failed == 1


async def test_after_the_budget_it_is_given_up() -> None:
    async with serving() as server, delivering(server, Retry(first_seconds=0.01, budget_seconds=0.3)) as (queue, fates):
        server.then(status(500))
        queue.put(ticket(0))
        await settle(fates, 1)
        ((offset, fate, why),) = fates
        assert (offset, fate) == (0, "failed")
        assert "HTTP 500" in why and "gave up after" in why
        assert len(server.requests) > 1


async def test_retry_after_is_honoured() -> None:
    async with serving() as server, delivering(server) as (queue, fates):
        server.then(status(429, Retry_After="1"), status(200))
        started = time.monotonic()
        queue.put(ticket(0))
        await settle(fates, 1)
        assert time.monotonic() - started >= 1.0


async def test_an_event_of_long_ago_is_not_sent_unless_a_person_asks_for_it() -> None:
    async with serving() as server, delivering(server, max_age_seconds=3600.0) as (queue, fates):
        queue.put(ticket(0, at_ms=now_ms() - 3_700_000))
        queue.put(ticket(1, at_ms=now_ms() - 3_500_000))
        queue.put(ticket(2, at_ms=now_ms() - 3_700_000, again=True))
        await settle(fates, 3)
        assert [fate for _, fate, _ in fates] == ["outdated", "delivered", "delivered"]
        assert queue.status.outdated == 1


async def test_a_queue_that_is_full_gives_up_its_oldest_at_once() -> None:
    slow = Retry(first_seconds=60.0, budget_seconds=3600.0)
    async with serving() as server, delivering(server, slow, most_waiting=2) as (queue, fates):
        server.then(status(500))
        for offset in range(4):
            queue.put(ticket(offset))
        await settle(fates, 2)
        assert [(offset, fate) for offset, fate, _ in fates] == [(0, "failed"), (1, "failed")]
        assert queue.status.waiting == 2


async def test_closing_begins_no_further_attempt_and_settles_nothing_by_force() -> None:
    slow = Retry(first_seconds=60.0, budget_seconds=3600.0)
    async with serving() as server:
        server.then(status(500))
        async with delivering(server, slow) as (queue, fates):
            queue.put(ticket(0))
            await server.wait(1)
        assert fates == []
        assert len(server.requests) == 1


async def test_a_dead_receiver_holds_up_nobody_else() -> None:
    async with serving() as dead, serving() as well:
        dead.then(hang)
        async with delivering(dead) as (stuck, nothing), delivering(well) as (free, fates):
            for offset in range(20):
                stuck.put(ticket(offset))
                free.put(ticket(offset))
            await settle(fates, 20)
            assert nothing == []
            assert stuck.status.waiting == 20
            assert stuck.status.age_seconds() > 0


async def test_an_error_that_no_sink_should_raise_is_an_attempt_that_failed() -> None:
    class Broken(Stateless):
        kind = "broken"
        attempts = 0

        async def deliver(self, notification: Notification) -> None:
            self.attempts += 1
            if self.attempts == 1:
                raise ZeroDivisionError

    fates = Settled()
    queue = SinkQueue("odd", Broken(), fates.note, QUICK)
    task = asyncio.create_task(queue.run())
    queue.put(ticket(0))
    await settle(fates, 1)
    queue.close()
    await task
    assert fates == [(0, "delivered", "")]


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_bound_and_are_half_random(failures: int, draw: float) -> None:
    retry = Retry(first_seconds=1.0, longest_seconds=300.0)
    pause = retry.pause_seconds(failures, None, draw)
    full = min(300.0, 2.0 ** (failures - 1)) if failures < 20 else 300.0
    assert full / 2 <= pause <= full
    assert retry.pause_seconds(failures, 1e6, draw) == 1e6


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1e9", "Mon, 99 Foo 2026", "²", "inf"])
def test_a_retry_after_that_says_nothing_usable_is_ignored(header: str | None) -> None:
    assert retry_after_seconds(header, 0.0) in (None, 0.0)
