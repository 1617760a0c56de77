"""What tells a repeat of a topic's documents from a topic that was made anew."""

import zlib

import msgspec
import pytest

from streamer.core.blocks import MAGIC, DigestBlock
from streamer.core.watermark import PartitionClock
from tests.core.worlds import START_MS, answer, new_watch, record, scorer, settings

MINUTE_MS = 60_000
RECORDS = [record(n, published_at=START_MS + n * MINUTE_MS) for n in range(10)]


def blocks_from(offset: int, lateness_ms: int) -> list[DigestBlock]:
    """What a scorer makes of the records from `offset` on, with the clock that was committed there."""
    latest_ms = START_MS + (offset - 1) * MINUTE_MS if offset else None
    scoring = scorer(clock=PartitionClock(lateness_ms, latest_ms))
    scoring.position = offset
    prepared = scoring.prepare(RECORDS[offset:])
    return [DigestBlock.decode(block) for block in scoring.finish(prepared, answer(prepared.texts)).blocks["main"]]


@pytest.mark.parametrize("then_minutes", [1, 5, 9])
def test_a_repeat_is_one_whatever_lateness_is_allowed_by_then(then_minutes: int) -> None:
    watch = new_watch(settings())
    for block in blocks_from(0, 5 * MINUTE_MS):
        watch.take_in(block)
    outputs = [watch.take_in(block) for block in blocks_from(5, then_minutes * MINUTE_MS)]
    assert not any(output.anew for output in outputs)
    assert (watch.counts.rows, watch.counts.skipped) == (10, 5)


def test_a_block_of_the_version_before_says_no_lateness() -> None:
    (block,) = blocks_from(0, 5 * MINUTE_MS)
    *before, _ = msgspec.msgpack.decode(block.encode()[9:])
    payload = msgspec.msgpack.encode(before)
    read = DigestBlock.decode(MAGIC + b"\x03" + zlib.crc32(payload).to_bytes(4, "little") + payload)
    assert (read.lateness_ms, read.watermark_ms) == (None, block.watermark_ms)


def test_a_later_document_before_the_next_offset_tells_of_a_topic_made_anew() -> None:
    watch = new_watch(settings())
    for block in blocks_from(0, 5 * MINUTE_MS):
        watch.take_in(block)
    scoring = scorer(clock=PartitionClock(5 * MINUTE_MS))
    prepared = scoring.prepare([record(0, id="new", published_at=START_MS + 60 * MINUTE_MS)])
    (block,) = scoring.finish(prepared, answer(prepared.texts)).blocks["main"]
    assert watch.take_in(DigestBlock.decode(block)).anew
    assert watch.counts.rows == 11
