"""Page servers to test, and readers of all kinds."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from streamer.web import server as server_module
from streamer.web import watchers as watchers_module
from streamer.web.feed import PageFeed
from streamer.web.server import PageServer
from tests.integration.deployment import until


class SettableHealth:
    def __init__(self) -> None:
        self.fatal: list[str] = []
        self.waiting: list[str] = []

    def dead(self) -> list[str]:
        return self.fatal

    def not_ready(self) -> list[str]:
        return self.waiting


class CountingFeed(PageFeed):
    """Counts how often the overview was made."""

    made = 0

    def overview(self) -> dict[str, Any]:
        self.made += 1
        return super().overview()


def large_feed() -> CountingFeed:
    feed = CountingFeed()
    feed.take_alert(orjson.dumps({"id": "large", "sequence": 1, "texts": [{"text": "x" * 20_000_000}]}))
    return feed


@contextlib.asynccontextmanager
async def serving(
    monkeypatch: pytest.MonkeyPatch, feed: PageFeed | None = None, *, host: str = "127.0.0.1", **limits: float
) -> AsyncIterator[PageServer]:
    """A server with other limits, by the names of the modules' constants; its address is on loopback."""
    for name, value in limits.items():
        monkeypatch.setattr(watchers_module if hasattr(watchers_module, name) else server_module, name, value)
    server = PageServer(feed or PageFeed(), SettableHealth(), CollectorRegistry(), host=host, port=0)
    await server.start()
    server.address = server.address.replace("0.0.0.0", "127.0.0.1")
    try:
        yield server
    finally:
        await server.stop()


def port_of(server: PageServer) -> int:
    return int(server.address.rsplit(":", 1)[1].rstrip("/"))


@contextlib.asynccontextmanager
async def stalled(server: PageServer, path: str) -> AsyncIterator[None]:
    """A reader that asks and never takes in the answer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", port_of(server)))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield


def connections(server: PageServer) -> list[web.RequestHandler]:
    assert server._runner is not None and server._runner.server is not None
    return server._runner.server.connections


async def until_dropped(server: PageServer) -> None:
    """Until the server has no connection left."""
    assert len(connections(server)) == 1, "it was there"

    async def is_gone() -> bool:
        return not connections(server)

    await until(is_gone, "the connection is dropped", seconds=10)


async def read_event(stream: aiohttp.StreamReader) -> tuple[str, object]:
    name = (await stream.readline()).decode().removeprefix("event: ").strip()
    data = orjson.loads((await stream.readline()).removeprefix(b"data: "))
    assert await stream.readline() == b"\n"
    return name, data
