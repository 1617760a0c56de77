"""`bearwire silences`: say that nobody is to be told of certain alerts for a while."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Iterable

import click
import msgspec

from alerts.silences import Silence, decode_silence
from streamer.commands.options import config_options
from streamer.commands.terminal import json_for_stdout
from streamer.config.settings import Config
from streamer.escaping import escaped, quoted
from streamer.kafka.silence_topic import SilenceError, SilenceTopic, expired, new_silence, parse_length_ms
from streamer.timestamps import TimestampError, format_rfc3339, parse_rfc3339


@click.group("silences")
def silences() -> None:
    """Keep alerts from being told about, for a while. They are raised and recorded all the same."""


@silences.command()
@click.argument("matchers", nargs=-1, required=True, metavar="LABEL=PATTERN...")
@click.option("--for", "length", metavar="DURATION", help="How long: 2h, 7d.")
@click.option("--until", metavar="TIME", help="Until when, instead of --for: 2026-11-24T18:00:00Z.")
@click.option("--from", "since", metavar="TIME", help="From when; at once by default.")
@click.option("--reason", required=True, help="Why, for those who wonder.")
@click.option("--author", help="Who asks for it; the user's name by default.")
@config_options
def add(
    matchers: tuple[str, ...],
    length: str | None,
    until: str | None,
    since: str | None,
    reason: str,
    author: str | None,
    config: Config,
) -> None:
    """Silence the alerts whose labels fit every LABEL=PATTERN, and print the silence's id.

    Labels are book, rule, series, severity, kind, company, topic, sector, group and those of the rules. Patterns are
    shell patterns; a label that is named twice must fit one of its patterns; LABEL!=PATTERN must not fit. Times are
    event times of the texts. A book takes the silence in at the next place of its log and never undoes what it has
    told.
    """
    now_ms = int(time.time() * 1000)
    starts_ms = 0 if since is None else _time(since, "--from")
    if (length is None) == (until is None):
        raise click.UsageError("give either --for or --until")
    ends_ms = max(starts_ms, now_ms) + _length_ms(length) if length is not None else _time(until or "", "--until")
    try:
        silence = new_silence(
            matchers,
            author=author or getpass.getuser(),
            reason=reason,
            now_ms=now_ms,
            ends_ms=ends_ms,
            starts_ms=starts_ms,
        )
    except SilenceError as error:
        raise click.UsageError(str(error)) from error
    asyncio.run(_topic(config).write([silence]))
    click.echo(silence.id)


@silences.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option("--json", "as_json", is_flag=True, help="The records, one per line, as `bearwire backtest` takes them.")
@config_options
def list_silences(everything: bool, as_json: bool, config: Config) -> None:
    """Show the silences, and since when they take effect in each book."""
    known = asyncio.run(_topic(config).read())
    now_ms = int(time.time() * 1000)
    ended = {
        silence.id for silence in known if silence.book is None and (silence.is_expired or silence.ends_ms <= now_ms)
    }
    for silence in known:
        if everything or silence.id not in ended:
            click.echo(json_for_stdout(silence.encode()) if as_json else _line(silence, now_ms))


@silences.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@config_options
def expire(ids: tuple[str, ...], config: Config) -> None:
    """End silences now."""
    now_ms = int(time.time() * 1000)
    known = asyncio.run(_topic(config).asked())
    missing = [name for name in ids if name not in known]
    if missing:
        raise click.ClickException(
            f"no silence is called {escaped(missing[0])}; `bearwire silences list --all` has all"
        )
    ended = [expired(known[name], now_ms) for name in ids if not known[name].is_expired]
    asyncio.run(_topic(config).write(ended))


def read_silences(lines: Iterable[bytes]) -> list[Silence]:
    """The silences of JSON Lines, as `list --json` prints them. Raises `click.ClickException` naming the line."""
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(decode_silence(line))
            except msgspec.DecodeError as error:
                raise click.ClickException(f"silences, line {number}: {error}") from error
    return found


def _time(text: str, option: str) -> int:
    try:
        return parse_rfc3339(text)
    except TimestampError as error:
        raise click.UsageError(f"{option} {quoted(text)}: {error}") from error


def _length_ms(text: str) -> int:
    try:
        return parse_length_ms(text)
    except SilenceError as error:
        raise click.UsageError(f"--for {quoted(text)}: {error}") from error


def _line(silence: Silence, now_ms: int) -> str:
    if silence.book is not None:
        times = f"from {format_rfc3339(silence.starts_ms)} to {format_rfc3339(silence.ends_ms)}"
        return f"  in book {escaped(silence.book)} {times}"
    state = (
        "ended" if silence.is_expired or silence.ends_ms <= now_ms else "waits" if silence.starts_ms > now_ms else "on"
    )
    parts = [
        f"{name}{'!' if pattern.startswith('!') else ''}={pattern.removeprefix('!')}"
        for name, patterns in silence.matchers.items()
        for pattern in patterns
    ]
    until = "expired" if silence.is_expired else f"until {format_rfc3339(silence.ends_ms)}"
    return escaped(f"{silence.id}  {state:5}  {until}  {' '.join(parts)}  {silence.author}: {silence.reason}")


def _topic(config: Config) -> SilenceTopic:
    return SilenceTopic(config, lambda what: click.echo(f"bearwire: {escaped(what)}", err=True))
