import time
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Counter

from alerts.silences import Silence
from alerts.sinks.queue import SinkStatus
from streamer.config import Config
from streamer.web.feed import PageFeed
from streamer.web.server import PageServer
from streamer.worker.silence_feed import SilenceFeed
from streamer.worker.status import WorkerStatus
from tests.web.test_feed import START_MS, alert, window


class SettableHealth:
    def __init__(self) -> None:
        self.fatal: list[str] = []
        self.waiting: list[str] = []

    def dead(self) -> list[str]:
        return self.fatal

    def not_ready(self) -> list[str]:
        return self.waiting


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


async def test_silences_are_shown_until_they_end(health: SettableHealth, client: aiohttp.ClientSession) -> None:
    feed = SilenceFeed(Config())
    now_ms = int(time.time() * 1000)
    usual = {"matchers": {"series": ("all",)}, "author": "ana", "reason": "<b>known", "created_ms": now_ms}
    for name, ends_ms in (("lasting", now_ms + 3_600_000), ("over", now_ms - 1), ("expired", 0)):
        silence = Silence(id=name, revision=1, starts_ms=0, ends_ms=ends_ms, **usual)  # type: ignore[arg-type]
        feed.take(silence.key, silence.encode())
    feed.take(b"odd", b"no silence")
    server = PageServer(PageFeed(), health, CollectorRegistry(), host="127.0.0.1", port=0, silences=feed.shown)
    await server.start()
    try:
        async with client.get(server.address + "api/silences") as response:
            shown = await response.json()
        async with client.post(server.address + "api/silences", json={}) as response:
            assert response.status == 405
    finally:
        await server.stop()
    assert [(each["id"], each["reason"]) for each in shown] == [("lasting", "<b>known")]


async def test_sinks_are_shown_as_the_worker_tells_of_them(
    health: SettableHealth, client: aiohttp.ClientSession
) -> None:
    status = WorkerStatus("sinks")
    status.sinks["desk"] = SinkStatus("desk", "webhook", delivered=3, failing=True, last_error="HTTP 500")
    server = PageServer(PageFeed(), health, CollectorRegistry(), host="127.0.0.1", port=0, sinks=status.sinks_now)
    await server.start()
    try:
        async with client.get(server.address + "api/sinks") as response:
            (sink,) = await response.json()
    finally:
        await server.stop()
    assert (sink["name"], sink["delivered"], sink["failing"], sink["last_error"]) == ("desk", 3, True, "HTTP 500")


async def test_the_page_and_its_parts_are_served_with_a_strict_policy(
    server: PageServer, client: aiohttp.ClientSession
) -> None:
    for path, kind in [
        ("", "text/html"),
        ("static/page.js", "text/javascript"),
        ("static/chart.js", "text/javascript"),
        ("static/page.css", "text/css"),
        ("static/icon.svg", "image/svg+xml"),
    ]:
        async with client.get(server.address + path) as response:
            assert response.status == 200
            assert response.content_type == kind
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_no_other_file_can_be_read(server: PageServer, client: aiohttp.ClientSession) -> None:
    for path in ("static/server.py", "static/..%2Fserver.py", "static/index.html", "etc/passwd"):
        async with client.get(server.address + path) as response:
            assert response.status == 404
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_foreign_host_name_is_refused_on_loopback(server: PageServer, client: aiohttp.ClientSession) -> None:
    async with client.get(server.address, headers={"Host": "evil.example:80"}) as response:
        assert response.status == 421
    port = server.address.rsplit(":", 1)[1].rstrip("/")
    for name in (f"localhost:{port}", f"[::1]:{port}", "127.0.0.1", f"LocalHost.:{port}"):
        async with client.get(server.address, headers={"Host": name}) as response:
            assert response.status == 200


async def test_health_says_what_is_wrong(
    server: PageServer, client: aiohttp.ClientSession, health: SettableHealth
) -> None:
    async with client.get(server.address + "readyz") as response:
        assert (response.status, await response.text()) == (200, "ok\n")
    health.waiting = ["the broker does not answer"]
    async with client.get(server.address + "readyz") as response:
        assert (response.status, await response.text()) == (503, "the broker does not answer\n")
    async with client.get(server.address + "healthz") as response:
        assert response.status == 200
    health.fatal = ["no progress for 120 s"]
    async with client.get(server.address + "healthz") as response:
        assert response.status == 503


async def test_metrics_are_in_the_prometheus_format(server: PageServer, client: aiohttp.ClientSession) -> None:
    async with client.get(server.address + "metrics") as response:
        assert response.content_type == "text/plain"
        assert "bearwire_test_total 3.0" in await response.text()


async def read_event(stream: aiohttp.StreamReader) -> tuple[str, object]:
    name = (await stream.readline()).decode().removeprefix("event: ").strip()
    data = orjson.loads((await stream.readline()).removeprefix(b"data: "))
    assert await stream.readline() == b"\n"
    return name, data


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


async def test_a_text_cannot_break_out_of_its_event(server: PageServer, client: aiohttp.ClientSession) -> None:
    hostile = "</script>\n\nevent: overview\ndata: {}\n\n"
    server.take_alert(orjson.dumps({"id": "a", "sequence": 1, "texts": [{"text": hostile}]}))
    async with client.get(server.address + "api/events") as response:
        name, overview = await read_event(response.content)
        assert name == "overview" and isinstance(overview, dict)
        assert overview["alerts"][0]["texts"][0]["text"] == hostile


async def test_a_taken_port_is_named(server: PageServer, health: SettableHealth) -> None:
    port = int(server.address.rsplit(":", 1)[1].rstrip("/"))
    second = PageServer(PageFeed(), health, CollectorRegistry(), host="127.0.0.1", port=port)
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}.*set web\.port"):
        await second.start()
