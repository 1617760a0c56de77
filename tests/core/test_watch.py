from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.desk import Desk
from alerts.dispatch import Told
from alerts.durations import HOUR_MS
from alerts.panes import WEIGHT_MICRO, ClosedPane, EvidenceOf
from streamer.config.settings import BookSettings, Config
from streamer.core.blocks import DigestBlock
from streamer.core.records import SourceRecord
from streamer.core.state_chunks import StateError
from streamer.core.watch import Watch, WatchOutput
from streamer.core.watch_settings import DAY_MS, WatchSettings
from tests.core import worlds
from tests.core.worlds import (
    LATENESS_MS,
    START_MS,
    ChattyDesk,
    EagerDesk,
    blocks_of,
    examples,
    new_watch,
    quiet_past,
    record,
    restored,
    run,
    said,
    stretches_of,
)

BOOK = worlds.settings()
WORDS = ("orders", "fall", "margin", "plant", "strike", "tanker", "refinery", "bond", "court", "recall", "drought")


@st.composite
def partitions(draw: st.DrawFn) -> list[list[SourceRecord]]:
    """One to three partitions of documents over some panes: copies, repeated ids, late ones, rubbish."""
    random = draw(st.randoms(use_true_random=False))
    texts = [" ".join(random.choices(WORDS, k=random.choice([2, 9, 12]))) for _ in range(random.randint(1, 8))]
    worlds_of_partitions = []
    for partition in range(random.randint(1, 3)):
        now = START_MS + random.randint(0, 300_000)
        records = []
        for offset in range(random.randint(0, 25)):
            now += random.choice([0, 1000, 20_000, 90_000, 700_000 if random.random() < 0.1 else 0])
            text = random.choice(texts)
            fields: dict[str, object] = {
                "id": random.choice([f"p{partition}-{offset}", f"shared-{random.randint(0, 5)}"]),
                "text": random.choice([text, f"RT @x: {text}", text + " today", f"{text} {offset} {random.random()}"]),
                "published_at": now - random.choice([0, 0, 0, 30_000, LATENESS_MS + 90_000]),
                "source": random.choice([None, "wire", "blog", "desk"]),
                "symbols": random.sample(["AAA", "BBB", "CCC"], random.randint(0, 2)),
                "weight": random.choice([1.0, 0.1, 3.7]),
            }
            records.append(record(offset * 2 + 3, **fields))
            if random.random() < 0.1:
                records[-1] = SourceRecord(offset * 2 + 3, None, None, b"{")
        worlds_of_partitions.append(records)
    return worlds_of_partitions


def calm(world: list[list[SourceRecord]]) -> list[DigestBlock]:
    """Every partition in one block, the idle blocks last."""
    blocks = [blocks_of(number, len(world), records, []) for number, records in enumerate(world)]
    return [block for part in blocks for block in part[:-1]] + [part[-1] for part in blocks]


@st.composite
def deliveries(draw: st.DrawFn, world: list[list[SourceRecord]]) -> list[DigestBlock]:
    """The same records cut into other blocks, partitions taking turns, with repeats and overlaps.

    A partition is idle from its end on, wherever the others are then.
    """
    random = draw(st.randoms(use_true_random=False))
    queues = []
    for number, records in enumerate(world):
        sizes = [random.randint(1, 6) for _ in range(8)]
        blocks = blocks_of(number, len(world), records, sizes)
        queue = []
        for at, block in enumerate(blocks[:-1]):
            queue.append(block)
            if random.random() < 0.3:
                queue.append(random.choice(blocks[: at + 1]))
            if random.random() < 0.3:
                again = blocks_of(number, len(world), records, [random.randint(1, 9) for _ in range(5)])
                queue += [other for other in again[:-1] if other.to_offset <= block.to_offset]
        queues.append([*queue, blocks[-1]])
    mixed = []
    waiting = queues
    while waiting:
        queue = random.choice(waiting)
        mixed.append(queue.pop(0))
        waiting = [queue for queue in waiting if queue]
    return mixed


def watched(data: st.DataObject, book: WatchSettings) -> tuple[list[list[SourceRecord]], Watch, list[WatchOutput]]:
    """Drawn records, and what a book makes of them, delivered somehow and restarted now and then."""
    world = data.draw(partitions())
    blocks = data.draw(deliveries(world))
    restarts = data.draw(st.sets(st.integers(0, len(blocks)), max_size=4))
    watch, outputs = run(new_watch(book), blocks, lambda taken, old: restored(old) if taken in restarts else old)
    return world, watch, outputs


def restarting(data: st.DataObject, blocks: list[DigestBlock]) -> Callable[[int, Watch], Watch]:
    """Puts a copy by way of its snapshot in the place of the watch at drawn places."""
    restarts = data.draw(st.sets(st.integers(0, len(blocks))))
    return lambda taken, watch: restored(watch) if taken in restarts else watch


def same(one: Watch, other: Watch) -> None:
    """The accounts of both agree."""
    assert other.source_counts == one.source_counts
    counted = ("rows", "stories", "copies", "duplicates", "panes", "too_late", "gaps", "unfollowed")
    assert [getattr(other.counts, name) for name in counted] == [getattr(one.counts, name) for name in counted]


@pytest.mark.properties
@pytest.mark.parametrize("desk", [ChattyDesk, EagerDesk])
def test_neither_blocks_nor_interleaving_nor_restarts_change_a_byte(desk: type[Desk]) -> None:
    alerts = 0

    @given(st.data())
    @settings(max_examples=examples(100))
    def check(data: st.DataObject) -> None:
        nonlocal alerts
        world = data.draw(partitions())
        book = worlds.settings(
            max_series=data.draw(st.sampled_from([6, 9, 1 << 20])),
            series_retention_ms=data.draw(st.sampled_from([600_000, DAY_MS])),
            horizon_ms=data.draw(st.sampled_from([600_000, 3_600_000])),
            windows_ms=data.draw(st.sampled_from([(120_000, 600_000), (120_000, 3_600_000)])),
        )
        past = quiet_past(len(world)) if desk is EagerDesk else []
        one, expected = run(new_watch(book, desk), past + calm(world))
        blocks = past + data.draw(deliveries(world))
        other, got = run(new_watch(book, desk), blocks, restarting(data, blocks))
        assert said(got) == said(expected)
        assert not any(output.too_late for output in got)
        same(one, other)
        alerts += sum(len(output.alerts) for output in got)

    check()
    assert alerts, "there was nothing to decide"


@st.composite
def logs(draw: st.DrawFn, world: list[list[SourceRecord]]) -> tuple[list[DigestBlock], list[DigestBlock]]:
    """A log in which partitions fall idle and come back at any place; and the same cut finer, with blocks repeated."""
    random = draw(st.randoms(use_true_random=False))
    coarse, fine = [], []
    for number, records in enumerate(world):
        cuts = [[random.randint(1, 4) for _ in range(random.randint(1, 3))] for _ in range(random.randint(1, 6))]
        cuts.append([*(random.randint(1, 6) for _ in range(3)), len(records)])
        idle = {place for place in range(len(cuts) - 1) if random.random() < 0.5} if records else set()
        coarse.append(stretches_of(number, len(world), records, [[sum(cut)] for cut in cuts], idle))
        fine.append(stretches_of(number, len(world), records, cuts, idle))
    turns = [number for number, stretches in enumerate(coarse) for _ in stretches]
    random.shuffle(turns)
    ends = [blocks_of(number, len(world), records, [])[-1] for number, records in enumerate(world)]
    log = [block for number in turns for block in coarse[number].pop(0)] + ends
    repeated: list[DigestBlock] = []
    past: list[list[DigestBlock]] = [[] for _ in world]
    for number in turns:
        for block in fine[number].pop(0):
            repeated.append(block)
            past[number] += [block] * (random.random() < 0.7)
            old = [each for each in past[number] if each is block or each.to_offset < block.to_offset]
            repeated += [random.choice(old)] if old and random.random() < 0.4 else []
    return log, repeated + ends


@pytest.mark.properties
@pytest.mark.parametrize("desk", [ChattyDesk, EagerDesk])
def test_partitions_that_fall_idle_anywhere_and_come_back_decide_the_same(desk: type[Desk]) -> None:
    too_late = alerts = 0

    @given(st.data())
    @settings(max_examples=examples(60))
    def check(data: st.DataObject) -> None:
        nonlocal too_late, alerts
        world = data.draw(partitions())
        past = quiet_past(len(world)) if desk is EagerDesk else []
        log, other_log = (past + blocks for blocks in data.draw(logs(world)))
        one, expected = run(new_watch(BOOK, desk), log)
        other, got = run(new_watch(BOOK, desk), other_log, restarting(data, other_log))
        assert said(got) == said(expected)
        same(one, other)
        late = [[record.value for output in outputs for record in output.too_late] for outputs in (got, expected)]
        assert late[0] == late[1]
        too_late += len(late[0])
        alerts += sum(len(output.alerts) for output in got)

    check()
    assert too_late, "nobody came back too late"
    assert alerts, "there was nothing to decide"


@pytest.mark.properties
@given(partitions())
@settings(max_examples=examples(30))
def test_a_snapshot_restores_to_the_same_snapshot(world: list[list[SourceRecord]]) -> None:
    watch, _ = run(new_watch(BOOK), calm(world))
    assert restored(watch).snapshot() == watch.snapshot()


@pytest.mark.properties
@given(partitions())
@settings(max_examples=examples(30))
def test_every_record_is_accounted_for(world: list[list[SourceRecord]]) -> None:
    watch, _ = run(new_watch(BOOK), calm(world))
    counts, source = watch.counts, watch.source_counts
    assert source.received == sum(map(len, world)) == source.scored + source.late + source.dead
    assert counts.rows == source.scored
    assert counts.rows == counts.stories + counts.copies + counts.duplicates + counts.too_late + watch.open_rows


def test_a_block_of_another_book_is_refused() -> None:
    block = blocks_of(0, 1, [record(0)], [])[0]
    with pytest.raises(ValueError, match="book"):
        new_watch(worlds.settings(book="other")).take_in(block)


def test_a_gap_in_the_source_is_counted_and_does_not_stop_the_watch() -> None:
    blocks = blocks_of(0, 1, [record(offset, published_at=START_MS + offset * 60_000) for offset in range(9)], [3, 3])
    watch, _ = run(new_watch(BOOK), [blocks[0], blocks[2], blocks[3]])
    assert watch.counts.gaps == 3
    assert watch.taken == {("documents", 0): 9}


def test_a_partition_never_heard_of_holds_time_back_until_it_is_idle() -> None:
    busy = blocks_of(0, 2, [record(offset, published_at=START_MS + offset * 600_000) for offset in range(3)], [])
    silent = blocks_of(1, 2, [], [])
    watch = new_watch(BOOK)
    assert watch.take_in(busy[0]).watermark_ms is None
    output = watch.take_in(silent[0])
    assert output.watermark_ms == START_MS + 1_200_000 - LATENESS_MS
    assert sum(key == "all" for rows in output.rows for key in rows.keys) == 2


def test_what_comes_from_a_partition_that_was_left_out_is_too_late_and_said_so() -> None:
    ahead = blocks_of(0, 2, [record(0, published_at=START_MS), record(1, published_at=START_MS + 900_000)], [])
    slow = blocks_of(1, 2, [record(0, id="slow", published_at=START_MS + 1000)], [])
    idle = blocks_of(1, 2, [], [])
    watch, outputs = run(new_watch(BOOK), [ahead[0], idle[0], slow[0]])
    assert watch.counts.too_late == 1
    late = orjson.loads(outputs[-1].too_late[0].value)
    assert (late["id"], late["late"], late["origin"]) == (
        "slow",
        True,
        {"topic": "documents", "partition": 1, "offset": 0},
    )


def test_damaged_or_incomplete_snapshots_are_refused() -> None:
    watch, _ = run(
        new_watch(BOOK), calm([[record(offset, published_at=START_MS + offset * 60_000) for offset in range(9)]])
    )
    chunks = watch.snapshot()
    for name in chunks:
        if name.startswith("desk/"):
            continue
        damaged = chunks[name][:-1] + bytes([chunks[name][-1] ^ 1])
        with pytest.raises(StateError):
            Watch.restore(BOOK, ChattyDesk(BOOK), chunks | {name: damaged})
    newer = chunks["series"][:4] + b"\x09" + chunks["series"][5:]
    with pytest.raises(StateError, match="version 9, this bearwire reads version 2"):
        Watch.restore(BOOK, ChattyDesk(BOOK), chunks | {"series": newer})
    without = {name: data for name, data in chunks.items() if name != "series"}
    with pytest.raises(StateError, match="incomplete"):
        Watch.restore(BOOK, ChattyDesk(BOOK), without)
    with pytest.raises(StateError, match="pane_ms"):
        Watch.restore(worlds.settings(pane_ms=30_000), ChattyDesk(BOOK), chunks)


def test_a_books_weights_of_sources_and_its_most_series_are_those_of_the_configuration() -> None:
    book = BookSettings(source_weights={"wire": 3.0}, max_series=500)
    chosen = WatchSettings.of(Config(books=(book,)), book)
    records = [
        record(number, published_at=START_MS, source=source, text=" ".join(WORDS[5 * number :][:5]), weight=0.5)
        for number, source in enumerate(["wire", "blog"])
    ]
    _, outputs = run(new_watch(chosen), blocks_of(0, 1, [*records, record(9, published_at=START_MS + 3_600_000)], []))
    pane = outputs[0].rows[0]
    assert pane.counts[pane.keys.index("all"), WEIGHT_MICRO] == 2_000_000
    assert chosen.max_series == 500


def test_time_never_goes_back_for_the_desk_where_series_are_forgotten() -> None:
    class Witness(ChattyDesk):
        LIVE_MS = 3 * HOUR_MS
        ends_ms: ClassVar[list[int]] = []

        def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> Told:
            self.ends_ms.append(pane.end_ms)
            return super().observe(pane, evidence, model)

    minutes = (0, 100, 200, 300, 330, 430, 470)
    records = [
        record(number, published_at=START_MS + minute * 60_000, symbols=["NEW" if number else "OLD"])
        for number, minute in enumerate(minutes)
    ]
    book = worlds.settings(series_retention_ms=3 * HOUR_MS, horizon_ms=24 * HOUR_MS)
    watch, _ = run(new_watch(book, Witness), blocks_of(0, 1, records, []))
    assert watch.desk.dropped, "a series was forgotten while the desk was live"  # type: ignore[attr-defined]
    assert Witness.ends_ms == sorted(set(Witness.ends_ms))
