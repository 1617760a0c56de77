"""What open pages are sent: an overview, then changes; and what those cost that fall behind."""

import asyncio
import contextlib
from typing import Any

import aiohttp
import pytest

from streamer.web.server import PageServer
from tests.web.serving import CountingFeed, large_feed, read_event, serving, stalled
from tests.web.test_feed import START_MS, alert, window


async def test_an_open_page_is_sent_the_overview_and_then_what_changes(
    server: PageServer, client: aiohttp.ClientSession
) -> None:
    server.take_window(window("all", START_MS + 60_000, documents=2))
    async with client.get(server.address + "api/events") as response:
        name, overview = await read_event(response.content)
        assert name == "overview" and isinstance(overview, dict)
        assert overview["series"] == [["main", "all", [[START_MS, 2, 0, 0.0]]]]
        server.take_window(window("all", START_MS + 120_000, documents=5))
        server.take_alert(alert("a", 1))
        name, news = await read_event(response.content)
        assert name == "points" and isinstance(news, dict)
        assert news["points"] == [["main", "all", [START_MS, 7, 0, 0.0]]]
        name, fired = await read_event(response.content)
        assert name == "alert" and isinstance(fired, dict) and fired["id"] == "a"


@pytest.mark.parametrize("kind", ["points", "alerts"])
async def test_a_page_that_falls_behind_is_sent_a_new_overview(
    monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession, kind: str
) -> None:
    limits: dict[str, Any] = {
        "MOST_POINTS_BEHIND": 3,
        "MOST_ALERTS_BEHIND": 3,
        "SHARE_SECONDS": 0.2,
        "FLUSH_SECONDS": 0.05,
    }
    async with (
        serving(monkeypatch, **limits) as server,
        client.get(server.address + "api/events") as response,
    ):
        name, _ = await read_event(response.content)
        for number in range(50):
            if kind == "points":
                server.take_window(window(f"topic:{number}", START_MS + 60_000))
            else:
                server.take_alert(alert(str(number), 1))
        (watcher,) = server._watchers._watchers
        assert not watcher.backlog.points and not watcher.backlog.alerts
        name, overview = await asyncio.wait_for(read_event(response.content), 10)
        assert name == "overview" and isinstance(overview, dict)
        assert len(overview["series" if kind == "points" else "alerts"]) == 50
        server.take_window(window("all", START_MS + 60_000))
        name, _ = await asyncio.wait_for(read_event(response.content), 10)
        assert name == "points", "it goes on as before"


async def test_pages_opened_within_a_second_share_an_overview_and_miss_nothing(
    monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession
) -> None:
    feed = CountingFeed()
    async with serving(monkeypatch, feed, SHARE_SECONDS=30, FLUSH_SECONDS=0.05) as server:
        server.take_window(window("all", START_MS + 60_000))
        async with client.get(server.address + "api/events") as first:
            await read_event(first.content)
            server.take_window(window("topic:Macro", START_MS + 60_000))
            server.take_alert(alert("a", 1))
            async with client.get(server.address + "api/events") as second:
                name, overview = await read_event(second.content)
                assert name == "overview" and isinstance(overview, dict)
                assert [key for _, key, _ in overview["series"]] == ["all"]
                name, news = await asyncio.wait_for(read_event(second.content), 10)
                assert name == "points" and isinstance(news, dict)
                assert [key for _, key, _ in news["points"]] == ["topic:Macro"]
                name, _ = await asyncio.wait_for(read_event(second.content), 10)
                assert name == "alert"
        async with client.get(server.address + "api/overview") as response:
            assert await response.json() == overview
    assert feed.made == 1


async def test_an_overview_is_made_anew_after_a_while(
    monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession
) -> None:
    feed = CountingFeed()
    async with serving(monkeypatch, feed, SHARE_SECONDS=0.05) as server:
        for _ in range(2):
            async with client.get(server.address + "api/overview") as response:
                assert response.status == 200
            await asyncio.sleep(0.3)
    assert feed.made == 2


async def test_slow_readers_hold_on_to_few_overviews(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = large_feed()
    async with serving(monkeypatch, feed, SHARE_SECONDS=0.05, MOST_OVERVIEWS=2) as server:
        async with contextlib.AsyncExitStack() as readers:
            for _ in range(4):
                await readers.enter_async_context(stalled(server, "/api/events"))
                await asyncio.sleep(0.4)
        assert feed.made == 2
