"""`bearwire replay`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import click
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import MessageSizeTooLargeError

from streamer.commands.options import column_option, config_options
from streamer.commands.progress import progress_line
from streamer.config.settings import Config
from streamer.escaping import escaped
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error, quiet_clients
from streamer.offline.replay import Outgoing, Pace, Span, SpeedError, outgoing, parse_speed, shift_ms, shifted
from streamer.offline.sources import Source, open_source

CHUNK_LINES: Final = 500
CHUNK_BYTES: Final = 4 << 20
MAX_UNACKNOWLEDGED: Final = 5000


@dataclass(slots=True)
class Summary:
    """What was published so far."""

    published: int = 0
    bad: int = 0
    too_large: int = 0
    interrupted: bool = False


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--to", "target", type=click.Choice(["kafka"]), default="kafka", show_default=True, help="Where to.")
@click.option("--speed", default="1x", show_default=True, metavar="1x|60x|max", help="How fast, against event time.")
@click.option("--shift-to-now", is_flag=True, help="Move event times so that they end when the replay does.")
@click.option("--topic", metavar="NAME", help="The topic; topics.documents of the configuration by default.")
@click.option("--key", default="id", show_default=True, metavar="FIELD", help="Field to key by; `none` for no key.")
@column_option
@config_options
def replay(
    source: str,
    target: str,
    speed: str,
    shift_to_now: bool,
    topic: str | None,
    key: str,
    columns: tuple[tuple[str, str], ...],
    config: Config,
) -> None:
    """Publish the documents of a file to Kafka.

    INPUT is JSON Lines (`-` is standard input), CSV or Parquet, told by the name; a name ending in .gz is
    decompressed. Lines of JSON are published byte for byte, bad ones too: they become dead letters. Every
    message is acknowledged by all replicas before the command ends. Ctrl-C ends it after what is on its way.
    """
    try:
        factor = parse_speed(speed)
    except SpeedError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from None
    key_field = None if key == "none" else key
    by_ms = _shift(source, dict(columns), factor, key_field) if shift_to_now else 0
    quiet_clients()
    started = time.perf_counter()
    with open_source(source, dict(columns)) as opened, progress_line(opened.size) as show:
        summary = Summary()

        def progress() -> None:
            rate = summary.published / max(time.perf_counter() - started, 1e-9)
            show(opened.position, f"{summary.published:,} published, {rate:,.0f}/s")

        name = topic or config.topics.documents.name
        asyncio.run(_publish(opened, config, name, factor, key_field, by_ms, summary, progress))
    seconds = time.perf_counter() - started
    click.echo(
        f"{summary.published:,} messages published to {name} in {seconds:.1f} s "
        f"({summary.published / max(seconds, 1e-9):,.0f}/s), {summary.bad:,} of them not readable as documents"
        + (f"; {summary.too_large:,} left out, larger than Kafka takes" if summary.too_large else "")
        + ("; interrupted" if summary.interrupted else ""),
        err=True,
    )
    if summary.interrupted:
        sys.exit(128 + signal.SIGINT)


def _shift(source: str, columns: dict[str, str], factor: float | None, key_field: str | None) -> int:
    if source == "-":
        raise click.UsageError("--shift-to-now needs to read the input twice; name a file")
    first: int | None = None
    newest = 0
    with open_source(source, columns) as opened:
        for message in _messages(opened, key_field):
            at = message.published_at_ms
            if at is not None:
                newest = at if first is None else max(newest, at)
                first = at if first is None else min(first, at)
    if first is None:
        raise click.ClickException(f"{escaped(source)} has no line with a published_at, nothing to shift")
    return shift_ms(Span(first, newest), round(time.time() * 1000), factor)


def _messages(opened: Source, key_field: str | None) -> Iterator[Outgoing]:
    for chunk in opened.chunks(CHUNK_LINES, CHUNK_BYTES):
        for line in chunk.lines:
            yield outgoing(line.value, key_field)


async def _publish(
    opened: Source,
    config: Config,
    topic: str,
    factor: float | None,
    key_field: str | None,
    by_ms: int,
    summary: Summary,
    progress: Callable[[], None],
) -> None:
    from streamer.worker.publishing import Publisher

    await _prepare_topic(config, topic)
    publisher = Publisher(client_arguments(config.kafka, purpose="replay"))
    try:
        await publisher.start()
    except Exception as error:
        raise KafkaSetupError(plain_error(error, config.kafka)) from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    unacknowledged: deque[asyncio.Future[Any]] = deque()
    pace = Pace(factor)
    started = loop.time()

    async def settle(leave: int) -> None:
        while len(unacknowledged) > leave:
            await unacknowledged.popleft()
            summary.published += 1

    try:
        chunks = opened.chunks(CHUNK_LINES, CHUNK_BYTES)
        while not stop.is_set() and (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            for line in chunk.lines:
                message = outgoing(line.value, key_field)
                wait = started + pace.due(message.published_at_ms) - loop.time()
                if wait > 0:
                    await settle(0)
                    progress()
                    if await _stopped_within(stop, wait):
                        break
                if message.published_at_ms is None:
                    summary.bad += 1
                if by_ms:
                    message = shifted(message, by_ms)
                try:
                    unacknowledged.append(await publisher.send(topic, message.value, key=message.key))
                except MessageSizeTooLargeError:
                    summary.too_large += 1
                if len(unacknowledged) > MAX_UNACKNOWLEDGED:
                    await settle(MAX_UNACKNOWLEDGED // 2)
                if stop.is_set():
                    break
            progress()
        await settle(0)
        summary.interrupted = stop.is_set()
    finally:
        await publisher.stop()


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _prepare_topic(config: Config, topic: str) -> None:
    """Creates the configured topics, so that documents do not land in one that the broker made up on its own."""
    from streamer.worker.topics import ensure_topics, planned_topics

    admin = AIOKafkaAdminClient(**client_arguments(config.kafka, purpose="replay-admin"))
    try:
        try:
            await admin.start()
        except Exception as error:
            raise KafkaSetupError(plain_error(error, config.kafka)) from error
        if topic in {plan.name for plan in planned_topics(config)}:
            await ensure_topics(admin, config)
        elif topic not in await admin.list_topics():
            raise KafkaSetupError(f"topic {topic} does not exist at {config.kafka.bootstrap_servers}; create it first")
    finally:
        await admin.close()
