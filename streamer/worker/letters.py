"""Sends dead letters: whole where their topic takes them, else as much of them as it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.errors import MessageSizeTooLargeError

from streamer.core.dead_letters import TRUNCATED_FROM, dead_letter_headers
from streamer.core.records import DeadLetter
from streamer.worker.publishing import Publisher, PublishError

_KEPT_BYTES: Final = (512 * 1024, 64 * 1024, 8 * 1024, 0)

log = logging.getLogger(__name__)


class DeadLetterWriter:
    """Writes to the dead letters topic with a producer of its own, which is not idempotent.

    aiokafka counts a record that the broker refused for its size as written: to an idempotent producer's partition
    nothing could be written after it.
    """

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        self._publisher = Publisher(options, idempotent=False)
        self._topic = topic
        self._sending = asyncio.Lock()

    async def start(self) -> None:
        """Connect. Raises KafkaError where the broker is not there or refuses."""
        await self._publisher.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._publisher.stop()

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Write the letters and wait until they are durable. Raises PublishError.

        Of one that is too large its beginning is kept, and in a header how many bytes there were.
        """
        async with self._sending:
            # Small letters that shared a request with a large one are refused with it: those go again, one by one.
            for letter in await self._refused(letters):
                await self._send_alone(letter)

    async def _send_alone(self, letter: DeadLetter) -> None:
        if not await self._refused([letter]):
            return
        record = letter.record
        value = record.value or b""
        log.warning(
            "%s takes no message of %d bytes: the dead letter of %s-%d offset %d is cut; raise max.message.bytes",
            self._topic,
            len(value),
            letter.topic,
            letter.partition,
            record.offset,
        )
        length = (TRUNCATED_FROM, str(len(value)).encode())
        headers = (*record.headers, length)
        cuts = [record._replace(value=value[:kept], headers=headers) for kept in _KEPT_BYTES if kept < len(value)]
        cuts += [record._replace(key=None, value=b"", headers=those) for those in (headers, (length,))]
        for cut in cuts:
            if not await self._refused([letter._replace(record=cut)]):
                return
        raise PublishError(f"{self._topic} takes not even an empty dead letter; raise its max.message.bytes")

    async def _refused(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Send the letters, and return those that were too large."""
        sent = [await self._sent(letter) for letter in letters]
        results = await asyncio.gather(*sent, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, MessageSizeTooLargeError):
                raise PublishError(f"{self._topic}: {result!r}") from result
        return [
            letter
            for letter, result in zip(letters, results, strict=True)
            if isinstance(result, MessageSizeTooLargeError)
        ]

    async def _sent(self, letter: DeadLetter) -> asyncio.Future[Any]:
        record = letter.record
        key = b"" if record.key is None and record.value is None else record.key  # aiokafka refuses nothing at all
        try:
            return await self._publisher.send(
                self._topic, record.value, key=key, headers=tuple(dead_letter_headers(letter))
            )
        except MessageSizeTooLargeError as error:  # larger than any request may be
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused
