"""`bearwire alerts`: see alerts as they come."""

from __future__ import annotations

import asyncio
import select
import sys
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import click
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.text import Text

from alerts.reader import AlertReader
from alerts.records import AlertRecord
from streamer.commands.options import MOMENT, config_options
from streamer.commands.terminal import json_for_stdout
from streamer.config.settings import Config
from streamer.escaping import escaped
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error, quiet_clients

_PIPE_SECONDS: Final = 0.5
_COLOURS: Final = {"warning": "yellow", "high": "dark_orange", "critical": "bold red"}


class Wanted(NamedTuple):
    """Which alerts are shown; nothing given means all."""

    series: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    books: tuple[str, ...] = ()

    def takes(self, alert: AlertRecord) -> bool:
        """Whether the record is shown."""
        return (
            (not self.series or any(fnmatchcase(alert.series, pattern) for pattern in self.series))
            and (not self.severities or alert.severity in self.severities)
            and (not self.states or alert.state in self.states)
            and (not self.books or alert.book in self.books)
        )


@click.group("alerts")
def alerts() -> None:
    """See alerts as they come."""


@alerts.command()
@click.option(
    "--since", type=MOMENT, metavar="TIME", help="Begin with what was written since: 2026-11-23T09:00:00Z, or 24h."
)
@click.option("--series", multiple=True, metavar="PATTERN", help="Only series like this (company:*); may be repeated.")
@click.option("--severity", "severities", multiple=True, help="Only this severity; may be repeated.")
@click.option("--state", "states", multiple=True, type=click.Choice(["pending", "firing", "resolved"]),
              help="Only this state; may be repeated.")  # fmt: skip
@click.option("--book", "books", multiple=True, help="Only this book; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, as in a pipe.")
@click.option("--no-follow", "once", is_flag=True, help="End with what is there; needs --since.")
@config_options
def tail(
    since: int | None,
    series: tuple[str, ...],
    severities: tuple[str, ...],
    states: tuple[str, ...],
    books: tuple[str, ...],
    as_json: bool,
    once: bool,
    config: Config,
) -> None:
    """Print every change of an alert as it comes: a line for people on a terminal, JSON Lines in a pipe."""
    if once and since is None:
        raise click.UsageError("--no-follow shows what is there already: say from when with --since")
    wanted = Wanted(series, severities, states, books)
    show = _as_line if as_json or not sys.stdout.isatty() else _on_terminal(Console(highlight=False))
    asyncio.run(_tail(config, wanted, since, follow=not once, show=show))


async def _tail(config: Config, wanted: Wanted, since_ms: int | None, *, follow: bool, show: Any) -> None:
    quiet_clients()
    options = client_arguments(config.kafka, purpose="tail")
    reader = AlertReader(
        options.pop("bootstrap_servers"),
        topic=config.topics.alerts.name,
        since_ms=since_ms,
        follow=follow,
        **options,
    )

    async def read() -> None:
        async with reader:
            async for alert in reader:
                if wanted.takes(alert):
                    show(alert)

    reading = asyncio.ensure_future(read())
    leaving = asyncio.ensure_future(_reader_leaves())
    try:
        await asyncio.wait([reading, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, leaving):
            task.cancel()
        results = await asyncio.gather(reading, leaving, return_exceptions=True)
    for result in results:
        if isinstance(result, LookupError):
            raise KafkaSetupError(f"{result}; `bearwire worker` creates it, `bearwire doctor` lists them") from result
        if isinstance(result, KafkaError):
            raise KafkaSetupError(plain_error(result, config.kafka)) from result
        if isinstance(result, Exception):
            raise result


async def _reader_leaves() -> None:
    """Raise BrokenPipeError once nobody reads our output any more, also while there is nothing to write."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        output = -1
    poll = select.poll()
    if output >= 0:
        poll.register(output, 0)
    closed = select.POLLERR | select.POLLHUP
    while output < 0 or not any(event & closed for _, event in poll.poll(0)):  # noqa: ASYNC110
        await asyncio.sleep(_PIPE_SECONDS)
    raise BrokenPipeError


def _as_line(alert: AlertRecord) -> None:
    sys.stdout.buffer.write(json_for_stdout(alert.encode()) + b"\n")
    sys.stdout.buffer.flush()


def _on_terminal(console: Console) -> Any:
    def show(alert: AlertRecord) -> None:
        at = datetime.fromtimestamp(alert.at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
        colour = "green" if alert.state == "resolved" else _COLOURS.get(alert.severity, "magenta")
        line = Text.assemble(
            (at, "dim"), "  ", (f"{escaped(alert.change, 20):<13}", colour), " ", escaped(alert.line, 400)
        )
        if alert.muted_by:
            line.append(f"  muted by {escaped(', '.join(alert.muted_by), 100)}", "dim")
        console.print(line)
        if alert.change in ("fired", "severity_up") and alert.texts:
            console.print(Text(f"{'':19}{escaped(alert.texts[0].text, 280)}", "dim"))

    return show
