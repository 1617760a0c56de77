"""Silences as people ask for them, on the command line and on the page: made, ended, written to their topic, read back.

The topic carries them to every book, so it does not matter which process writes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

import msgspec
from aiokafka import AIOKafkaProducer

from alerts.silences import MAX_LENGTH_MS, Silence, decode_silence
from streamer.config.settings import Config
from streamer.escaping import quoted
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error, quiet_clients
from streamer.kafka.topic_reader import open_consumer, partitions_of, read_to_end
from streamer.timestamps import TimestampError, parse_duration


class SilenceError(ValueError):
    """A silence that cannot be made as it was asked for; the message says what is wrong."""


def parse_matchers(written: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Label to patterns, of `LABEL=PATTERN` and `LABEL!=PATTERN`. Raises `SilenceError`."""
    found: dict[str, tuple[str, ...]] = {}
    for text in written:
        name, equals, pattern = text.partition("=")
        refused = name.endswith("!")
        name = name.removesuffix("!").strip()
        if not equals or not name or (not refused and pattern.startswith("!")):
            raise SilenceError(
                f"{quoted(text)} is not LABEL=PATTERN or LABEL!=PATTERN, for example series=company:NRVL"
            )
        found[name] = (*found.get(name, ()), f"!{pattern}" if refused else pattern)
    return found


def parse_length_ms(text: str) -> int:
    """Milliseconds of how long a silence is to last, such as `2h`. Raises `SilenceError`."""
    try:
        return round(parse_duration(text) * 1000)
    except TimestampError as error:
        raise SilenceError(str(error)) from error
    except OverflowError as error:
        raise SilenceError("is more than 366 days") from error


def new_silence(
    matchers: Iterable[str], *, author: str, reason: str, now_ms: int, ends_ms: int, starts_ms: int = 0
) -> Silence:
    """A silence with a new id. Times are milliseconds UTC; `now_ms` is the wall clock's. Raises `SilenceError`."""
    begins_ms = max(starts_ms, now_ms)
    if ends_ms <= begins_ms:
        raise SilenceError("it would end before it begins, or has ended already")
    if ends_ms - begins_ms > MAX_LENGTH_MS:
        raise SilenceError("it would last longer than 366 days")
    silence = Silence(
        id=secrets.token_hex(5),
        revision=1,
        matchers=parse_matchers(matchers),
        author=author,
        reason=reason,
        created_ms=now_ms,
        starts_ms=starts_ms,
        ends_ms=ends_ms,
    )
    try:
        decode_silence(silence.encode())
    except msgspec.ValidationError as error:
        raise SilenceError(str(error)) from error
    except TypeError as error:
        raise SilenceError("author, reason and matchers must be Unicode text") from error
    return silence


def expired(silence: Silence, now_ms: int) -> Silence:
    """The revision that ends a silence for good; the silence itself where somebody has ended it already."""
    if silence.is_expired:
        return silence
    return msgspec.structs.replace(silence, revision=silence.revision + 1, created_ms=now_ms, ends_ms=silence.starts_ms)


class SilenceTopic:
    """The topic of one configuration. `odd` hears of messages in it that are no silence."""

    def __init__(self, config: Config, odd: Callable[[str], None]) -> None:
        self._config = config
        self._odd = odd

    async def read(self) -> list[Silence]:
        """The newest record of each, what was asked for first and then each book's. Raises `KafkaSetupError`."""
        quiet_clients()
        newest: dict[bytes, Silence] = {}
        async with open_consumer(self._config.kafka) as consumer:
            partitions = await partitions_of(consumer, self._config.topics.silences.name)
            async for record in read_to_end(consumer, partitions):
                if record.key is None:
                    continue
                newest.pop(record.key, None)
                if record.value is not None:
                    try:
                        newest[record.key] = decode_silence(record.value)
                    except msgspec.DecodeError as error:
                        self._odd(f"a message of the silences topic is no silence: {error}")
        return sorted(newest.values(), key=lambda one: (one.id, one.book or ""))

    async def asked(self) -> dict[str, Silence]:
        """What people have asked for, by id. Raises `KafkaSetupError`."""
        return {silence.id: silence for silence in await self.read() if silence.book is None}

    async def write(self, silences: Iterable[Silence]) -> None:
        """Produce them, and return once the broker has them. Raises `KafkaSetupError`."""
        quiet_clients()
        kafka = self._config.kafka
        producer = AIOKafkaProducer(**client_arguments(kafka, purpose="silences"), acks="all")
        try:
            await producer.start()
            for silence in silences:
                await producer.send_and_wait(self._config.topics.silences.name, silence.encode(), key=silence.key)
        except Exception as error:
            raise KafkaSetupError(plain_error(error, kafka)) from error
        finally:
            await producer.stop()
