"""An HTTP(S) server of raw sockets that answers, or fails in all the usual ways, as it is told."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Got(NamedTuple):
    """A request as it arrived; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """What it got so far, and what it does next: one behaviour per request, the last one for ever."""

    port: int = 0
    scheme: str = "http"
    requests: list[Got] = field(default_factory=list)
    behaviours: list[Behaviour] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    def then(self, *behaviours: Behaviour) -> None:
        """Answer the next requests so."""
        self.behaviours = list(behaviours)

    async def wait(self, count: int, seconds: float = 30.0) -> None:
        """Until so many requests have arrived."""
        async with asyncio.timeout(seconds):
            while len(self.requests) < count:
                self.arrived.clear()
                await self.arrived.wait()


def status(code: int, body: bytes = b"ok", **headers: str) -> Behaviour:
    """An answer."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Whatever", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return behave


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Never answer; wait until the client leaves."""
    await reader.read()


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER


async def nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in no protocol at all."""
    writer.write(b"\x00\x01\x02 this is no HTTP \r\n\r\n")
    await writer.drain()


async def slow_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 500 and then drip its body."""
    writer.write(b"HTTP/1.1 500 Slow\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(1000):
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)


async def huge_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 400 with a body without end."""
    writer.write(b"HTTP/1.1 400 Huge\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(10_000):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on loopback that says 200 to everything until told otherwise."""
    server = Server(scheme="https" if tls else "http", behaviours=[status(200)])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            server.requests.append(Got(head[0].split(" ")[1], headers, body))
            server.arrived.set()
            behave = server.behaviours.pop(0) if len(server.behaviours) > 1 else server.behaviours[0]
            await behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
