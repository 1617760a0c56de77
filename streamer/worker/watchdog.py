"""Ends a worker that has work and gets nothing done: a hang that nobody sees is the worst failure of all."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from streamer.worker.status import WorkerStatus

EXIT_HUNG: Final = 70
_TICK_SECONDS: Final = 1.0
_LOOP_SILENT_SECONDS: Final = 60.0
_LAST_WORDS_SECONDS: Final = 20.0


class Watchdog:
    """A thread of its own, so that it also sees an event loop that no longer turns.

    `stalled` is called (from that thread) with a sentence when nothing was durably done for `stall_seconds` though
    there is lag or a part is not up, or when one part with work got nothing done for so long, whatever others did.
    Where that does not end the process, or the loop itself is silent, the stacks of all threads are written to
    standard error and the process ends with status 70.
    """

    def __init__(self, status: WorkerStatus, stall_seconds: float, stalled: Callable[[str], None]) -> None:
        self._status = status
        self._stall_seconds = stall_seconds
        self._stalled = stalled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bearwire-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _run(self) -> None:
        said_at: float | None = None
        said = ""
        last = calm_at = time.monotonic()
        while not self._stop.wait(_TICK_SECONDS):
            now = time.monotonic()
            if now - last > 5 * _TICK_SECONDS:
                # The whole process was paused (SIGSTOP, a suspended machine): give it time to catch up.
                self._status.note_resumed()
            last = now
            calm_at = now if is_calm(self._status) else calm_at
            if said_at is not None and now - said_at > _LAST_WORDS_SECONDS:
                self._end(f"{said}; the worker did not end when it was told to")
            elif now - self._status.beat_at > _LOOP_SILENT_SECONDS:
                self._end(f"the event loop has been silent for {_LOOP_SILENT_SECONDS:.0f} s")
            elif said_at is None and (why := stall(self._status, self._stall_seconds, calm_at)) is not None:
                said_at, said = now, why
                self._stalled(why)
            elif said_at is None and (why := stall(self._status, self._stall_seconds / 2, calm_at)) is not None:
                self._status.hold("watchdog", why)
            elif said_at is None:
                self._status.release("watchdog")

    def _end(self, why: str) -> None:
        faulthandler.dump_traceback(all_threads=True)
        print(f"bearwire: {why}", file=sys.stderr, flush=True)
        os._exit(EXIT_HUNG)


def is_calm(status: WorkerStatus) -> bool:
    """Whether nothing waits to be done: then silence means nothing."""
    return not status.lag and not _waiting(status)


def stall(status: WorkerStatus, stall_seconds: float, calm_at: float = 0.0) -> str | None:
    """What to say of a worker that has work and got nothing durable done for so long; None where all is well.

    `calm_at` (monotonic) is when it last had nothing to do: a worker that was idle all night has not stalled when the
    first record comes.
    """
    now = time.monotonic()
    silent = now - max(status.progress_at, calm_at)
    if silent < stall_seconds or is_calm(status):
        return _stalled_part(status, stall_seconds, now)
    waiting = _waiting(status)
    why = f"; {'; '.join(waiting)}" if waiting else ""
    return f"nothing was done for {silent:.0f} s though {status.lag} records wait{why}"


def _stalled_part(status: WorkerStatus, stall_seconds: float, now: float) -> str | None:
    silent, part = max(
        ((now - max(at, status.resumed_at), part) for part, at in list(status.parts.items())), default=(0.0, "")
    )
    return f"{part}: nothing was done for {silent:.0f} s though there is work" if silent >= stall_seconds else None


def _waiting(status: WorkerStatus) -> list[str]:
    return [reason for reason in status.not_ready() if not reason.startswith("watchdog")]
