"""What a window record says of its stories: which were the most negative, and when the first and the last came."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.blocks import DigestBlock
from streamer.core.records import SourceRecord
from streamer.core.strongest import STRONGEST, StrongestTexts
from streamer.core.watch import WatchOutput
from streamer.timestamps import format_duration, format_rfc3339
from tests.core import worlds
from tests.core.test_watch import WORDS, deliveries
from tests.core.worlds import START_MS, blocks_of, examples, new_watch, record, restored, run

BOOK = worlds.settings(windows_ms=(120_000, 300_000, 1_800_000), horizon_ms=900_000, series_retention_ms=2_400_000)


def spans(outputs: Iterable[WatchOutput]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What each window record says of its pane and of each of its windows, by series, end and name of the span."""
    said = {}
    for output in outputs:
        for written in output.windows():
            row = orjson.loads(written.value)
            for name, span in {"pane": row, **row["windows"]}.items():
                said[row["series"], row["end"], name] = {key: span[key] for key in ("first", "last", "strongest")}
    return said


def stories(world: list[list[SourceRecord]]) -> list[tuple[int, str, float, set[str]]]:
    """Time, id, p(negative) and series of every document, in canonical order."""
    told = []
    for number, records in enumerate(world):
        for block in blocks_of(number, len(world), records, [])[:-1]:
            told += [_story(block, row) for row in range(len(block))]
    return sorted(told, key=lambda story: story[:2])


def _story(block: DigestBlock, row: int) -> tuple[int, str, float, set[str]]:
    topic = f"topic:{block.topics[block.topic[row]]}"
    symbols = block.symbols.values[block.symbols.offsets[row] : block.symbols.offsets[row + 1]].tolist()
    companies = {f"company:{block.symbol_table[symbol]}" for symbol in symbols}
    series = {"all", topic, *companies, *(f"{company}|{topic}" for company in companies)}
    return int(block.time_ms[row]), block.id.text(row), float(block.sentiment[row, 0]), series


def expected(told: list[tuple[int, str, float, set[str]]], series: str, end_ms: int, length_ms: int) -> dict[str, Any]:
    """The same of one window, from all stories anew."""
    inside = [story for story in told if series in story[3] and end_ms - length_ms <= story[0] < end_ms]
    worst = sorted(inside, key=lambda story: (-story[2], *story[:2]))
    return {
        "first": format_rfc3339(inside[0][0]) if inside else None,
        "last": format_rfc3339(inside[-1][0]) if inside else None,
        "strongest": [story[1] for story in worst[:5]],
    }


@st.composite
def unlike_stories(draw: st.DrawFn) -> list[list[SourceRecord]]:
    """Two partitions of stories that are no copies of each other, dense at times and long apart at others."""
    random = draw(st.randoms(use_true_random=False))
    world = []
    for partition in range(2):
        now = START_MS + random.randint(0, 120_000)
        records = []
        for offset in range(random.randint(0, 50)):
            now += random.choice([0, 700, 9_000, 61_000, 400_000 if random.random() < 0.2 else 0])
            now += 3_000_000 if random.random() < 0.03 else 0
            fields = {
                "id": f"p{partition}-{random.randint(0, 9)}-{offset}",
                "text": " ".join(f"{random.choice(WORDS)}{partition}x{offset}" for _ in range(8)),
                "published_at": now,
                "symbols": random.sample(["AAA", "BBB", "CCC"], random.randint(0, 2)),
            }
            records.append(record(offset, **fields))
        world.append(records)
    return world


@pytest.mark.properties
@given(st.data())
@settings(max_examples=examples(40), deadline=None)
def test_they_are_those_of_a_naive_reference_whatever_came_first(data: st.DataObject) -> None:
    world = data.draw(unlike_stories())
    blocks = data.draw(deliveries(world))
    restarts = data.draw(st.sets(st.integers(0, len(blocks)), max_size=4))
    watch, outputs = run(new_watch(BOOK), blocks, lambda taken, old: restored(old) if taken in restarts else old)
    assert watch.counts.copies == watch.counts.duplicates == watch.counts.too_late == 0
    told = stories(world)
    names = {format_duration(length / 1000): length for length in BOOK.windows_ms} | {"pane": BOOK.pane_ms}
    closed = spans(outputs)
    for (series, end, name), said in closed.items():
        end_ms = round(datetime.fromisoformat(end).timestamp() * 1000)
        assert said == expected(told, series, end_ms, names[name])
    panes = {(key, story[0] // BOOK.pane_ms) for story in told for key in story[3]}
    ended = (watch.watermark_ms or 0) // BOOK.pane_ms
    assert len(closed) == 4 * len({pane for pane in panes if pane[1] < ended})


def test_copies_are_no_stories_and_a_window_of_copies_alone_has_no_times() -> None:
    said = "orders fall at the plant after a strike and a recall of the tanker"
    book = worlds.settings(windows_ms=(60_000, 600_000), horizon_ms=3_600_000)
    documents = [
        record(0, id="story", text=said, published_at=START_MS + 1_000),
        record(1, id="copy", text=said, published_at=START_MS + 31_000),
        record(2, id="again", text=said, published_at=START_MS + 90_000),
        record(3, id="far", text="a court hears of a bond in a drought", published_at=START_MS + 1_800_000),
        record(4, id="copy of far", text="a court hears of a bond in a drought", published_at=START_MS + 1_900_000),
    ]
    _, outputs = run(new_watch(book), blocks_of(0, 1, [*documents, record(9, published_at=START_MS + 9_000_000)], []))
    closed = {key[1:]: said for key, said in spans(outputs).items() if key[0] == "all"}
    first_end, second_end = format_rfc3339(START_MS + 60_000), format_rfc3339(START_MS + 120_000)
    story = {
        "first": format_rfc3339(START_MS + 1_000),
        "last": format_rfc3339(START_MS + 1_000),
        "strongest": ["story"],
    }
    nothing = {"first": None, "last": None, "strongest": []}
    assert closed[first_end, "pane"] == closed[first_end, "1m"] == closed[first_end, "10m"] == story
    assert closed[second_end, "pane"] == closed[second_end, "1m"] == nothing
    assert closed[second_end, "10m"] == story
    assert closed[format_rfc3339(START_MS + 1_920_000), "10m"]["strongest"] == ["far"]


@pytest.mark.properties
@given(st.randoms(use_true_random=False), st.sampled_from([(1, 2, 7), (3,), (2, 40)]))
@settings(max_examples=examples(150), deadline=None)
def test_ties_go_to_the_story_that_came_first(random: Any, lengths: tuple[int, ...]) -> None:
    store = StrongestTexts(lengths)
    told: list[tuple[int, int, float, int]] = []
    pane = 100
    for _ in range(60):
        pane += random.choice([1, 1, 1, 2, 5, 50 if random.random() < 0.1 else 1])
        series = sorted(random.sample(range(12), random.randint(1, 4)))
        row, text, negative = [], [], []
        number = told[-1][1] + 1 if told else 0
        for place, name in enumerate(series):
            new = [(number + step, random.choice([0.0, 0.25, 0.5, 0.75, 1.0])) for step in range(random.randint(0, 5))]
            number += len(new)
            told += [(pane, each, p, name) for each, p in new]
            for each, p in sorted(new, key=lambda pair: (-pair[1], pair[0])):
                row.append(place)
                text.append(each)
                negative.append(p)
        best = store.add(
            pane, np.array(series), np.array(row, np.int64), np.array(text, np.int64), np.array(negative, np.float32)
        )
        for window, length in enumerate(lengths):
            for place, name in enumerate(series):
                inside = [each for each in told if each[3] == name and each[0] > pane - length]
                worst = [each[1] for each in sorted(inside, key=lambda each: (-each[2], each[1]))[:STRONGEST]]
                assert best[window, place].tolist() == worst + [-1] * (STRONGEST - len(worst))
