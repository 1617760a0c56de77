"""A TCP proxy that cuts, freezes and delays, to stand between clients and a broker.

It can also wait for a request of a kind (a join, a fetch, a commit) and cut the connection just there: before the
broker has the request, or once the broker has it and before the client has an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from tests.brokers.kraft import HOST

_CHUNK = 64 * 1024
_HEAD = struct.Struct(">ihhih")
"""Length, API key, API version, correlation id, length of the client's id: how every Kafka request begins."""


class FaultyProxy:
    """Forwards `port` to `target_port` on loopback. An async context manager; faults are set while it runs.

    `delay_seconds` is added to every piece of data in both directions.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.delay_seconds = 0.0
        self.cuts = 0
        self.traps: Counter[tuple[int, bool]] = Counter()
        """How many connections to cut at requests of an API key; True: at the answer instead. Counts down to 0."""
        self.sprung: list[int] = []
        """The API keys of the traps that have sprung, in order."""
        self.trapped: Callable[[str, int], bool] = lambda client, key: True
        """Which clients (by the id that they give) walk into the traps of an API key."""
        self._target_port = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> FaultyProxy:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        self.cut()

    def cut(self) -> None:
        """Close every connection now; new ones are welcome."""
        for pair in list(self._pairs):
            self.cuts += 1
            pair.cancel()

    def freeze(self) -> None:
        """Let nothing through, but keep every connection open and take new ones: a network that swallows."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through again, also what was sent meanwhile."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        target = None
        try:
            await self._flowing.wait()
            target_reader, target = await asyncio.open_connection(HOST, self._target_port)
            answers_lost = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump_requests(reader, target, answers_lost))
                group.create_task(self._pump(target_reader, writer, answers_lost))
        except* (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self._pairs.discard(task)
            for side in (writer, target):
                if side is not None:
                    side.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers_lost: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if answers_lost.is_set():
                raise ConnectionResetError
            await self._pass_on(data, writer)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _pump_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers_lost: asyncio.Event
    ) -> None:
        while head := await reader.read(1):
            head += await reader.readexactly(_HEAD.size - 1)
            length, key, _, _, named = _HEAD.unpack(head)
            body = await reader.readexactly(length + 4 - _HEAD.size)
            client = body[: max(0, named)].decode(errors="replace")
            if self._springs(key, False, client):
                raise ConnectionResetError
            if self._springs(key, True, client):
                answers_lost.set()
            await self._pass_on(head + body, writer)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._flowing.wait()
        writer.write(data)
        await writer.drain()

    def _springs(self, key: int, at_answer: bool, client: str) -> bool:
        if self.traps[key, at_answer] < 1 or not self.trapped(client, key):
            return False
        self.traps[key, at_answer] -= 1
        self.sprung.append(key)
        self.cuts += 1
        return True
