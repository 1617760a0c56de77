"""How far each sink has come in one partition of the notifications, and what to commit for that. Pure.

Every sink delivers in order, so its progress is one offset. The least of them is committed; those that are ahead
travel in the commit's metadata, so that after a restart a receiver that was well does not hear everything again
because another one was down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

import orjson

_MOST_METADATA_BYTES: Final = 3500


class SinkProgress:
    """One partition. `next_offset` is the committed one, `ahead` the sinks that were further then.

    `read_to` is the next offset to take.
    """

    def __init__(self, next_offset: int, ahead: Mapping[str, int]) -> None:
        self.read_to = next_offset
        self._ahead = dict(ahead)
        self._open: dict[str, deque[int]] = {}

    def wants(self, sink: str, offset: int) -> bool:
        """Whether the sink has not dealt with this offset in an earlier life."""
        return offset >= self._ahead.get(sink, 0)

    def is_behind(self, offset: int) -> bool:
        """Whether the record lies before what was read, so that the log is another one or was cut back: no offset that
        a sink has reached then says anything of it."""
        return offset < self.read_to

    def take(self, offset: int, sinks: Iterable[str]) -> None:
        """The record at `offset` is on its way to these sinks, maybe none. Offsets come in ascending order."""
        self.read_to = offset + 1
        for sink in sinks:
            self._open.setdefault(sink, deque()).append(offset)

    def settle(self, offset: int, sink: str) -> None:
        """The sink has delivered its oldest open record, or it is a dead letter. Raises ValueError for another one."""
        waiting = self._open[sink]
        if waiting[0] != offset:
            raise ValueError(f"sink {sink} settles offset {offset} before {waiting[0]}")
        waiting.popleft()

    def position(self) -> tuple[int, str]:
        """The offset to commit and its metadata."""
        ends = {sink: waiting[0] for sink, waiting in self._open.items() if waiting}
        least = min(ends.values(), default=self.read_to)
        done = {sink: self.read_to for sink, waiting in self._open.items() if not waiting}
        reached = {sink: max(at, self._ahead.get(sink, 0)) for sink, at in (ends | done).items()}
        known = self._ahead | reached
        return least, _metadata({sink: at for sink, at in known.items() if at > least})


def ahead_of(metadata: str | None) -> dict[str, int]:
    """The sinks that were ahead, from a commit's metadata; none where there is none that we wrote."""
    try:
        found = orjson.loads(metadata or "{}")
        return {str(sink): int(at) for sink, at in found.get("ahead", {}).items()}
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return {}


def _metadata(ahead: dict[str, int]) -> str:
    """As JSON; where it would be longer than brokers take, the sinks that are least ahead are left out."""
    chosen = sorted(ahead.items(), key=lambda item: (-item[1], item[0]))
    while True:
        text = orjson.dumps({"ahead": dict(chosen)}).decode() if chosen else ""
        if len(text.encode()) <= _MOST_METADATA_BYTES:
            return text
        chosen.pop()
