"""Dead letters and a topic that does not take every size."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from streamer.core.dead_letters import REASON, TRUNCATED_FROM
from streamer.core.records import DeadLetter, SourceRecord
from streamer.worker.letters import DeadLetterWriter
from streamer.worker.publishing import Publisher, PublishError

KIB = 1024


class Limited(Publisher):
    """A publisher whose topic takes requests up to `limit` bytes; what is sent before anybody waits is one request."""

    def __init__(self, limit: int) -> None:
        super().__init__({})
        self.limit = limit
        self.taken: list[tuple[bytes | None, bytes | None, dict[str, bytes]]] = []
        self.error: Exception | None = None
        self._request: list[tuple[asyncio.Future[None], bytes | None, bytes | None, dict[str, bytes]]] = []

    async def send(self, topic: str, value: bytes | None, **how: Any) -> asyncio.Future[Any]:
        """Hand over one record."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._request:
            asyncio.get_running_loop().call_soon(self._answer)
        self._request.append((sent, how["key"], value, dict(how["headers"])))
        return sent

    def _answer(self) -> None:
        request, self._request = self._request, []
        error = self.error
        if error is None and sum(_size(*each[1:]) for each in request) > self.limit:
            error = MessageSizeTooLargeError()
        for sent, key, value, headers in request:
            if error is not None:
                sent.set_exception(error)
            else:
                self.taken.append((key, value, headers))
                sent.set_result(None)


def _size(key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> int:
    """Of all but our own headers."""
    theirs = sum(len(text) for name, text in headers.items() if not name.startswith("bearwire-"))
    return len(key or b"") + len(value or b"") + theirs


def letter(key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> DeadLetter:
    return DeadLetter("documents", 0, SourceRecord(7, None, key, value, headers), "invalid_json", "no")


def writer(limit: int) -> tuple[DeadLetterWriter, Limited]:
    writing = DeadLetterWriter({}, "dead-letters")
    publisher = writing._publisher = Limited(limit)
    return writing, publisher


async def test_small_letters_that_shared_a_request_with_a_large_one_stay_whole() -> None:
    writing, publisher = writer(100 * KIB)
    await writing.send([letter(b"a", b"1"), letter(b"b", b"2" * 200 * KIB), letter(None, None)])
    (a, b, c) = publisher.taken
    assert a[:2] == (b"a", b"1")
    assert b[:2] == (b"b", b"2" * 64 * KIB)
    assert c[:2] == (b"", None)
    assert [each.get(TRUNCATED_FROM) for *_, each in publisher.taken] == [None, b"204800", None]
    assert all(each[REASON] == b"invalid_json" for *_, each in publisher.taken)


@pytest.mark.parametrize(("limit", "kept"), [(1024, 512), (511, 64), (63, 8), (7, 0)])
async def test_as_much_of_a_letter_is_kept_as_its_topic_takes(limit: int, kept: int) -> None:
    writing, publisher = writer(limit * KIB + 1)
    await writing.send([letter(b"k", b"x" * 2048 * KIB)])
    assert [each[:2] for each in publisher.taken] == [(b"k", b"x" * kept * KIB)]


async def test_a_key_that_is_too_large_for_the_topic_is_left_away_at_last() -> None:
    writing, publisher = writer(KIB)
    await writing.send([letter(b"k" * 2 * KIB, b"x")])
    assert [each[:2] for each in publisher.taken] == [(None, b"")]


async def test_headers_that_are_too_large_for_the_topic_hold_up_nothing() -> None:
    writing, publisher = writer(KIB)
    await writing.send([letter(b"k", b"x", ("trace", b"t" * 2 * KIB))])
    ((key, value, headers),) = publisher.taken
    assert (key, value) == (None, b"")
    assert "trace" not in headers
    assert headers[TRUNCATED_FROM] == b"1" and headers[REASON] == b"invalid_json"


async def test_other_refusals_are_errors() -> None:
    writing, publisher = writer(KIB)
    publisher.error = KafkaTimeoutError()
    with pytest.raises(PublishError, match="dead-letters"):
        await writing.send([letter(b"a", b"1")])
