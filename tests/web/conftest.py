"""Fixtures for the page: a server on a real socket, and a client of it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Counter

from streamer.web.feed import PageFeed
from streamer.web.server import PageServer
from tests.shell.conftest import embedded_broker as embedded_broker
from tests.web.serving import SettableHealth


@pytest.fixture
def health() -> SettableHealth:
    return SettableHealth()


@pytest_asyncio.fixture
async def server(health: SettableHealth) -> AsyncIterator[PageServer]:
    registry = CollectorRegistry()
    Counter("bearwire_test", "A counter.", registry=registry).inc(3)
    server = PageServer(PageFeed(), health, registry, host="127.0.0.1", port=0)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
