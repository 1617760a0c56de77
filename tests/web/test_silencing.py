"""Silences made and ended on the page: the real server, and the topic on the embedded broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pytest
from prometheus_client import CollectorRegistry

from streamer.config.load import load_config
from streamer.config.settings import Config
from streamer.kafka.client import plain_error
from streamer.kafka.silence_topic import SilenceTopic
from streamer.web.service import PageService
from streamer.worker.broker import connected_admin
from streamer.worker.silence_feed import SilenceFeed
from streamer.worker.status import WorkerStatus
from tests.integration.deployment import until
from tests.shell.commands import bearwire

TOKEN = "correct-horse-battery"
HEADERS = {"X-Bearwire": "test"}
WANTED = {
    "matchers": ["company=NRVL", "severity!=critical", "topic=Energy | Oil"],
    "for": "2h",
    "reason": "<b>known</b>: results at  noon\n",
    "author": "ana",
}
Change = Callable[..., Any]


def settings(servers: str, **more: str) -> dict[str, str]:
    name = uuid4().hex[:8]
    topics = (
        "documents",
        "scores",
        "digests",
        "windows",
        "alerts",
        "notifications",
        "silences",
        "late",
        "dead_letters",
    )
    return {
        "kafka.bootstrap_servers": servers,
        "kafka.group_prefix": name,
        "web.port": "0",
        **{f"topics.{topic}.name": f"{name}.{topic}" for topic in topics},
        **more,
    }


def configured(chosen: dict[str, str]) -> Config:
    return load_config(None, {}, [f"{key}={value}" for key, value in chosen.items()])


@contextlib.asynccontextmanager
async def page(config: Config) -> AsyncIterator[str]:
    """The page of one worker, with what it knows of the silences topic; gives its address on loopback."""
    feed = SilenceFeed(config)
    service = PageService(config, WorkerStatus("watch"), CollectorRegistry(), silences=feed.shown)
    await service.start()
    following = asyncio.create_task(feed.follow())
    try:
        yield service.address.replace("0.0.0.0", "127.0.0.1")
    finally:
        following.cancel()
        await service.stop()


@pytest.fixture
def nowhere() -> dict[str, str]:
    """Settings of a Kafka that nobody answers for."""
    return settings("127.0.0.1:1")


async def post(address: str, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    sent = HEADERS | {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with aiohttp.ClientSession() as client, client.post(address + path, data=data, headers=sent) as response:
        assert response.content_type == "application/json"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        return response.status, await response.json()


async def shown(address: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as client, client.get(address + "api/silences") as response:
        silences: list[dict[str, Any]] = await response.json()
        return silences


async def access(address: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(address + "api/silences/access") as response:
        return str((await response.json())["access"])


@pytest.mark.embedded
async def test_a_silence_made_on_one_worker_is_ended_on_another(embedded_broker: str) -> None:
    chosen = settings(embedded_broker)
    config = configured(chosen)
    admin = await connected_admin(config, WorkerStatus("watch"))
    await admin.close()
    async with page(config) as one, page(config) as other:
        assert await access(one) == "open"
        status, made = await post(one, "api/silences", WANTED)
        assert status == 201
        assert made["reason"] == "<b>known</b>: results at noon"
        assert made["ends_ms"] - made["created_ms"] == 7_200_000
        patterns = {"company": ["NRVL"], "severity": ["!critical"], "topic": ["Energy | Oil"]}
        assert made["matchers"] == patterns

        async def both_show_it() -> bool:
            return [one["id"] for address in (one, other) for one in await shown(address)] == [made["id"]] * 2

        async def none_shows_it() -> bool:
            return not await shown(one) and not await shown(other)

        await until(both_show_it, "both workers show the silence")
        arguments = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
        listed = await asyncio.to_thread(bearwire, "silences", "list", "--json", *arguments)
        assert orjson.loads(listed.stdout) == made, listed.output

        status, ended = await post(other, f"api/silences/{made['id']}/expire", {})
        assert (status, ended["revision"], ended["ends_ms"]) == (200, 2, ended["starts_ms"])
        await until(none_shows_it, "no worker shows the silence")
        again = await post(one, f"api/silences/{made['id']}/expire", {})
        assert again == (200, ended), "ending it once more changes nothing"
        status, told = await post(one, "api/silences/nosuch%3Cb%3E/expire", {})
        assert (status, told["error"]) == (404, 'no silence is called "nosuch<b>"')

        added = await asyncio.to_thread(
            bearwire, "silences", "add", "series=all", "--for", "1h", "--reason", "cli", *arguments
        )
        status, ended = await post(one, f"api/silences/{added.stdout.strip()}/expire", {})
        assert (status, ended["reason"]) == (200, "cli")
    assert len(await SilenceTopic(config, print).asked()) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"matchers": ["company"]}, "LABEL=PATTERN"),
        ({"matchers": ["=NRVL"]}, "LABEL=PATTERN"),
        ({"matchers": ["a=!b"]}, "LABEL=PATTERN"),
        ({"matchers": []}, "$.matchers"),
        ({"matchers": ["a=b"] * 21}, "$.matchers"),
        ({"matchers": ["a=" + "b" * 300]}, "$.matchers"),
        ({"matchers": "a=b"}, "$.matchers"),
        ({"for": "soon"}, "for: not a duration"),
        ({"for": "0s"}, "end before it begins"),
        ({"for": "367d"}, "366 days"),
        ({"for": "9" * 20}, "366 days"),
        ({"for": "9" * 21}, "$.for"),
        ({"reason": " \n"}, "reason: is empty"),
        ({"reason": "r" * 501}, "$.reason"),
        ({"author": ""}, "author: is empty"),
        ({"author": "a" * 101}, "$.author"),
        ({"author": None}, "$.author"),
        ({"book": "main"}, "book"),
        ({"id": "x"}, "id"),
    ],
)
async def test_a_bad_silence_is_refused_by_the_name_of_what_is_wrong(
    nowhere: dict[str, str], changes: dict[str, Any], named: str
) -> None:
    async with page(configured(nowhere)) as address:
        status, told = await post(address, "api/silences", WANTED | changes)
    assert status == 400
    assert named in told["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"reason":"\xff"}', b"\xff", b"[" * 5000])
async def test_a_body_that_is_no_object_is_refused(nowhere: dict[str, str], body: bytes) -> None:
    async with page(configured(nowhere)) as address:
        for path in ("api/silences", "api/silences/x/expire"):
            status, told = await post(address, path, body)
            assert status == 400, told


async def test_a_body_beyond_the_limit_is_refused(nowhere: dict[str, str]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    async with page(configured(nowhere)) as address:
        assert (await post(address, "api/silences", b" " * 20_000))[0] == 413
        headers = HEADERS | {"Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as client,
            client.post(address + "api/silences", data=pieces(), headers=headers) as response,
        ):
            assert response.status == 413


async def test_cross_site_requests_are_refused(nowhere: dict[str, str]) -> None:
    async with page(configured(nowhere)) as address:
        for status, headers in (
            (403, {"Origin": "https://evil.example"}),
            (403, {"Origin": "null"}),
            (403, {"Sec_Fetch_Site": "cross-site"}),
            (415, {"Content_Type": "text/plain"}),
            (421, {"Host": "evil.example"}),
        ):
            for path in ("api/silences", "api/silences/x/expire"):
                answered, told = await post(address, path, WANTED, **headers)
                assert (answered, list(told)) == (status, ["error"]), headers
        async with (
            aiohttp.ClientSession() as client,
            client.post(address + "api/silences", json=WANTED) as response,
        ):
            assert response.status == 403
            assert (await response.json())["error"].startswith("X-Bearwire: ")
        async with (
            aiohttp.ClientSession() as client,
            client.options(address + "api/silences", headers={"Origin": "https://evil.example"}) as response,
        ):
            assert response.status == 405
            assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_beyond_loopback_the_token_decides(nowhere: dict[str, str]) -> None:
    everywhere = nowhere | {"web.host": "0.0.0.0"}
    async with page(configured(everywhere)) as address:
        assert await access(address) == "off"
        status, told = await post(address, "api/silences", WANTED)
        assert status == 403 and "web.token" in told["error"]
    async with page(configured(everywhere | {"web.token": TOKEN})) as address:
        assert await access(address) == "token"
        for headers in ({}, {"X_Bearwire_Token": TOKEN[:-1] + "z"}):
            status, told = await post(address, "api/silences", WANTED, **headers)
            assert status == 403 and told["error"].startswith("X-Bearwire-Token: ")
        for name, refused in (("evil.example", 403), ("worker:8080", 421)):
            status, told = await post(address, "api/silences", WANTED, X_Bearwire_Token=TOKEN, Host=name)
            assert status == refused and "web.names" in told["error"]
        status, _ = await post(address, "api/silences", WANTED | {"matchers": ["x"]}, X_Bearwire_Token=TOKEN)
        assert status == 400, "the token lets it in as far as its body"


async def test_a_token_file_is_read_anew_and_must_be_usable(nowhere: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    bad = WANTED | {"matchers": ["x"]}
    async with page(configured(nowhere | {"web.token_file": str(file)})) as address:
        assert (await post(address, "api/silences", bad, X_Bearwire_Token=TOKEN))[0] == 503
        file.write_text("")
        assert (await post(address, "api/silences", bad, X_Bearwire_Token=""))[0] == 503
        file.write_text(TOKEN + "\n")
        assert (await post(address, "api/silences", bad, X_Bearwire_Token=TOKEN))[0] == 400
        file.write_text("another-token-by-now\n")
        assert (await post(address, "api/silences", bad, X_Bearwire_Token=TOKEN))[0] == 403


async def test_it_can_be_switched_off(nowhere: dict[str, str]) -> None:
    async with page(configured(nowhere | {"web.silences": "false"})) as address:
        assert await access(address) == "off"
        status, told = await post(address, "api/silences", WANTED)
        assert status == 403 and "web.silences" in told["error"]


async def test_a_kafka_that_is_away_is_said_and_no_secret_reaches_answer_or_log(
    nowhere: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(nowhere | {"web.token": TOKEN})
    with caplog.at_level(logging.DEBUG):
        async with page(config) as address:
            status, told = await post(address, "api/silences", WANTED, X_Bearwire_Token=TOKEN)
            await post(address, "api/silences", WANTED, X_Bearwire_Token=TOKEN + "x")
    assert status == 503 and "Kafka" in told["error"]
    assert config.kafka.bootstrap_servers not in told["error"], "where the brokers are is for the log"
    assert plain_error(ConnectionError(), config.kafka)[:40] in caplog.text
    assert TOKEN not in caplog.text + repr(told)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, True),
        ({"web.token": TOKEN}, False),
        ({"web.silences": "false"}, False),
        ({"web.host": "0.0.0.0"}, False),
    ],
)
async def test_a_page_that_everyone_on_the_machine_can_change_says_so_at_its_start(
    nowhere: dict[str, str], caplog: pytest.LogCaptureFixture, more: dict[str, str], said: bool
) -> None:
    with caplog.at_level(logging.INFO):
        async with page(configured(nowhere | more)):
            pass
    told = [record for record in caplog.records if "everyone on this machine" in record.getMessage()]
    assert [(record.levelname, "docs/deploy.md" in record.getMessage()) for record in told] == [("INFO", True)] * said
