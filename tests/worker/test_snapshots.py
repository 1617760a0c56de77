"""States in a table that is written piece by piece, by workers that crash, wake up again and overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.worker.snapshots import (
    PIECE_BYTES,
    Manifest,
    SnapshotError,
    SnapshotWriter,
    Writes,
    decode_manifest,
    encode_manifest,
    highest_epoch,
    newest_state,
)

Table = dict[bytes, bytes]
Log = list[tuple[bytes, bytes | None]]


def written(writes: Writes) -> Log:
    """The changelog records of a snapshot, in the order in which they become durable."""
    return [*writes.pieces, writes.manifest, *((key, None) for key in writes.removals)]


def applied(log: Log) -> Table:
    """The table that a changelog restores."""
    table: Table = {}
    for key, value in log:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    return table


def save(writer: SnapshotWriter, chunks: dict[str, bytes], next_offset: int, log: Log) -> Writes:
    writes = writer.plan(chunks, next_offset, list(applied(log)))
    log += written(writes)
    writer.done()
    return writes


def test_a_state_comes_back_as_it_was_written() -> None:
    log: Log = []
    chunks = {"head": b"h", "empty": b"", "large": bytes(range(256)) * 5000}
    save(SnapshotWriter("main", epoch=1, settings="s"), chunks, 17, log)
    restored, problems = newest_state(applied(log), "main")
    assert restored is not None
    assert (restored.chunks, restored.manifest.next_offset, problems) == (chunks, 17, [])
    assert max(len(value or b"") for _, value in log) <= PIECE_BYTES + 1


def test_only_what_changed_is_written_again() -> None:
    log: Log = []
    writer = SnapshotWriter("main", epoch=1, settings="s")
    old = bytes(2_000_000)
    save(writer, {"head": b"1", "old": old}, 1, log)
    assert save(writer, {"head": b"2", "old": old}, 2, log).piece_bytes < 10


def test_chunks_that_nothing_refers_to_any_more_are_removed() -> None:
    log: Log = []
    writer = SnapshotWriter("main", epoch=1, settings="s")
    for number in range(20):
        save(writer, {"head": str(number).encode()}, number, log)
    assert len(applied(log)) == 2


def test_a_successor_clears_away_its_predecessors() -> None:
    log: Log = []
    save(SnapshotWriter("main", epoch=1, settings="s"), {"head": b"1"}, 1, log)
    successor = SnapshotWriter("main", epoch=highest_epoch(applied(log), "main") + 1, settings="s")
    save(successor, {"head": b"2"}, 2, log)
    assert {key.split(b"/")[1].decode() for key in applied(log)} == {successor.writer}


def test_books_do_not_touch_each_other() -> None:
    log: Log = []
    save(SnapshotWriter("main", epoch=1, settings="s"), {"head": b"m"}, 1, log)
    save(SnapshotWriter("main2", epoch=7, settings="s"), {"head": b"m2"}, 9, log)
    restored, _ = newest_state(applied(log), "main")
    assert restored is not None
    assert restored.chunks == {"head": b"m"}
    assert highest_epoch(applied(log), "main") == 1


@pytest.mark.parametrize("damage", ["flip", "drop", "manifest"])
def test_a_damaged_state_is_named_and_the_one_before_it_is_used(damage: str) -> None:
    log: Log = []
    save(SnapshotWriter("main", epoch=1, settings="s"), {"head": b"old"}, 1, log)
    kept = dict(log)
    later: Log = []
    writer = SnapshotWriter("main", epoch=2, settings="s")
    save(writer, {"head": b"new"}, 2, later)
    table = {**kept, **applied(later)}
    piece = next(key for key in table if writer.writer.encode() in key and not key.endswith(b"manifest"))
    manifest = next(key for key in table if writer.writer.encode() in key and key.endswith(b"manifest"))
    if damage == "flip":
        table[piece] = b"\0" + b"nex"
    elif damage == "drop":
        del table[piece]
    else:
        table[manifest] = table[manifest][:-1] + b"!"
    restored, problems = newest_state(table, "main")
    assert restored is not None
    assert restored.chunks == {"head": b"old"}
    assert len(problems) == 1
    assert writer.writer in problems[0]


def test_a_manifest_of_another_format_is_refused_by_its_number() -> None:
    manifest = Manifest("main", 1, "00000001-aa", 5, "s", {}, format=99)
    with pytest.raises(SnapshotError, match="format 99"):
        decode_manifest(encode_manifest(manifest))


@pytest.mark.properties
@given(st.data())
def test_wherever_the_changelog_ends_no_committed_digest_is_lost(data: st.DataObject) -> None:
    """Writers come and go; some are zombies that go on writing between the records of their successors.

    A state at offset n is the text of n, so that a state mixed of two is seen. A writer commits only after its
    records are in the log; whoever restores from any later prefix of the log must find at least that offset.
    """
    log: Log = []
    writers: list[tuple[SnapshotWriter, int, list[tuple[bytes, bytes | None]], int]] = []
    committed: list[tuple[int, int]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["take over", "snapshot", "step", "step", "step"]))
        if action == "take over" or not writers:
            table = applied(log)
            restored, _ = newest_state(table, "main")
            offset = 0 if restored is None else restored.manifest.next_offset
            check(restored, committed)
            writer = SnapshotWriter("main", epoch=highest_epoch(table, "main") + 1, settings="s")
            writers.append((writer, offset, [], 0))
            continue
        place = data.draw(st.integers(max(0, len(writers) - 3), len(writers) - 1))
        writer, offset, pending, target = writers[place]
        if action == "snapshot" and not pending:
            target = offset + data.draw(st.integers(1, 4))
            pending = written(writer.plan(state(target), target, list(applied(log))))
        elif pending:
            steps = data.draw(st.integers(1, len(pending)))
            log += pending[:steps]
            pending = pending[steps:]
            if not pending:
                writer.done()
                offset = target
                if place == len(writers) - 1:
                    committed.append((len(log), offset))
        writers[place] = (writer, offset, pending, target)
    for end in range(len(log) + 1):
        restored, _ = newest_state(applied(log[:end]), "main")
        check(restored, [(at, offset) for at, offset in committed if at <= end])


def state(offset: int) -> dict[str, bytes]:
    return {"head": str(offset).encode(), "even": str(offset // 2).encode(), "slow": str(offset // 8).encode()}


def check(restored: object, committed: list[tuple[int, int]]) -> None:
    from streamer.worker.snapshots import Restored

    highest = max((offset for _, offset in committed), default=0)
    if restored is None:
        assert highest == 0
        return
    assert isinstance(restored, Restored)
    assert restored.manifest.next_offset >= highest
    assert restored.chunks == state(restored.manifest.next_offset)
