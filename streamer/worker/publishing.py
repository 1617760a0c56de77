"""Producers that say when what they were given is durable, and a kind that a successor can fence off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    UnknownError,
    UnsupportedVersionError,
)

from streamer.core.records import Headers
from streamer.kafka.client import COMPRESSION
from streamer.worker.snapshots import Fence
from streamer.worker.topics import LARGE_MESSAGE_BYTES

MAX_REQUEST_BYTES: Final = LARGE_MESSAGE_BYTES + 2 * 1024 * 1024
_STOP_SECONDS: Final = 5.0
_CUT_OFF_SECONDS: Final = 1.0
_TRANSACTION_TIMEOUT_MS: Final = 60_000
"""After which the broker aborts a transaction and fences off its producer. It takes a second or two to fill one."""
_REFUSED: Final = (UnknownError, UnsupportedVersionError)
_FENCED: Final = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)

log = logging.getLogger(__name__)


class PublishError(Exception):
    """Something that was to be produced is not on the broker."""


class FencedError(PublishError):
    """A newer producer of the same name has taken over; this one may write nothing more."""


class Publisher:
    """An idempotent producer with acks=all. `send` returns at once; `settle` waits until everything is durable.

    A broker that knows no idempotence (the embedded one) gets acks=all alone, which is logged once, and so do those
    who want it not `idempotent`. `options` are the connection's (`streamer.kafka.client`).
    """

    def __init__(self, options: Mapping[str, Any], *, idempotent: bool = True) -> None:
        self._options = dict(options)
        self._idempotent = idempotent
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError where the broker is not there or refuses."""
        if self._idempotent:
            self._producer = await self._connect(enable_idempotence=True)
            if self._producer is None:
                log.warning("the broker knows no idempotent producers: a retry may produce a record twice")
        if self._producer is None:
            self._producer = await self._connect()
        if self._producer is None:
            raise PublishError("the broker accepts no producer")

    async def stop(self) -> None:
        """Send what waits and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[Any]:
        """Hand over one record; the future is its acknowledgement. Waits only while the buffer is full."""
        if self._producer is None:
            raise PublishError("the producer is stopped")
        try:
            sent: asyncio.Future[Any] = await self._producer.send(
                topic, value, key=key, partition=partition, headers=list(headers), timestamp_ms=timestamp_ms
            )
        except MessageSizeTooLargeError:
            raise
        except _FENCED as error:
            raise FencedError(f"{topic}: {error}") from error
        except KafkaError as error:
            raise PublishError(f"{topic}: {error!r}") from error
        return sent

    async def _connect(self, **how: Any) -> AIOKafkaProducer | None:
        """A started producer, or None where the broker refuses this kind."""
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            compression_type=COMPRESSION,
            max_request_size=MAX_REQUEST_BYTES,
            max_batch_size=256 * 1024,
            linger_ms=2,
            **how,
        )
        try:
            await producer.start()
        except _REFUSED:
            await producer.stop()
            return None
        except BaseException:
            await producer.stop()
            raise
        return producer


class FencedPublisher(Publisher):
    """A producer of which only the newest of a name may write: the outputs of one book.

    It carries a transactional id, so that starting a successor makes the broker refuse whatever a paused
    predecessor still wants to write (KIP-98). Records lie in short transactions; `settle` commits the current one.
    A broker without transactions gets no fence, which is logged once.
    """

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        super().__init__(options)
        self._name = name
        self._transactional = False
        self._open = False
        self._unsettled: list[asyncio.Future[Any]] = []

    async def start(self) -> None:
        """Connect and fence off every predecessor."""
        self._producer = await self._connect(
            transactional_id=self._name, transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS
        )
        self._transactional = self._producer is not None
        if not self._transactional:
            log.warning("the broker knows no transactions: a worker that was paused may still write for a moment")
            await super().start()

    @property
    def fence(self) -> Fence | None:
        """What the broker gave to this producer when it fenced off its predecessors, None where it knows no fences.

        aiokafka keeps it to itself."""
        if self._producer is None or not self._transactional:
            return None
        manager = self._producer._txn_manager
        return Fence(manager.producer_id, manager.producer_epoch)

    async def send(self, topic: str, value: bytes | None, **how: Any) -> asyncio.Future[Any]:
        """Hand over one record within the current transaction."""
        if self._transactional and not self._open and self._producer is not None:
            with _named_errors(topic):
                await self._producer.begin_transaction()
            self._open = True
        try:
            sent = await super().send(topic, value, **how)
        except IllegalOperation as error:  # the transaction has failed since: what was sent in it says why
            unsettled, self._unsettled = self._unsettled, []
            await settle(unsettled)
            raise PublishError(f"{topic}: {error}") from error
        self._unsettled.append(sent)
        return sent

    async def settle(self) -> None:
        """Wait until everything sent is durable and committed. Raises FencedError or PublishError."""
        unsettled, self._unsettled = self._unsettled, []
        with _named_errors(self._name):
            await settle(unsettled)
            if self._open and self._producer is not None:
                await self._producer.commit_transaction()
                self._open = False

    async def stop(self) -> None:
        """Disconnect; an open transaction is aborted by the broker."""
        for sent in self._unsettled:
            if not sent.cancel() and not sent.cancelled():
                sent.exception()  # whoever closes knows already that something was refused
        self._unsettled = []
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)


async def settle(sent: list[asyncio.Future[Any]]) -> None:
    """Wait until all of `sent` are acknowledged. Raises FencedError or PublishError for the first that is not."""
    if not sent:
        return
    results = await asyncio.gather(*sent, return_exceptions=True)
    for result in results:
        if isinstance(result, _FENCED):
            raise FencedError(str(result)) from result
        if isinstance(result, MessageSizeTooLargeError):
            raise PublishError(
                "a topic takes no message of the size of a record; `bearwire doctor` says which: raise its "
                "max.message.bytes"
            ) from result
        if isinstance(result, BaseException):
            raise PublishError(f"a record was not acknowledged: {result!r}") from result


async def _stopped(producer: AIOKafkaProducer) -> None:
    """Stop a producer, for which a broker that is gone gets only so long: an idempotent one would wait for ever."""
    try:
        await asyncio.wait_for(producer.flush(), _STOP_SECONDS)  # of which nothing is left when its time is up
        await asyncio.wait_for(producer.stop(), _STOP_SECONDS)
    except (KafkaError, TimeoutError):
        await _cut_off(producer)


async def _cut_off(producer: AIOKafkaProducer) -> None:
    """End what a producer that did not stop goes on doing for ever: connecting, and sending what nobody waits for."""
    producer._closed = True
    await _cancelled(producer._sender.sender_task)  # with what it has on its way, while that can still end by itself
    with contextlib.suppress(KafkaError, TimeoutError):
        await asyncio.wait_for(producer.client.close(), _CUT_OFF_SECONDS)
    await _cancelled(producer._sender.sender_task)


async def _cancelled(task: asyncio.Task[Any] | None) -> None:
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CUT_OFF_SECONDS)


@contextlib.contextmanager
def _named_errors(where: str) -> Any:
    try:
        yield
    except _FENCED as error:
        raise FencedError(f"{where}: {error}") from error
    except KafkaError as error:
        raise PublishError(f"{where}: {error!r}") from error
