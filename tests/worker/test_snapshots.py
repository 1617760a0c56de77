"""States in a table that is written piece by piece, by workers that crash, wake up again and overlap."""

from __future__ import annotations

from dataclasses import dataclass, field

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


def test_a_state_of_one_that_was_fenced_off_is_not_taken_up_past_its_successor() -> None:
    """The alert whose end was lost in a crash run: A is paused with digests 0 to 9 produced and the state after them
    on its way, B begins at 0 again and dies after digest 4, whose record now is the last one of its key."""
    log: Log = []
    a = SnapshotWriter("main", epoch=1, settings="s")
    save(a, state(0), 0, log)
    on_its_way = written(a.plan(state(10), 10, list(applied(log))))
    b = SnapshotWriter("main", epoch=highest_epoch(applied(log), "main") + 1, settings="s")
    claim = written(b.plan(state(0), 0, list(applied(log))))
    for late, early in ((on_its_way, claim), (claim, on_its_way)):
        restored, _ = newest_state(applied([*log, *late, *early]), "main")
        assert restored is not None
        assert (restored.manifest.next_offset, restored.chunks) == (0, state(0))


@dataclass
class Owner:
    """A worker that took the book over, in the order of the fences. `position` is the next digest that it takes."""

    writer: SnapshotWriter | None = None
    position: int = 0
    pending: Log = field(default_factory=list)
    target: int = 0
    claimed: bool = False


@pytest.mark.properties
@given(st.data())
def test_whoever_takes_over_begins_no_later_than_what_was_produced_last(data: st.DataObject) -> None:
    """Workers come and go; some are zombies that go on writing states between the records of their successors.

    A state at offset n is the text of n, so that a state mixed of two is seen. Only the last to have fenced the others
    off produces, and only once its claim is durable; each digest writes one record under the same key. Whoever takes
    over must begin at most one digest after the last record, or the key would keep an old one for ever.
    """
    log: Log = []
    owners: list[Owner] = []
    produced = 0
    for _ in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["fence", "open", "take", "take", "snapshot", "step", "step", "step"]))
        if action == "fence" or not owners:
            owners.append(Owner())
            continue
        owner = owners[data.draw(st.integers(max(0, len(owners) - 3), len(owners) - 1))]
        if action == "open" and owner.writer is None:
            table = applied(log)
            restored, _ = newest_state(table, "main")
            begin = 0 if restored is None else restored.manifest.next_offset
            if owner is owners[-1]:
                assert begin <= produced
            if restored is not None:
                assert restored.chunks == state(begin)
            owner.writer = SnapshotWriter("main", epoch=highest_epoch(table, "main") + 1, settings="s")
            owner.position = owner.target = begin
            owner.pending = written(owner.writer.plan(state(begin), begin, list(table)))
        elif action == "take" and owner is owners[-1] and owner.claimed:
            owner.position += 1
            produced = owner.position
        elif action == "snapshot" and owner.claimed and not owner.pending and owner.writer is not None:
            owner.target = owner.position
            owner.pending = written(owner.writer.plan(state(owner.target), owner.target, list(applied(log))))
        elif action == "step" and owner.pending and owner.writer is not None:
            steps = data.draw(st.integers(1, len(owner.pending)))
            log += owner.pending[:steps]
            owner.pending = owner.pending[steps:]
            if not owner.pending:
                owner.writer.done()
                owner.claimed = True


def state(offset: int) -> dict[str, bytes]:
    return {"head": str(offset).encode(), "even": str(offset // 2).encode(), "slow": str(offset // 8).encode()}
