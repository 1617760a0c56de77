"""`bearwire sinks`: who is told of alerts, and whether that works."""

from __future__ import annotations

import asyncio
import difflib
import time

import click

from alerts.sinks.delivery import Undelivered
from alerts.sinks.sample import sample_notification
from streamer.commands.options import config_options
from streamer.config.settings import Config
from streamer.config.sink_settings import AnySink
from streamer.escaping import escaped
from streamer.sinks import make_sink

_GRACE_SECONDS = 5.0


@click.group("sinks")
def sinks() -> None:
    """Sinks, which deliver notifications: list them, send a test."""


@sinks.command("list")
@config_options
def list_sinks(config: Config) -> None:
    """Print each sink with its kind and the receivers that it serves."""
    for sink in config.sinks.all():
        click.echo(f"{sink.name}\t{make_sink(sink).kind}\t{', '.join(sink.receivers or (sink.name,))}")
    if not config.sinks.all():
        click.echo("no sinks are configured; alerts are on the Kafka topics alone", err=True)


@sinks.command("test")
@click.argument("name")
@config_options
def test_sink(name: str, config: Config) -> None:
    """Send one message that says of itself that it is a test to the sink NAME, once and without Kafka.

    Exit status 1: it was not delivered, with the reason.
    """
    found = {sink.name: sink for sink in config.sinks.all()}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(found) or 'none'}"
        raise click.UsageError(f"no sink is called {escaped(name, 60)!r}; {hint}")
    try:
        asyncio.run(_deliver(found[name]))
    except (Undelivered, TimeoutError) as error:
        raise click.ClickException(f"sink {name}: {error or 'no answer in time'}") from None
    click.echo(f"sink {name}: delivered")


async def _deliver(settings: AnySink) -> None:
    sink = make_sink(settings)
    try:
        async with asyncio.timeout(settings.timeout_seconds + _GRACE_SECONDS):
            await sink.deliver(sample_notification(settings.name, int(time.time() * 1000)))
    finally:
        await sink.close()
