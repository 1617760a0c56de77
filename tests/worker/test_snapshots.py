"""States in a table that is written piece by piece, by workers that crash, wake up again and overlap."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.worker.snapshots import (
    PIECE_BYTES,
    Fence,
    Manifest,
    SnapshotError,
    SnapshotWriter,
    Writes,
    decode_manifest,
    encode_manifest,
    highest_epoch,
    newest_state,
    next_epoch,
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
    writer.removed()
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


@pytest.mark.parametrize("reached", ["pieces", "manifest"])
def test_what_failed_snapshots_have_written_is_removed_by_the_next_one_that_goes_through(reached: str) -> None:
    log: Log = []
    writer = SnapshotWriter("main", epoch=1, settings="s")
    save(writer, {"head": b"0", "old": b"old"}, 0, log)
    for number in range(20):
        writes = writer.plan({"head": b"failed %d" % number, "old": b"old", "later": b"later"}, number, [])
        log += writes.pieces
        if reached == "manifest":
            log.append(writes.manifest)
    save(writer, {"head": b"21", "old": b"old", "later": b"later"}, 21, log)
    assert len(applied(log)) == 4
    restored, _ = newest_state(applied(log), "main")
    assert restored is not None
    assert restored.chunks == {"head": b"21", "old": b"old", "later": b"later"}


def test_what_could_not_be_removed_is_removed_later() -> None:
    log: Log = []
    save(SnapshotWriter("main", epoch=1, settings="s"), {"head": b"a predecessor's"}, 0, log)
    writer = SnapshotWriter("main", epoch=2, settings="s")
    inherited = list(applied(log))
    for number in range(3):
        writes = writer.plan({"head": b"%d" % number}, number, inherited)
        log += [*writes.pieces, writes.manifest]
        writer.done()
    assert len(applied(log)) == 2 + 3 + 1
    save(writer, {"head": b"1"}, 4, log)  # which one of those was
    assert len(applied(log)) == 2
    restored, _ = newest_state(applied(log), "main")
    assert restored is not None
    assert restored.chunks == {"head": b"1"}


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


def opened(log: Log, fence: Fence | None) -> SnapshotWriter | None:
    """The writer of a worker that has read the log to its end after it was given `fence`."""
    epoch = next_epoch(applied(log), "main", fence)
    return None if epoch is None else SnapshotWriter("main", epoch=epoch, settings="s", fence=fence)


def begun(log: Log) -> int:
    """The offset from which whoever opens the book now goes on, nothing being wrong with any state."""
    restored, problems = newest_state(applied(log), "main")
    assert not problems
    return 0 if restored is None else restored.manifest.next_offset


def test_a_claim_that_came_late_does_not_lead_a_successor_back_for_days() -> None:
    """A is stopped between reading the table and writing its claim; B fences it off, reads the same table, and watches
    for days. When B dies its successor goes on from B's last state and not from A's claim."""
    log: Log = []
    a, b = opened(log, Fence(7, 0)), opened(log, Fence(7, 1))
    assert a is not None
    assert b is not None
    for offset in (0, 5000):
        save(b, state(offset), offset, log)
        if offset == 0:
            save(a, state(0), 0, log)
    assert begun(log) == 5000


def test_a_worker_that_was_fenced_off_while_it_read_claims_nothing_and_removes_nothing() -> None:
    log: Log = []
    b = opened(log, Fence(7, 1))
    assert b is not None
    save(b, state(3), 3, log)
    assert opened(log, Fence(7, 0)) is None


def test_a_new_producer_id_begins_above_every_epoch_of_the_one_before() -> None:
    log: Log = []
    first = opened(log, Fence(7, 0))
    assert first is not None
    save(first, state(1), 1, log)
    last, renewed = opened(log, Fence(7, 32767)), opened(log, Fence(4, 0))
    assert last is not None
    assert renewed is not None
    assert renewed.epoch > last.epoch > first.epoch


def test_a_state_of_the_format_before_is_gone_on_from() -> None:
    log: Log = []
    old = SnapshotWriter("main", epoch=12, settings="s")
    *pieces, (key, manifest) = written(old.plan(state(9), 9, []))
    assert manifest is not None
    fields = {name: value for name, value in msgspec.json.decode(manifest[32:]).items() if name != "fence"}
    body = msgspec.json.encode(fields | {"format": 2})
    log += [*pieces, (key, hashlib.sha256(body).digest() + body)]
    assert begun(log) == 9
    successor = opened(log, Fence(7, 3))
    assert successor is not None
    save(successor, state(10), 10, log)
    assert begun(log) == 10
    assert not any(b"/00000012-" in key for key in applied(log))


@dataclass
class Owner:
    """A worker that took the book over, in the order of the fences. `position` is the next digest that it takes,
    `durable` the offset of its last state whose manifest is in the table."""

    fence: Fence | None
    writer: SnapshotWriter | None = None
    position: int = 0
    pending: Log = field(default_factory=list)
    target: int = 0
    durable: int | None = None

    @property
    def claimed(self) -> bool:
        return self.writer is not None and self.writer.has_written


@pytest.mark.properties
@pytest.mark.parametrize("broker", ["fences", "knows no fences"])
@given(st.data())
def test_whoever_takes_over_begins_where_what_was_produced_last_was_written_down(
    broker: str, data: st.DataObject
) -> None:
    """Workers come and go; some are zombies that open the book or write states between the records of their successors.

    A state at offset n is the text of n, so that a state mixed of two is seen. Only the last to have fenced the others
    off produces, and only once its claim is durable; each digest writes one record under the same key. Whoever takes
    over must begin at most one digest after the last record, or the key would keep an old one for ever; and where the
    broker fences, at the last state of the last worker that laid its claim, or old digests would be wanted again.
    """
    log: Log = []
    owners: list[Owner] = []
    produced = fences = 0
    producer_id = 7
    for _ in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["fence", "open", "take", "take", "snapshot", "step", "step", "step"]))
        if action == "fence" or not owners:
            owners.append(Owner(Fence(producer_id, fences) if broker == "fences" else None))
            fences += data.draw(st.integers(1, 3))  # a transaction that timed out uses one up as well
            continue
        owner = owners[data.draw(st.integers(max(0, len(owners) - 3), len(owners) - 1))]
        if action == "open" and owner.writer is None:
            owner.writer = opened(log, owner.fence)
            if owner.writer is None:
                assert owner is not owners[-1]
                owners.remove(owner)
                continue
            begin = begun(log)
            if owner is owners[-1]:
                assert begin <= produced
                if broker == "fences":
                    assert begin == next((each.durable for each in reversed(owners) if each.durable is not None), 0)
            owner.position = owner.target = begin
            owner.pending = written(owner.writer.plan(state(begin), begin, list(applied(log))))
        elif action == "take" and owner is owners[-1] and owner.claimed:
            owner.position += 1
            produced = owner.position
        elif action == "snapshot" and owner.claimed and not owner.pending and owner.writer is not None:
            owner.target = owner.position
            owner.pending = written(owner.writer.plan(state(owner.target), owner.target, list(applied(log))))
        elif action == "step" and owner.pending and owner.writer is not None:
            steps = data.draw(st.integers(1, len(owner.pending)))
            log += owner.pending[:steps]
            if any(key.endswith(b"/manifest") and value is not None for key, value in owner.pending[:steps]):
                owner.durable = owner.target
            owner.pending = owner.pending[steps:]
            if not owner.pending:
                owner.writer.done()
                owner.writer.removed()


def state(offset: int) -> dict[str, bytes]:
    return {"head": str(offset).encode(), "even": str(offset // 2).encode(), "slow": str(offset // 8).encode()}
