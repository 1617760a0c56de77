from __future__ import annotations

from collections import Counter

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.panes import FIELDS, WEIGHT_MICRO
from streamer.blocks import DigestBlock
from streamer.config import BookSettings, Config
from streamer.records import SourceRecord
from streamer.state_chunks import StateError
from streamer.watch import Watch, WatchOutput
from streamer.watch_settings import DAY_MS, WatchSettings
from tests.core import worlds
from tests.core.worlds import (
    LATENESS_MS,
    START_MS,
    ChattyDesk,
    blocks_of,
    examples,
    new_watch,
    record,
    restored,
    run,
    said,
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
    """The same records cut into other blocks, partitions taking turns, with repeats and overlaps; idle blocks last."""
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
        queues.append((queue, blocks[-1]))
    mixed = []
    waiting = [queue for queue, _ in queues if queue]
    while waiting:
        queue = random.choice(waiting)
        mixed.append(queue.pop(0))
        waiting = [queue for queue in waiting if queue]
    return mixed + [idle for _, idle in queues]


@pytest.mark.properties
@given(st.data())
@settings(max_examples=examples(200))
def test_neither_blocks_nor_interleaving_nor_restarts_change_a_byte(data: st.DataObject) -> None:
    world = data.draw(partitions())
    book = worlds.settings(
        max_series=data.draw(st.sampled_from([6, 9, 1 << 20])),
        series_retention_ms=data.draw(st.sampled_from([600_000, DAY_MS])),
        horizon_ms=data.draw(st.sampled_from([600_000, 3_600_000])),
        windows_ms=data.draw(st.sampled_from([(120_000, 600_000), (120_000, 3_600_000)])),
    )
    one, expected = run(new_watch(book), calm(world))
    blocks = data.draw(deliveries(world))
    restarts = data.draw(st.sets(st.integers(0, len(blocks))))

    def restart(taken: int, watch: Watch) -> Watch:
        return restored(watch) if taken in restarts else watch

    other, got = run(new_watch(book), blocks, restart)
    assert said(got) == said(expected)
    assert not any(output.too_late for output in got)
    assert other.source_counts == one.source_counts
    counted = ("rows", "stories", "copies", "duplicates", "panes", "too_late", "gaps", "unfollowed")
    assert [getattr(other.counts, name) for name in counted] == [getattr(one.counts, name) for name in counted]


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


def naive(world: list[list[SourceRecord]], outputs: list[WatchOutput]) -> pl.DataFrame:
    """The sums of every pane and series, from the documents alone, given which are copies and duplicates."""
    rows = []
    for number, records in enumerate(world):
        for block in blocks_of(number, len(world), records, [])[:-1]:
            for row, text in enumerate(block.excerpt.texts()):
                negative, _, positive = block.sentiment[row].astype(float).tolist()
                weight = float(block.weight[row]) * (2.0 if _source(block, row) == "wire" else 1.0)
                topic = block.topics[block.topic[row]]
                symbols = block.symbols.values[block.symbols.offsets[row] : block.symbols.offsets[row + 1]].tolist()
                companies = [f"company:{block.symbol_table[symbol]}" for symbol in symbols]
                rows.append(
                    {
                        "time": int(block.time_ms[row]),
                        "id": block.id.text(row),
                        "text": text,
                        "pane": int(block.time_ms[row]) // BOOK.pane_ms,
                        "series": ["all", f"topic:{topic}", *companies, *(f"{c}|topic:{topic}" for c in companies)],
                        "negative": round(negative * weight * 1e6),
                        "weight": round(weight * 1e6),
                        "square": round((positive - negative) ** 2 * weight * 1e6),
                        "source": _source(block, row),
                    }
                )
    return pl.DataFrame(rows)


def _source(block: DigestBlock, row: int) -> str:
    place = int(block.source_index[row])
    return block.sources[place] if place >= 0 else ""


@given(st.randoms(use_true_random=False))
@settings(max_examples=examples(8))
def test_sums_equal_a_naive_reference(random: object) -> None:
    choose = random.choice  # type: ignore[attr-defined]
    records = []
    now = START_MS
    for offset in range(60):
        now += choose([0, 5_000, 50_000, 200_000])
        text = " ".join(f"{choose(WORDS)}{offset}" for _ in range(8))
        fields = {"source": choose(["wire", "desk", None]), "symbols": choose([[], ["AAA"], ["AAA", "BBB"]])}
        records.append(record(offset, text=text, published_at=now, weight=choose([1.0, 0.3]), **fields))
    watch, outputs = run(new_watch(BOOK), calm([records]))
    assert watch.counts.copies == watch.counts.duplicates == 0
    rows = naive([records], outputs).explode("series")
    closed = (watch.watermark_ms or 0) // BOOK.pane_ms
    rows = rows.filter(pl.col("pane") < closed)
    got: Counter[tuple[str, int]] = Counter()
    for pane in (pane for output in outputs for pane in output.rows):
        for row, key in enumerate(pane.keys):
            number = int(pane.start_ms[row]) // BOOK.pane_ms
            got[key, number] += 1
            here = rows.filter((pl.col("series") == key) & (pl.col("pane") == number))
            sums = dict(zip(FIELDS, pane.counts[row].tolist(), strict=True))
            assert sums["documents"] == len(here)
            assert sums["negative_micro"] == here["negative"].sum()
            assert sums["weight_micro"] == here["weight"].sum()
            assert sums["sentiment_sq_micro"] == here["square"].sum()
            assert pane.sources[0, row] == here["source"].n_unique()
            assert (pane.first_ms[0, row], pane.last_ms[0, row]) == (here["time"].min(), here["time"].max())
            for window, length in enumerate(length // BOOK.pane_ms for length in BOOK.windows_ms):
                past = rows.filter(
                    (pl.col("series") == key) & (pl.col("pane") <= number) & (pl.col("pane") > number - length)
                )
                windowed = dict(zip(FIELDS, pane.windows[window, row].tolist(), strict=True))
                assert windowed["documents"] == len(past)
                assert windowed["negative_micro"] == past["negative"].sum()
                assert pane.sources[1 + window, row] == past["source"].n_unique()
    assert set(got.values()) <= {1}
    assert set(got) == set(rows.select("series", "pane").iter_rows())


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
