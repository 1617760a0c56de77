"""`bearwire dead-letters`: look at rejected messages, keep them, feed them to their topic again."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import click
import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streamer.commands.options import MOMENT, config_options
from streamer.commands.terminal import is_on_terminal, json_for_stdout
from streamer.config.settings import Config
from streamer.core.dead_letters import LETTER_REASONS, ForeignRecord, Origin, read_origin, replay_headers
from streamer.escaping import escaped
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error, quiet_clients
from streamer.kafka.topic_reader import TopicRecord, open_consumer, partitions_of, read_to_end
from streamer.timestamps import format_rfc3339

MAX_REPLAYS: Final = 3
_COMMIT_EVERY: Final = 500


class Letter(NamedTuple):
    """A dead letter as read from its topic."""

    record: TopicRecord
    origin: Origin


@dataclass(slots=True)
class Selection:
    """Which dead letters a command means. Nothing given means all."""

    reasons: frozenset[str]
    since_ms: int | None
    foreign: int = 0

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is meant."""
        if self.reasons and letter.origin.reason not in self.reasons:
            return False
        return self.since_ms is None or letter.record.timestamp_ms >= self.since_ms


@dataclass(slots=True)
class Replayed:
    """What a replay did with the letters it was asked for."""

    sent: Counter[str] = field(default_factory=Counter)
    worn_out: int = 0
    elsewhere: int = 0


def _selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option(
        "--since",
        type=MOMENT,
        metavar="TIME",
        help="Only letters written since then: 2026-11-23T09:00:00Z, or 24h.",
    )(function)
    return click.option(
        "--reason", "reasons", multiple=True, type=click.Choice(sorted(LETTER_REASONS)), metavar="REASON",
        help="Only letters with this reason; may be repeated.",
    )(function)  # fmt: skip


@click.group("dead-letters")
def dead_letters() -> None:
    """Messages that were no documents, or could not be delivered, with their original bytes and the reason."""


@dead_letters.command("list")
@_selection_options
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="Show at most the newest N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@config_options
def list_letters(reasons: tuple[str, ...], since: int | None, limit: int, as_json: bool, config: Config) -> None:
    """Show the newest dead letters and how many there are of each reason."""
    selection = _select(reasons, since)
    newest: deque[Letter] = deque(maxlen=limit)
    counts: Counter[str] = Counter()

    async def read() -> None:
        async for letter in _letters(config, selection):
            newest.append(letter)
            counts[letter.origin.reason] += 1

    asyncio.run(read())
    for letter in newest:
        click.echo(json_for_stdout(orjson.dumps(as_record(letter))) if as_json else _line(letter))
    total = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    click.echo(f"{counts.total():,} dead letters{': ' + total if total else ''}{_foreign(selection)}", err=True)


@dead_letters.command()
@_selection_options
@click.option("-o", "--output", metavar="FILE", help="Where to write; standard output (`-`) by default.")
@click.option("--values", is_flag=True, help="Only the original bytes, one message per line, to mend and replay.")
@config_options
def export(reasons: tuple[str, ...], since: int | None, output: str | None, values: bool, config: Config) -> None:
    """Write dead letters to a file, as JSON Lines with everything that is known of each."""
    if values and output is None and is_on_terminal():
        raise click.UsageError(
            "--values writes bytes of strangers as they are, which can take over a terminal: name a file with "
            "-o FILE, or say -o - if you mean it"
        )
    target = "-" if output is None else output
    selection = _select(reasons, since)
    counts: Counter[str] = Counter()

    async def read(out: BinaryIO) -> None:
        async for letter in _letters(config, selection):
            if not values:
                line = orjson.dumps(as_record(letter), option=orjson.OPT_APPEND_NEWLINE)
                out.write(json_for_stdout(line) if target == "-" else line)
            elif letter.record.value is None or b"\n" in letter.record.value:
                counts["left out, they are no single line"] += 1
                continue
            else:
                out.write(letter.record.value + b"\n")
            counts["exported"] += 1

    with ExitStack() as stack:
        out = cast(BinaryIO, sys.stdout.buffer if target == "-" else stack.enter_context(Path(target).open("wb")))
        asyncio.run(read(out))
        out.flush()
    parts = ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "none"
    click.echo(f"dead letters: {parts}{_foreign(selection)}", err=True)


@dead_letters.command("replay")
@_selection_options
@click.option("--to", "target", metavar="TOPIC", help="Send them here instead of to where they came from.")
@click.option("--again", is_flag=True, help="Also those that an earlier replay has sent.")
@click.option("--max-replays", default=MAX_REPLAYS, show_default=True, type=click.IntRange(1),
              help="Leave out a message that was replayed this often already.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show what would be sent.")
@config_options
def replay_letters(
    reasons: tuple[str, ...],
    since: int | None,
    target: str | None,
    again: bool,
    max_replays: int,
    dry_run: bool,
    config: Config,
) -> None:
    """Feed dead letters to their topic again, after what was wrong is mended.

    Key, bytes and headers are the original's; a header counts the replays. Progress is kept per reason in Kafka
    (consumer groups GROUP_PREFIX-dead-letters.REASON), so a second run sends only what came since. With --since,
    older letters count as dealt with.
    """
    selection = _select(reasons, since)
    done = asyncio.run(_replay(config, selection, target, again, max_replays, dry_run))
    total = ", ".join(f"{count:,} {reason}" for reason, count in done.sent.most_common())
    verb = "would be sent" if dry_run else "sent"
    click.echo(
        f"{done.sent.total():,} dead letters {verb} again{': ' + total if total else ''}"
        + (f"; {done.worn_out:,} left out, replayed {max_replays} times already" if done.worn_out else "")
        + (f"; {done.elsewhere:,} left out, they come from another topic (--to sends them)" if done.elsewhere else "")
        + _foreign(selection),
        err=True,
    )


def as_record(letter: Letter) -> dict[str, Any]:
    """A dead letter as one JSON object; bytes that are not UTF-8 as `…_base64`."""
    record, origin = letter
    fields: dict[str, Any] = {
        "reason": origin.reason,
        "detail": origin.detail,
        "origin": {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset},
        "replays": origin.replays,
        "at": format_rfc3339(record.timestamp_ms) if record.timestamp_ms >= 0 else None,
        "partition": record.partition,
        "offset": record.offset,
    }
    for name, content in (("key", record.key), ("value", record.value)):
        if content is None:
            fields[name] = None
            continue
        try:
            fields[name] = content.decode("utf-8")
        except UnicodeDecodeError:
            fields[f"{name}_base64"] = base64.b64encode(content).decode("ascii")
    return fields


async def _letters(config: Config, selection: Selection) -> AsyncIterator[Letter]:
    quiet_clients()
    async with open_consumer(config.kafka) as consumer:
        partitions = await partitions_of(consumer, config.topics.dead_letters.name)
        async for letter in _read(consumer, partitions, None, selection):
            yield letter


async def _read(
    consumer: Any, partitions: list[TopicPartition], start: dict[TopicPartition, int] | None, selection: Selection
) -> AsyncIterator[Letter]:
    async for record in read_to_end(consumer, partitions, start):
        try:
            letter = Letter(record, read_origin(record.headers))
        except ForeignRecord:
            selection.foreign += 1
            continue
        if selection.takes(letter):
            yield letter


async def _replay(
    config: Config, selection: Selection, target: str | None, again: bool, max_replays: int, dry_run: bool
) -> Replayed:
    from streamer.worker.publishing import Publisher

    quiet_clients()
    done = Replayed()
    ours = (config.topics.documents.name, config.topics.notifications.name)
    publisher = Publisher(client_arguments(config.kafka, purpose="dead-letters"))
    async with open_consumer(config.kafka) as consumer:
        partitions = await partitions_of(consumer, config.topics.dead_letters.name)
        progress = await Progress.read(config, partitions, selection.reasons or frozenset(LETTER_REASONS))
        start = None if again else progress.start()
        if not dry_run:
            try:
                await publisher.start()
            except Exception as error:
                raise KafkaSetupError(plain_error(error, config.kafka)) from error
        waiting: list[asyncio.Future[Any]] = []
        try:
            ends = await consumer.end_offsets(partitions)
            async for letter in _read(consumer, partitions, start, selection):
                if not again and progress.has(letter):
                    continue
                origin = letter.origin
                if origin.replays >= max_replays:
                    done.worn_out += 1
                    continue
                if target is None and origin.topic not in ours:
                    done.elsewhere += 1
                    continue
                done.sent[origin.reason] += 1
                if dry_run:
                    click.echo(_line(letter))
                    continue
                headers = tuple(replay_headers(letter.record.headers, origin.replays + 1))
                waiting.append(
                    await publisher.send(
                        target or origin.topic, letter.record.value, key=letter.record.key, headers=headers
                    )
                )
                progress.note(letter)
                if len(waiting) >= _COMMIT_EVERY:
                    await asyncio.gather(*waiting)
                    waiting.clear()
                    await progress.commit()
            await asyncio.gather(*waiting)
            if not dry_run:
                progress.reach(ends)
                await progress.commit()
        finally:
            if not dry_run:
                await publisher.stop()
    return done


class Progress:
    """How far each reason's dead letters have been replayed: one consumer group per reason, committed offsets.

    One group per reason, so that replaying one reason neither skips nor repeats the letters of another.
    """

    def __init__(
        self, config: Config, partitions: list[TopicPartition], offsets: dict[str, dict[TopicPartition, int]]
    ) -> None:
        self._config = config
        self._partitions = partitions
        self._offsets = offsets
        self._committed = {reason: dict(parts) for reason, parts in offsets.items()}

    @classmethod
    async def read(cls, config: Config, partitions: list[TopicPartition], reasons: frozenset[str]) -> Progress:
        """The progress that earlier runs have committed."""
        admin = AIOKafkaAdminClient(**client_arguments(config.kafka, purpose="dead-letters-admin"))
        try:
            await admin.start()
            offsets: dict[str, dict[TopicPartition, int]] = {}
            for reason in sorted(reasons):
                found = await admin.list_consumer_group_offsets(_group(config, reason), partitions=partitions)
                offsets[reason] = {part: max(0, found[part].offset) for part in partitions if part in found}
        finally:
            await admin.close()
        return cls(config, partitions, offsets)

    def start(self) -> dict[TopicPartition, int]:
        """Where to read from: the least progress of any reason, per partition."""
        found: dict[TopicPartition, int] = {}
        for parts in self._offsets.values():
            for part in self._partitions:
                found[part] = min(parts.get(part, 0), found.get(part, 1 << 62))
        return found

    def has(self, letter: Letter) -> bool:
        """Whether an earlier run has dealt with the letter."""
        parts = self._offsets.get(letter.origin.reason, {})
        return letter.record.offset < parts.get(self._partition(letter), 0)

    def note(self, letter: Letter) -> None:
        """The letter is sent."""
        self._offsets.setdefault(letter.origin.reason, {})[self._partition(letter)] = letter.record.offset + 1

    def reach(self, ends: dict[TopicPartition, int]) -> None:
        """Everything before `ends` was looked at. Only reasons that this run has sent are worth writing down."""
        for reason, parts in self._offsets.items():
            if parts != self._committed.get(reason):
                for part, end in ends.items():
                    parts[part] = max(end, parts.get(part, 0))

    async def commit(self) -> None:
        """Makes the progress durable, for the reasons for which it changed."""
        for reason, parts in self._offsets.items():
            if parts and parts != self._committed.get(reason):
                async with open_consumer(self._config.kafka, _group(self._config, reason)) as consumer:
                    consumer.assign(list(parts))
                    await consumer.commit(parts)
                self._committed[reason] = dict(parts)

    def _partition(self, letter: Letter) -> TopicPartition:
        return TopicPartition(self._config.topics.dead_letters.name, letter.record.partition)


def _group(config: Config, reason: str) -> str:
    return f"{config.kafka.group_prefix}-dead-letters.{reason}"


def _select(reasons: tuple[str, ...], since: int | None) -> Selection:
    return Selection(frozenset(reasons), since)


def _line(letter: Letter) -> str:
    record, origin = letter
    at = format_rfc3339(record.timestamp_ms) if record.timestamp_ms >= 0 else "-"
    key = "-" if record.key is None else escaped(record.key.decode("utf-8", "backslashreplace"), 40)
    size = "no value" if record.value is None else f"{len(record.value):,} bytes"
    again = f", replayed {origin.replays}x" if origin.replays else ""
    return (
        f"{at}  {escaped(origin.reason, 40):<18}  {escaped(origin.topic, 60)}/{origin.partition}/{origin.offset}  "
        f"key {key}, {size}{again}  {escaped(origin.detail)}"
    )


def _foreign(selection: Selection) -> str:
    return f"; {selection.foreign:,} records of the topic are no dead letters" if selection.foreign else ""
