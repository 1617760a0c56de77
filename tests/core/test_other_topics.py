"""A documents topic that is deleted and made anew, or gives way to one of another name, under a book that goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.core.blocks import DigestBlock
from streamer.core.watch import Watch
from tests.core import worlds
from tests.core.worlds import START_MS, ChattyDesk, blocks_of, new_watch, record, restored, run, said

BOOK = worlds.settings()
MINUTE_MS = 60_000


def blocks(
    partition: int, partitions: int, minutes: range, *, sizes: tuple[int, ...] = (3,), name: str = "d"
) -> list[DigestBlock]:
    """A document a minute in a partition whose offsets begin at 0, and at last that it is idle."""
    records = [
        record(offset, id=f"{name}{partition}-{minute}", published_at=START_MS + minute * MINUTE_MS)
        for offset, minute in enumerate(minutes)
    ]
    return blocks_of(partition, partitions, records, sizes)


@pytest.mark.parametrize("restart", [False, True])
def test_a_topic_that_was_made_anew_is_watched_on(restart: bool) -> None:
    """Three partitions of which the last then has no documents, and before them four."""
    watch = new_watch(BOOK)
    run(watch, [block for number in range(4) for block in blocks(number, 4, range(20))[:-1]])
    reached = watch.watermark_ms
    assert reached is not None
    again = [blocks(number, 3, range(40, 60)) for number in range(2)] + [blocks(2, 3, range(0))]
    outputs = []
    for block in [*again[0][:-1], *again[2], *again[1], again[0][-1]]:
        outputs.append(watch.take_in(block))
        watch = restored(watch) if restart else watch
    assert [output.anew for output in outputs if output.anew is not None] == [20, 20, 20]
    assert watch.counts.rows == 80 + 40
    assert watch.counts.too_late == 0
    assert watch.watermark_ms == reached + 40 * MINUTE_MS
    assert watch.taken == {("documents", 0): 20, ("documents", 1): 20, ("documents", 2): 0}


def test_a_topic_made_anew_that_is_longer_than_the_old_one_before_it_is_read_is_watched_from_its_beginning() -> None:
    watch, _ = run(new_watch(BOOK), blocks(0, 1, range(20))[:-1])
    scoring = worlds.scorer()
    scoring.position = 20
    anew = [record(at, id=f"n{at}", published_at=START_MS + (40 + at) * MINUTE_MS) for at in range(50)]
    prepared = scoring.prepare(anew)
    batch = scoring.finish(prepared, worlds.answer(prepared.texts))
    watch, outputs = run(watch, [DigestBlock.decode(block) for block in batch.blocks["main"]])
    assert [output.anew for output in outputs] == [20, None]
    assert watch.counts.rows == 20 + 50
    assert watch.taken == {("documents", 0): 50}


def test_repeats_are_no_topic_made_anew() -> None:
    first = blocks(0, 1, range(30), sizes=(5, 5, 5))
    watch, outputs = run(new_watch(BOOK), [*first[:3], *first[:2], *blocks(0, 1, range(12)), *first])
    assert all(output.anew is None for output in outputs)
    assert watch.counts.rows == 30


def test_partitions_of_a_topic_that_had_another_name_hold_no_time_back() -> None:
    before = [replace(block, source="old") for number in range(2) for block in blocks(number, 2, range(20))[:-1]]
    watch, _ = run(Watch(BOOK, ChattyDesk(BOOK), source="old"), before)
    reached = watch.watermark_ms
    assert reached is not None
    watch = Watch.restore(BOOK, ChattyDesk(BOOK), watch.snapshot(), source="documents")
    one, other = (blocks(number, 2, range(30, 50), name="n") for number in range(2))
    watch.take_in(one[0])
    assert watch.watermark_ms == reached
    watch, outputs = run(watch, [*one[1:], *other])
    assert watch.watermark_ms == reached + 30 * MINUTE_MS
    assert said(outputs)
    assert watch.counts.too_late == 0


def test_what_still_comes_of_the_old_topic_is_watched() -> None:
    watch = Watch(BOOK, ChattyDesk(BOOK), source="documents")
    run(watch, [replace(block, source="old") for block in blocks(0, 1, range(20))])
    assert watch.watermark_ms is None
    run(watch, blocks(0, 1, range(20, 40), name="n"))
    assert watch.counts.rows == 40
    assert watch.counts.too_late == 0
