"""What a sink is, and what may become of an attempt to deliver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from alerts.notifications import Notification

SecretSource = Callable[[], str]
"""Gives a secret when it is needed, so that a file may be replaced while we run. May raise `TryLater`."""


class Undelivered(Exception):
    """An attempt that failed; the message says why, without secrets."""


class TryLater(Undelivered):
    """The receiver may take it another time; `after_seconds` is the least it asks us to wait, None where it did not."""

    def __init__(self, why: str, after_seconds: float | None = None) -> None:
        super().__init__(why)
        self.after_seconds = after_seconds


class Refused(Undelivered):
    """The receiver will never take it as it is; trying again is of no use."""


class Sink(Protocol):
    """One receiver. `deliver` is never called twice at once, and may be cancelled at its time limit.

    `refresh_seconds`: how often `refresh` is to be called while nothing else is sent; None for never.
    """

    @property
    def kind(self) -> str:
        """The word for it in the configuration."""

    @property
    def refresh_seconds(self) -> float | None:
        """How often the receiver needs to hear that an alert still fires."""

    async def deliver(self, notification: Notification) -> None:
        """Hand it over; returns once the receiver has taken it. Raises TryLater or Refused."""

    async def refresh(self) -> None:
        """Repeat what must not expire. Raises TryLater or Refused."""

    def remember(self, notification: Notification) -> None:
        """Take note of what was delivered in an earlier life, without sending it."""

    def forget(self) -> None:
        """Forget what was remembered or delivered: another worker takes over."""

    async def close(self) -> None:
        """Let go of connections."""


class Stateless:
    """The parts of a sink that has nothing to repeat and nothing to let go."""

    @property
    def refresh_seconds(self) -> float | None:
        """Never."""
        return None

    async def refresh(self) -> None:
        """Nothing to repeat."""

    def remember(self, notification: Notification) -> None:
        """Nothing to remember."""

    def forget(self) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Nothing to let go."""
