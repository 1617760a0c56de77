"""The server on a real socket: what it serves, to whom, and what its readers may cost."""

import asyncio
import contextlib
import socket
import time
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client import CollectorRegistry

from alerts.silences import Silence
from alerts.sinks.queue import SinkStatus
from streamer.config.settings import Config
from streamer.web import server as module
from streamer.web.feed import PageFeed
from streamer.web.server import PageServer
from streamer.worker.silence_feed import SilenceFeed
from streamer.worker.status import WorkerStatus
from tests.web.serving import (
    SettableHealth,
    connections,
    large_feed,
    port_of,
    read_event,
    serving,
    stalled,
    until_dropped,
)


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


@pytest.mark.parametrize("path", ["/api/events", "/api/overview"])
async def test_a_reader_that_stalls_is_dropped(
    monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession, path: str
) -> None:
    async with serving(monkeypatch, large_feed(), SEND_SECONDS=0.5, MAX_WATCHERS=1) as server:
        async with stalled(server, path):
            await asyncio.sleep(0.2)
            await until_dropped(server)
        async with client.get(server.address + "api/events") as response:
            assert response.status == 200, "its place is free"


async def test_little_of_a_long_answer_waits_for_a_stalled_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch, large_feed()) as server, stalled(server, "/api/overview"):
        await asyncio.sleep(1.0)
        (connection,) = connections(server)
        assert connection.transport is not None
        assert 0 < connection.transport.get_write_buffer_size() < 500_000


async def test_other_answers_have_a_time_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    big = [{"name": "x" * 20_000_000}]
    monkeypatch.setattr(module, "SEND_SECONDS", 0.5)
    server = PageServer(PageFeed(), SettableHealth(), CollectorRegistry(), host="127.0.0.1", port=0, sinks=lambda: big)
    await server.start()
    try:
        async with stalled(server, "/api/sinks"):
            await asyncio.sleep(0.2)
            await until_dropped(server)
    finally:
        await server.stop()


async def test_a_head_request_has_no_body(server: PageServer, client: aiohttp.ClientSession) -> None:
    async with client.head(server.address + "api/overview") as response:
        assert response.status == 200 and int(response.headers["Content-Length"]) > 0
    async with client.head(server.address + "api/events") as response:
        assert response.status == 405
    async with client.get(server.address + "api/overview") as response:
        assert isinstance(await response.json(), dict)


async def test_a_page_of_another_site_reads_no_data(server: PageServer, client: aiohttp.ClientSession) -> None:
    for path in ("api/overview", "api/events", "api/sinks", "api/silences", "%61pi/events", "api/nothing"):
        async with client.get(server.address + path, headers={"Sec-Fetch-Site": "cross-site"}) as response:
            assert (response.status, list(await response.json())) == (403, ["error"]), path
    async with client.get(server.address, headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 200, "a link to the page works"
    async with client.get(server.address + "api/overview", headers={"Sec-Fetch-Site": "same-origin"}) as response:
        assert response.status == 200


async def test_beyond_loopback_a_foreign_name_reads_health_and_metrics_alone(
    monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession
) -> None:
    async with serving(monkeypatch, host="0.0.0.0") as server:
        foreign = {"Host": "bearwire.team.svc.cluster.local:8080"}
        for path in ("healthz", "readyz", "metrics"):
            async with client.get(server.address + path, headers=foreign) as response:
                assert response.status == 200
        for path in ("", "static/page.js", "api/overview", "api/events", "api/sinks", "api/silences", "metrics/x"):
            async with client.get(server.address + path, headers=foreign) as response:
                assert response.status == 403
                assert "web.names" in (await response.json())["error"]
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        for name in ("worker:8080", "localhost", "10.1.2.3:8080", socket.gethostname()):
            async with client.get(server.address + "api/overview", headers={"Host": name}) as response:
                assert response.status == 200


def test_the_machine_may_call_itself_by_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(*_: object, **__: object) -> list[Any]:
        return [(0, 0, 0, "Box.corp.example", ("", 0)), (0, 0, 0, "", ("", 0))]

    names = {"box"}
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    module._add_full_name(names)
    assert names == {"box", "box.corp.example"}


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch, IDLE_SECONDS=0.2) as server:
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: local"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


async def test_connections_beyond_the_limit_are_closed_at_once(
    monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession
) -> None:
    async with serving(monkeypatch, MAX_CONNECTIONS=3) as server:
        writers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writers.append(writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.2)
        async with client.get(server.address + "healthz") as response:
            assert response.status == 200, "there is room again"
