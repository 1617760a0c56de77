"""Posting to servers that fail in all the usual ways."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from alerts.sinks.delivery import Refused, TryLater
from alerts.sinks.http import Endpoint, Poster
from tests.brokers.certificates import make_certificates
from tests.sinks.http_server import Behaviour, Server, hang, huge_body, nonsense, reset, serving, slow_body, status


async def post(server: Server, *, whole: bool = False, **endpoint: object) -> int:
    options = {"timeout_seconds": 1.0, **endpoint}
    poster = Poster(Endpoint(url=lambda: server.url, **options))  # type: ignore[arg-type]
    try:
        return (await poster.post(b"{}", {}, whole=whole)).status
    finally:
        await poster.close()


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_every_2xx_is_delivered(code: int) -> None:
    async with serving() as server:
        server.then(status(code, b""))
        assert await post(server) == code


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_later(code: int) -> None:
    async with serving() as server:
        server.then(status(code, b"come\r\nback \x1b[31mlater"))
        with pytest.raises(TryLater, match=rf"HTTP {code}: come back \[31mlater") as caught:
            await post(server)
        assert caught.value.after_seconds is None


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 413, 422])
async def test_every_other_4xx_is_final(code: int) -> None:
    async with serving() as server:
        server.then(status(code))
        with pytest.raises(Refused, match=f"HTTP {code}"):
            await post(server)


async def test_retry_after_is_understood_as_seconds_and_as_a_date() -> None:
    async with serving() as server:
        server.then(status(429, Retry_After="17"), status(503, Retry_After=formatdate(time.time() + 60, usegmt=True)))
        with pytest.raises(TryLater) as caught:
            await post(server)
        assert caught.value.after_seconds == 17
        with pytest.raises(TryLater) as caught:
            await post(server)
        assert caught.value.after_seconds == pytest.approx(60, abs=2)


async def test_a_redirect_is_not_followed() -> None:
    async with serving() as other, serving() as server:
        server.then(status(307, Location=other.url))
        with pytest.raises(Refused, match="redirect"):
            await post(server)
        assert other.requests == []


@pytest.mark.parametrize("behaviour", [hang, slow_body])
async def test_a_server_that_takes_its_time_gets_only_so_much(behaviour: Behaviour) -> None:
    async with serving() as server:
        server.then(behaviour)
        started = time.monotonic()
        with pytest.raises(TryLater, match="within 1 s"):
            await post(server)
        assert time.monotonic() - started < 5


async def test_an_answer_that_is_no_http_is_tried_later() -> None:
    async with serving() as server:
        server.then(nonsense)
        with pytest.raises(TryLater, match="no HTTP"):
            await post(server)


async def test_a_reset_connection_is_tried_later() -> None:
    async with serving() as server:
        server.then(reset)
        with pytest.raises(TryLater):
            await post(server)


async def test_nobody_listening_is_tried_later() -> None:
    async with serving() as server:
        pass
    with pytest.raises(TryLater, match=r"^cannot connect to 127\.0\.0\.1:\d+: connection refused$"):
        await post(server)


async def test_a_body_without_end_is_read_only_at_its_beginning() -> None:
    async with serving() as server:
        server.then(huge_body)
        with pytest.raises(Refused) as caught:
            await post(server, timeout_seconds=20.0)
        assert len(str(caught.value)) < 300


async def test_a_certificate_that_nobody_signed_is_not_trusted(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.broker)
    async with serving(context) as server:
        with pytest.raises(TryLater, match="certificate"):
            await post(server)
        assert server.requests == []
        assert await post(server, ca_file=str(certificates.authority)) == 200


async def test_credentials_are_sent_and_read_anew_every_time() -> None:
    tokens = iter(["one", "two"])
    async with serving() as server:
        await post(server, bearer=lambda: next(tokens))
        await post(server, bearer=lambda: next(tokens))
        await post(server, username="desk", password=lambda: "pw")
        sent = [request.headers["authorization"] for request in server.requests]
        assert sent == ["Bearer one", "Bearer two", "Basic " + base64.b64encode(b"desk:pw").decode()]


async def test_a_proxy_is_asked_for_the_receiver() -> None:
    async with serving() as proxy:
        poster = Poster(
            Endpoint(url=lambda: "http://receiver.example/hook", proxy=lambda: f"http://127.0.0.1:{proxy.port}")
        )
        await poster.post(b"{}", {})
        await poster.close()
        assert proxy.requests[0].path == "http://receiver.example/hook"


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/x", "http://", "not a url", "http://[::1"])
async def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    poster = Poster(Endpoint(url=lambda: url + "?token=hush"))
    with pytest.raises((Refused, TryLater)) as caught:
        await poster.post(b"", {})
    await poster.close()
    assert "hush" not in str(caught.value)


async def test_a_secret_in_the_address_never_shows_in_an_error() -> None:
    async with serving() as server:
        for behaviour in (status(404), status(500), reset, hang, nonsense, status(302, Location="/elsewhere")):
            server.then(behaviour)
            poster = Poster(Endpoint(url=lambda: server.url + "/T0K3N", timeout_seconds=0.5))
            with pytest.raises((Refused, TryLater)) as caught:
                await asyncio.wait_for(poster.post(b"{}", {}), 10)
            await poster.close()
            assert "T0K3N" not in str(caught.value)
