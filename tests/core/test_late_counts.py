"""How many documents came too late, in every record of every series, against a reference in plain Python."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.model_set import Answer
from streamer.core.blocks import LATE, MAGIC, MISSED, DigestBlock
from streamer.core.documents import Document, DocumentLimits, parse_document
from streamer.core.late_counts import LateCounts
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer
from streamer.core.selection import BookSelection, Selector
from streamer.core.state_chunks import StateError, pack, unpack
from streamer.core.watch import Watch, WatchOutput
from streamer.core.watermark import PartitionClock
from streamer.timestamps import format_duration, parse_rfc3339
from tests.core import worlds
from tests.core.test_watch import watched
from tests.core.worlds import (
    LABELS,
    LATENESS_MS,
    START_MS,
    ChattyDesk,
    answer,
    blocks_of,
    examples,
    new_watch,
    probabilities,
    record,
    restored,
    run,
)

SECTORS = {"AAA": "Energy", "BBB": "Energy", "CCC": "Banks"}
BOOK = worlds.settings(sectors=SECTORS, windows_ms=(120_000, 600_000))
MINUTE_MS = 60_000


def late_documents(world: list[list[SourceRecord]]) -> Counter[tuple[str, int]]:
    """How many late documents each series had in each pane, by reading every partition from its beginning."""
    counts: Counter[tuple[str, int]] = Counter()
    for records in world:
        newest: int | None = None
        for each in records:
            document = parse_document(each.value, record_timestamp_ms=None, limits=DocumentLimits())
            if not isinstance(document, Document):
                continue
            if newest is not None and document.published_at_ms < newest - LATENESS_MS:
                for series in series_of(document):
                    counts[series, (newest - LATENESS_MS) // BOOK.pane_ms] += 1
            newest = max(newest or 0, document.published_at_ms)
    return counts


def series_of(document: Document) -> set[str]:
    topic = f"topic:{LABELS['topic'][int(probabilities([document.scored_text])['topic'][0].argmax())]}"
    companies = {f"company:{symbol}" for symbol in document.symbols}
    sectors = {f"sector:{SECTORS[symbol]}" for symbol in document.symbols}
    return {"all", topic, *companies, *sectors, *(f"{company}|{topic}" for company in companies)}


def records_of(outputs: Iterable[WatchOutput]) -> dict[tuple[str, int], dict[str, Any]]:
    """Every window record by series and pane."""
    written = (orjson.loads(each.value) for output in outputs for each in output.windows())
    return {(row["series"], parse_rfc3339(row["start"]) // BOOK.pane_ms): row for row in written}


@pytest.mark.properties
@given(st.data())
@settings(max_examples=examples(40))
def test_they_are_those_of_a_naive_reference_however_documents_came(data: st.DataObject) -> None:
    world, watch, outputs = watched(data, BOOK)
    expected = late_documents(world)
    written = records_of(outputs)
    for (series, pane), row in written.items():
        assert row["late"] == expected[series, pane]
        for window_ms in BOOK.windows_ms:
            length = window_ms // BOOK.pane_ms
            inside = sum(expected[series, each] for each in range(pane + 1 - length, pane + 1))
            assert row["windows"][format_duration(window_ms / 1000)]["late"] == inside
        assert row["documents"] or row["copies"] or row["late"]
    closed = (watch.watermark_ms or 0) // BOOK.pane_ms
    assert {place for place, count in expected.items() if count and place[1] < closed} <= set(written)


def test_a_pane_with_late_documents_alone_is_told_of_and_is_quiet_to_the_alerts() -> None:
    old = {"published_at": START_MS, "symbols": ["AAA"], "text": "what came too late"}
    records = [record(0), record(1, published_at=START_MS + 10 * MINUTE_MS), record(2, **old), record(3, **old)]
    records.append(record(4, published_at=START_MS + 40 * MINUTE_MS))
    watch, outputs = run(new_watch(BOOK), blocks_of(0, 1, records, []))
    row = records_of(outputs)["company:AAA", (START_MS + 8 * MINUTE_MS) // BOOK.pane_ms]
    assert (row["documents"], row["late"], row["first"], row["strongest"]) == (0, 2, None, [])
    assert row["windows"]["10m"]["late"] == 2
    assert watch.counts.panes == 2
    assert not any("company:AAA" in alert.text for output in outputs for alert in output.alerts)  # type: ignore[attr-defined]


def test_only_the_late_documents_that_a_book_selects_count_in_it() -> None:
    scorer = PartitionScorer(
        "documents",
        0,
        partitions=1,
        books=[BookSelection("main"), BookSelection("wires", Selector.of(sources=["wire"]))],
        clock=PartitionClock(LATENESS_MS),
        limits=DocumentLimits(),
        labels=LABELS,
        model="stand-in-1",
    )
    records = [record(0, published_at=START_MS + 10 * MINUTE_MS), record(1, source="wire"), record(2, source="blog")]
    prepared = scorer.prepare(records)
    said: Answer = answer(prepared.texts)
    blocks = {book: DigestBlock.decode(part[0]) for book, part in scorer.finish(prepared, said).blocks.items()}
    assert len(blocks["main"].late_at_ms) == 2
    assert blocks["wires"].late_at_ms.tolist() == [START_MS + 8 * MINUTE_MS]
    assert blocks["main"].counts == blocks["wires"].counts


@pytest.mark.parametrize("restarted", [False, True])
def test_what_an_idle_partition_brings_too_late_counts_in_the_pane_that_is_open_then(restarted: bool) -> None:
    ahead = blocks_of(0, 2, [record(0, published_at=START_MS), record(1, published_at=START_MS + 15 * MINUTE_MS)], [])
    slow = blocks_of(1, 2, [record(0, id="slow", published_at=START_MS + 1000, symbols=["BBB"])], [])
    more = blocks_of(
        0, 2, [record(offset, published_at=START_MS + (offset * 15) * MINUTE_MS) for offset in range(4)], [2]
    )
    idle = blocks_of(1, 2, [], [])[0]
    blocks = [ahead[0], idle, slow[0], slow[1], *more]
    watch, outputs = run(new_watch(BOOK), blocks, lambda _, old: restored(old) if restarted else old)
    assert watch.counts.too_late == 1
    rows = records_of(outputs)
    assert {place: row["late"] for place, row in rows.items() if row["late"] and "BBB" in place[0]}.keys() == {
        (series, (START_MS + 13 * MINUTE_MS) // BOOK.pane_ms) for series, _ in rows if "BBB" in series
    }
    assert sum(row["late"] for (series, _), row in rows.items() if series == "all") == 1


def test_panes_that_have_left_every_window_are_forgotten() -> None:
    counts = LateCounts((2, 10))
    empty = counts.chunk()
    for pane in range(100):
        said = counts.add(pane, np.array([3, 70]), np.array([1, 0]))
        assert said.tolist() == [[1, 0], [min(2, pane + 1), 0], [min(10, pane + 1), 0]]
    assert len(unpack("late", "late", counts.chunk()).arrays["pane"]) == 10
    counts.add(1000, np.array([3]), np.array([0]))
    assert counts.chunk() == empty


def test_a_damaged_count_is_refused() -> None:
    none = np.empty(0, dtype=np.int32)
    arrays = {"pane": np.array([4]), "size": np.array([2]), "series": none, "count": none}
    with pytest.raises(StateError, match="different lengths"):
        LateCounts((2,)).restore(pack("late", {}, arrays))


def test_a_block_of_the_version_before_is_read_without_the_series_of_its_late_documents() -> None:
    records = [record(0, published_at=START_MS + 10 * MINUTE_MS, symbols=["AAA"]), record(1, symbols=["BBB"])]
    block = blocks_of(0, 1, records, [])[0]
    *header, columns, _ = msgspec.msgpack.decode(block.encode()[9:])
    columns = {name: data for name, data in columns.items() if not name.startswith("late_")}
    fates = np.where(block.fates == MISSED, LATE, block.fates).astype(np.uint8)
    columns |= {"late_at_ms": block.late_at_ms.tobytes(), "fates": fates.tobytes()}
    payload = msgspec.msgpack.encode([*header, columns])
    before = DigestBlock.decode(MAGIC + b"\x02" + zlib.crc32(payload).to_bytes(4, "little") + payload)
    assert before.counts == block.counts
    assert (before.id.texts(), len(before.late_at_ms)) == (["d0"], 0)
    assert before.since(1).counts.late == 1


def test_a_state_of_the_version_before_goes_on_with_no_late_documents() -> None:
    old = record(1, symbols=["AAA"])
    records = [record(0, published_at=START_MS + 10 * MINUTE_MS), old]
    records += [record(offset, published_at=START_MS + offset * 10 * MINUTE_MS) for offset in (2, 3)]
    first, *rest = blocks_of(0, 1, records, [3])
    watch, _ = run(new_watch(BOOK), [first])
    chunks = {name: data for name, data in watch.snapshot().items() if name != "late"}
    head = unpack("head", "head", chunks["head"]).values | {"late": [[START_MS // BOOK.pane_ms, 1]]}
    chunks["head"] = pack("head", head, {})
    _, outputs = run(Watch.restore(BOOK, ChattyDesk(BOOK), chunks), rest)
    row = records_of(outputs)["all", (START_MS + 20 * MINUTE_MS) // BOOK.pane_ms]
    assert (row["documents"] + row["copies"], row["late"]) == (1, 0)
