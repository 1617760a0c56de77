"""A TCP proxy that cuts, freezes and delays, to stand between clients and a broker."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from tests.brokers.kraft import HOST

_CHUNK = 64 * 1024


class FaultyProxy:
    """Forwards `port` to `target_port` on loopback. An async context manager; faults are set while it runs.

    `delay_seconds` is added to every piece of data in both directions.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.delay_seconds = 0.0
        self.cuts = 0
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
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, target))
                group.create_task(self._pump(target_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(task)
            for side in (writer, target):
                if side is not None:
                    side.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
