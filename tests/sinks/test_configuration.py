"""Sinks as they are configured: mistakes named, secrets hidden, and a test message on request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
import yaml

from alerts.sinks.delivery import TryLater
from alerts.sinks.sample import sample_notification
from alerts.sinks.signature import is_signed
from streamer.config.load import ConfigError, load_config
from streamer.config.secret import Secret
from streamer.sinks import make_sink, routed_sinks, secret_source
from tests.shell.commands import bearwire
from tests.sinks.http_server import serving, status
from tests.sinks.notifications import now_ms


def problem(text: str, tmp_path: Path) -> str:
    file = tmp_path / "bearwire.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        ("webhooks: [{name: a}]", "sinks.webhooks.0.url: or url_file is required"),
        ("webhooks: [{name: a, url: 'ftp://x'}]", "sinks.webhooks.0.url: is no address that begins with https://"),
        ("webhooks: [{name: a, url: 'https://x', urll: 1}]", "did you mean sinks.webhooks.0.url?"),
        ("slack: [{name: a, url: 'https://x', template: '{titel}'}]", "{titel} is no field of a template"),
        ("webhooks: [{name: a, url: 'https://x', secret: s, secret_file: f}]", "keep one of them"),
        ("webhooks: [{name: a, url: 'https://x', password: s}]", "username: is required by the password"),
        ("webhooks: [{url: 'https://x'}]", "sinks.webhooks.0.name: is required"),
        (
            "files: [{name: a, path: x}]\n  slack: [{name: a, url: 'https://x'}]",
            "'a' is also the name of sinks.slack.0",
        ),
        ("email: [{name: a, host: h, sender: me, to: [x@y.z]}]", "'me' is no address"),
        (
            "email: [{name: a, host: h, sender: a@b.c, to: [x@y.z], encryption: none, username: u, password: p}]",
            "would send the password in the clear",
        ),
        ("slack: [{name: a, url: 'http://hooks.example/T'}]", "sinks.slack.0.url: http:// would send the address"),
        ("feishu: [{name: a, url: 'HTTP://open.example/T'}]", "sinks.feishu.0.url: http:// would send the address"),
        (
            "webhooks: [{name: a, url: 'http://x', bearer_token_file: f}]",
            "sinks.webhooks.0.url: http:// would send the bearer token in the clear; use https://",
        ),
        ("webhooks: [{name: a, url: 'http://u:p@10.0.0.1'}]", "sinks.webhooks.0.url: http:// would send the password"),
        (
            "alertmanager: [{name: a, url: 'http://localhost.example', username: u, password: p}]",
            "sinks.alertmanager.0.url: http:// would send the password in the clear",
        ),
        (
            "slack: [{name: a, url: 'http://localhost', proxy: 'http://proxy.example:3128'}]",
            "sinks.slack.0.url: http:// would send the address",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key(sinks: str, said: str, tmp_path: Path) -> None:
    assert said in problem(f"sinks:\n  {sinks}\n", tmp_path)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:80"])
def test_within_this_machine_credentials_may_go_over_http(host: str) -> None:
    sinks = f"[{{name: a, url: 'http://{host}/x', bearer_token: t}}]"
    assert len(load_config(None, {"BEARWIRE_SINKS__WEBHOOKS": sinks}).sinks.all()) == 1


def test_without_credentials_http_may_go_anywhere() -> None:
    sinks = "[{name: a, url: 'http://alertmanager-1:9093'}]"
    assert len(load_config(None, {"BEARWIRE_SINKS__ALERTMANAGER": sinks}).sinks.all()) == 1


async def test_an_address_in_a_file_is_not_sent_in_the_clear_either(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("http://hooks.invalid/T0K3N\n")
    sinks = f"[{{name: a, url_file: {file}}}]"
    (settings,) = load_config(None, {"BEARWIRE_SINKS__SLACK": sinks}).sinks.all()
    sink = make_sink(settings)
    with pytest.raises(TryLater, match="would send the address, which is a secret, in the clear"):
        await sink.deliver(sample_notification("a", now_ms()))
    await sink.close()


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "bearwire.yaml"
    hidden = "https://hooks.example/T0K3N"
    file.write_text(yaml.safe_dump({"sinks": {"slack": [{"name": "a", "url": hidden}]}}))
    assert "T0K3N" not in repr(load_config(file, {}))
    for arguments in (["show"], ["show", "--changed"], ["check"]):
        result = bearwire("config", *arguments, "-c", str(file))
        assert result.exit_code == 0
        assert "T0K3N" not in result.output
    assert "T0K3N" not in problem(file.read_text().replace("https:", "gopher:"), tmp_path)


def test_a_worker_of_the_role_sinks_needs_a_sink() -> None:
    result = bearwire("config", "check", "--set", "worker.role=sinks")
    assert result.exit_code == 2
    assert "has nothing to do" in result.stderr


def test_the_environment_carries_secrets(tmp_path: Path) -> None:
    file = tmp_path / "bearwire.yaml"
    file.write_text("sinks: {webhooks: [{name: a, url: 'https://x'}]}")
    config = load_config(file, {"BEARWIRE_SINKS__WEBHOOKS__0__SECRET": "s3cret"})
    assert config.sinks.webhooks[0].secret == Secret("s3cret")


def test_a_secret_file_is_read_at_every_use(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    source = secret_source(None, str(file))
    assert source is not None
    with pytest.raises(TryLater, match="cannot be read"):
        source()
    for text in ("one", "two"):
        file.write_text(text + "\n")
        assert source() == text


async def test_a_sink_serves_its_own_name_the_receivers_that_it_names_and_everybody() -> None:
    config = load_config(
        None,
        {"BEARWIRE_SINKS__FILES": "[{name: a, path: x}, {name: b, path: y, receivers: [desk, risk]}]"},
    )

    async def settled(*_: object) -> None:
        """Nobody asks."""

    one, two = routed_sinks(config.sinks, settled)
    assert [one.wants(("a",)), one.wants(("desk",)), one.wants(("*",)), one.wants(())] == [True, False, True, False]
    assert [two.wants(("b",)), two.wants(("risk", "x")), two.wants(("*",))] == [False, True, True]


async def test_a_test_message_says_of_itself_that_it_is_one(tmp_path: Path) -> None:
    async with serving() as server:
        file = tmp_path / "bearwire.yaml"
        webhook = {"name": "desk", "url": server.url, "secret": "s3cret"}
        file.write_text(yaml.safe_dump({"sinks": {"webhooks": [webhook]}}))
        result = await asyncio.to_thread(bearwire, "sinks", "test", "desk", "-c", str(file))
        assert result.exit_code == 0, result.output
        (request,) = server.requests
        sent = orjson.loads(request.body)
        assert sent["title"].startswith("[TEST]")
        assert sent["labels"] == {"test": "true"}
        names = {name.title(): value for name, value in request.headers.items()}
        assert is_signed("s3cret", names, request.body, now_s=now_ms() / 1000)
        server.then(status(403, b"who are you"))
        result = await asyncio.to_thread(bearwire, "sinks", "test", "desk", "-c", str(file))
        assert result.exit_code == 1
        assert "HTTP 403: who are you" in result.stderr
        result = await asyncio.to_thread(bearwire, "sinks", "test", "desc", "-c", str(file))
        assert result.exit_code == 2
        assert "did you mean 'desk'?" in result.stderr
        result = await asyncio.to_thread(bearwire, "sinks", "list", "-c", str(file))
        assert result.stdout == "desk\twebhook\tdesk\n"
