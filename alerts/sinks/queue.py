"""The queue of one sink: delivers in order, tries again, and gives up in the end. One per sink, so that a receiver
that is down holds up nobody else.

    put ─► wanted by this sink, not outdated ─► deliver ─► (pause, deliver again ...) ─► settled: delivered or given up
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from alerts.notifications import Notification
from alerts.sinks.backoff import Retry
from alerts.sinks.delivery import Refused, Sink, TryLater

log = logging.getLogger(__name__)

Fate = Literal["delivered", "outdated", "failed"]


class Ticket(NamedTuple):
    """A notification on its way to one sink. `partition` and `offset` say where it lies; `again` that a person asked
    for it to be sent once more, whatever its age. `origin` is whatever `settled` wants to know it by."""

    notification: Notification
    partition: int
    offset: int
    taken_at: float
    again: bool = False
    origin: Any = None


@dataclass(slots=True)
class SinkStatus:
    """What one sink has done since the start, and how it stands now."""

    name: str
    kind: str
    delivered: int = 0
    failed: int = 0
    outdated: int = 0
    retries: int = 0
    waiting: int = 0
    oldest_at: float | None = None
    last_error: str = ""
    failing: bool = False

    def age_seconds(self) -> float:
        """How long the oldest waiting notification has been waiting."""
        return 0.0 if self.oldest_at is None else max(0.0, time.monotonic() - self.oldest_at)


Settled = Callable[[str, Ticket, Fate, str], Awaitable[None]]
"""Takes the sink's name, the ticket, its fate, and why where it failed."""


class _Leaving(Exception):
    """The queue closes; what it holds stays unsettled."""


@dataclass(slots=True)
class SinkQueue:
    """Delivers tickets to `sink` in order. `settled` is awaited with each one's fate.

    `attempt_seconds` bounds one attempt, `max_age_seconds` (None: no bound) the event-time age of what is still sent;
    beyond `most_waiting` the oldest is given up.
    """

    name: str
    sink: Sink
    settled: Settled
    retry: Retry = field(default_factory=Retry)
    attempt_seconds: float = 30.0
    max_age_seconds: float | None = None
    most_waiting: int = 1000
    status: SinkStatus = field(init=False)
    _waiting: deque[Ticket] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False
    _refreshed_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.status = SinkStatus(self.name, self.sink.kind)

    def put(self, ticket: Ticket) -> None:
        """Take a ticket; returns at once."""
        self._waiting.append(ticket)
        self._measure()
        self._news.set()
        if self._is_full:
            self._hurry.set()

    def close(self) -> None:
        """Begin no further attempt; `run` then returns, and what waits stays unsettled."""
        self._closing = True
        self._news.set()
        self._hurry.set()

    async def run(self) -> None:
        """Deliver until closed; begins anew, empty of what an earlier run left. An error of `settled` ends it."""
        with contextlib.suppress(_Leaving):
            while not self._closing:
                while self._waiting:
                    await self._settle(self._waiting[0])
                    if self._until_refresh() == 0.0:
                        await self._refresh()
                self._news.clear()
                try:
                    async with asyncio.timeout(self._until_refresh()):
                        await self._news.wait()
                except TimeoutError:
                    await self._refresh()

    def reset(self) -> None:
        """Forget what waits and open again: the partitions are another worker's, or come anew."""
        self._waiting.clear()
        self._closing = False
        self._news.clear()
        self._hurry.clear()
        self.sink.forget()
        self._measure()

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) > self.most_waiting

    async def _settle(self, ticket: Ticket) -> None:
        if self._closing:
            raise _Leaving
        fate, why = await self._fate(ticket)
        await self.settled(self.name, ticket, fate, why)
        self._waiting.popleft()
        self._count(fate, why)

    async def _fate(self, ticket: Ticket) -> tuple[Fate, str]:
        if self._is_outdated(ticket):
            return "outdated", ""
        failures = 0
        deadline = ticket.taken_at + self.retry.budget_seconds
        while not self._is_full:
            try:
                await self._attempt(ticket.notification)
            except Refused as error:
                return "failed", str(error)
            except TryLater as error:
                failures += 1
                pause = self.retry.pause_seconds(failures, error.after_seconds, random.random())  # noqa: S311
                self._note_failure(str(error))
                if time.monotonic() + pause > deadline:
                    return "failed", f"{error} (gave up after {failures} attempts)"
                await self._pause(pause)
                self.status.retries += 1
            else:
                return "delivered", ""
        return "failed", f"more than {self.most_waiting} notifications waited; {self.status.last_error}"

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        if not self._is_full and not self._closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), seconds)
        if self._closing:
            raise _Leaving

    async def _attempt(self, notification: Notification) -> None:
        try:
            async with asyncio.timeout(self.attempt_seconds):
                await self.sink.deliver(notification)
        except TimeoutError as error:
            raise TryLater(f"not done within {self.attempt_seconds:g} s") from error
        except (Refused, TryLater):
            raise
        except Exception as error:
            log.exception("sink %s: an error that no sink should raise", self.name)
            raise TryLater(f"{type(error).__name__}") from error

    def _is_outdated(self, ticket: Ticket) -> bool:
        if self.max_age_seconds is None or ticket.again:
            return False
        return time.time() - ticket.notification.at_ms / 1000 > self.max_age_seconds

    def _until_refresh(self) -> float | None:
        every = self.sink.refresh_seconds
        return None if every is None else max(0.0, self._refreshed_at + every - time.monotonic())

    async def _refresh(self) -> None:
        self._refreshed_at = time.monotonic()
        try:
            async with asyncio.timeout(self.attempt_seconds):
                await self.sink.refresh()
        except (Refused, TryLater, TimeoutError) as error:
            why = str(error) or f"not done within {self.attempt_seconds:g} s"
            log.warning("sink %s: firing alerts could not be repeated: %s", self.name, why)

    def _note_failure(self, why: str) -> None:
        if not self.status.failing:
            log.warning("sink %s: %s; will be tried again", self.name, why)
        self.status.failing = True
        self.status.last_error = why

    def _count(self, fate: Fate, why: str) -> None:
        status = self.status
        if fate == "delivered":
            if status.failing:
                log.info("sink %s delivers again", self.name)
            status.delivered += 1
            status.failing = False
        elif fate == "failed":
            status.failed += 1
            status.failing = True
            status.last_error = why
            log.error("sink %s: gave a notification up: %s", self.name, why)
        else:
            status.outdated += 1
        self._measure()

    def _measure(self) -> None:
        self.status.waiting = len(self._waiting)
        self.status.oldest_at = self._waiting[0].taken_at if self._waiting else None
