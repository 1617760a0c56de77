"""A book's state in a key-value table whose writes are not atomic, may repeat, and may come from zombies.

A state is a set of named chunks. Each is stored under the hash of its content, cut into pieces, and a manifest
that lists them is written last:

    main/00000003-5fe01c22/4be1...e0/0     a piece of a chunk
    main/00000003-5fe01c22/4be1...e0/1     the next piece
    main/00000003-5fe01c22/manifest        digest offset, chunk names, hashes, checksum

Every worker that takes a book over becomes a new writer with an epoch and a random name of its own, and writes a full
copy under it. Epochs rise in the order in which the workers fenced each other off, whenever they then come to read and
write (`next_epoch`). A writer removes only its own pieces, and those of lower epochs once its own manifest is durable.
So nobody can pull a piece from under a manifest of a higher epoch.

Every complete manifest is a right state, since a state is a function of the digests before its offset. Which one to
go on from is decided by what was *produced*. The records of an alert share a key, and the last one written counts; a
worker that goes on from a lower offset than its predecessor writes early records of an alert again, and whoever
follows must not begin after them. So a worker that takes a book over

1. fences its predecessors off: from here on they produce nothing (`publishing.FencedPublisher`),
2. reads the table to its end, and chooses the manifest of the highest epoch (of several, the lowest offset),
3. writes its own manifest with that state (its claim), and only then produces.

Whoever produced had written its claim before, and its successor sees it, since it was fenced before the table was
read. Manifests that those write who were fenced off have a lower epoch, however late they come: none can lead its
successors past what was produced again, and none can lead them back to an old state.

A broker without transactions fences nobody and orders nothing. There the epoch is the next one that the table does not
show, two that open a book at once may have the same, and the lower offset is the safe one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

FORMAT: Final = 3
_FORMATS: Final = (2, 3)
"""Formats that are read. The one before says nothing of fences."""
EMPTY: Final = -1
PIECE_BYTES: Final = 512 * 1024
_MANIFEST: Final = b"manifest"
_CHECKSUM_BYTES: Final = 32
_FENCES: Final = 1 << 15
"""How many fences a producer id has: its epochs are int16."""


class SnapshotError(Exception):
    """A stored state that this version cannot use."""


class Fence(NamedTuple):
    """What the broker gives whoever fences its predecessors off (KIP-98): a producer id, and an epoch that rises with
    every fence under that id. It gives a new id when the epochs are used up or the old one has expired."""

    producer_id: int
    producer_epoch: int


class ChunkEntry(msgspec.Struct, frozen=True, array_like=True):
    """Where a chunk lies: `hash` of its content, number of `pieces`, `length` in bytes."""

    hash: str
    pieces: int
    length: int


class Manifest(msgspec.Struct, frozen=True):
    """What a complete state consists of. `next_offset` is the first digest offset that it does not contain, -1
    (`EMPTY`) where it contains none. `fence` is its writer's, None where the broker knows none."""

    book: str
    epoch: int
    writer: str
    next_offset: int
    settings: str
    chunks: dict[str, ChunkEntry]
    format: int = FORMAT
    fence: Fence | None = None


class Restored(NamedTuple):
    """The state to go on from. `problems` names states before it in order that could not be used."""

    manifest: Manifest
    chunks: dict[str, bytes]
    problems: list[str]


class Writes(NamedTuple):
    """What one snapshot writes, in three steps that must each be durable before the next begins.

    `pieces` can be gone through once, each made when it is asked for; `piece_bytes` is how large they are.
    """

    pieces: Iterator[tuple[bytes, bytes]]
    piece_bytes: int
    manifest: tuple[bytes, bytes]
    removals: list[bytes]


class SnapshotWriter:
    """Writes the snapshots of one book as one writer, whose `epoch` is that of `next_epoch` for its `fence`.

    `settings` is a fingerprint of the configuration that shapes the state; a state of other settings is refused.
    """

    def __init__(self, book: str, *, epoch: int, settings: str, fence: Fence | None = None) -> None:
        self.book = book
        self.epoch = epoch
        self.fence = fence
        self.writer = f"{epoch:08d}-{secrets.token_hex(4)}"
        self._settings = settings
        self._planned: dict[str, ChunkEntry] = {}
        self._durable: dict[str, ChunkEntry] = {}
        self._written: dict[str, ChunkEntry] = {}
        """Every chunk that may have pieces in the table: those of plans that failed too, until they are removed."""
        self.has_written = False
        """Whether a state of this writer is durable."""

    def plan(self, chunks: Mapping[str, bytes], next_offset: int, table_keys: Iterable[bytes]) -> Writes:
        """Say what to write for a state. `table_keys` are the keys that the table holds now."""
        entries = {name: _entry(data) for name, data in chunks.items()}
        new = {entry.hash: (entry, name) for name, entry in entries.items() if entry.hash not in self._durable}
        pieces = (piece for entry, name in new.values() for piece in self._pieces(entry, chunks[name]))
        size = sum(entry.length + entry.pieces for entry, _ in new.values())
        manifest = Manifest(self.book, self.epoch, self.writer, next_offset, self._settings, entries, fence=self.fence)
        wanted = {entry.hash for entry in entries.values()}
        removals = [
            self._key(entry.hash, piece)
            for entry in self._written.values()
            if entry.hash not in wanted
            for piece in range(entry.pieces)
        ]
        removals += [key for key in table_keys if _is_of_lower_epoch(key, self.book, self.epoch)]
        self._planned = {entry.hash: entry for entry in entries.values()}
        self._written |= self._planned
        return Writes(pieces, size, (self._manifest_key(), encode_manifest(manifest)), removals)

    def done(self) -> None:
        """Say that the manifest of the last plan is durable."""
        self._durable = self._planned
        self.has_written = True

    def removed(self) -> None:
        """Say that its removals are durable too; till then each plan has them again."""
        self._written = dict(self._durable)

    def _pieces(self, entry: ChunkEntry, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        for piece in range(entry.pieces):
            part = data[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES]
            yield self._key(entry.hash, piece), b"\0" + part

    def _key(self, content: str, piece: int) -> bytes:
        return f"{self.book}/{self.writer}/{content}/{piece}".encode()

    def _manifest_key(self) -> bytes:
        return f"{self.book}/{self.writer}/".encode() + _MANIFEST


def _entry(data: bytes) -> ChunkEntry:
    return ChunkEntry(_content_hash(data), max(1, -(-len(data) // PIECE_BYTES)), len(data))


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest with its checksum in front."""
    body = msgspec.json.encode(manifest)
    return hashlib.sha256(body).digest() + body


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in `data`. Raises SnapshotError where it is damaged or of another format."""
    body = data[_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != data[:_CHECKSUM_BYTES]:
        raise SnapshotError("the manifest does not match its checksum")
    found = msgspec.json.decode(body).get("format")
    if found not in _FORMATS:
        raise SnapshotError(f"the state has format {found}, this version reads format {FORMAT}")
    return msgspec.json.decode(body, type=Manifest)


def highest_epoch(keys: Iterable[bytes], book: str) -> int:
    """The highest writer epoch that the table holds for a book; 0 when it holds none."""
    return max((epoch for key in keys if (epoch := _epoch_of(key, book)) is not None), default=0)


def next_epoch(table: Mapping[bytes, bytes], book: str, fence: Fence | None) -> int | None:
    """The epoch of whoever has fenced its predecessors off and then read the table; None where one that fenced it off
    in turn has written a manifest already.

    Within a producer id epochs are as far apart as the fences are, so that two who do not see each other's manifests
    are in the order of their fences too. A new id begins above all that the one before can have had.
    """
    highest = highest_epoch(table, book)
    if fence is None:
        return highest + 1
    for manifest in _manifests(table, book)[0]:
        if manifest.fence is not None and manifest.fence.producer_id == fence.producer_id:
            ahead = fence.producer_epoch - manifest.fence.producer_epoch
            return manifest.epoch + ahead if ahead > 0 else None
    return highest + _FENCES + fence.producer_epoch


def belongs_to(key: bytes, book: str) -> bool:
    """Whether a table key is part of the state of a book."""
    return _epoch_of(key, book) is not None


def is_manifest(key: bytes) -> bool:
    """Whether a table key is that of a manifest, not of a piece."""
    return key.endswith(b"/" + _MANIFEST)


def newest_state(table: dict[bytes, bytes], book: str) -> tuple[Restored | None, list[str]]:
    """The complete state to go on from (see above), and what is wrong with those that cannot be used.

    In place of one that cannot be used comes the next one in order that is no further on. The pieces that are read are
    taken out of `table`, so that no state is in memory twice.
    """
    manifests, problems = _manifests(table, book)
    furthest: int | None = None
    for manifest in manifests:
        if furthest is not None and manifest.next_offset > furthest:
            continue
        try:
            chunks = _read(table, manifest)
        except SnapshotError as error:
            problems.append(str(error))
            furthest = manifest.next_offset
            continue
        return Restored(manifest, chunks, problems), problems
    return None, problems


def _manifests(table: Mapping[bytes, bytes], book: str) -> tuple[list[Manifest], list[str]]:
    """The manifests of a book, that to go on from first, and what is wrong with those that cannot be read."""
    problems: list[str] = []
    manifests: list[Manifest] = []
    for key in table:
        if belongs_to(key, book) and is_manifest(key):
            try:
                manifests.append(decode_manifest(table[key]))
            except SnapshotError as error:
                problems.append(f"{key.decode()}: {error}")
    return sorted(manifests, key=lambda each: (-each.epoch, each.next_offset)), problems


def _read(table: dict[bytes, bytes], manifest: Manifest) -> dict[str, bytes]:
    """The chunks of a manifest, by name; some may have the same content, which lies there once."""
    prefix = f"{manifest.book}/{manifest.writer}"
    contents: dict[str, bytes] = {}
    for name, entry in manifest.chunks.items():
        if entry.hash in contents:
            continue
        parts = [table.pop(f"{prefix}/{entry.hash}/{piece}".encode(), None) for piece in range(entry.pieces)]
        if any(part is None for part in parts):
            raise SnapshotError(f"{prefix}: chunk {name!r} is not complete")
        data = b"".join(memoryview(part)[1:] for part in parts if part is not None)
        if len(data) != entry.length or _content_hash(data) != entry.hash:
            raise SnapshotError(f"{prefix}: chunk {name!r} does not match its hash")
        contents[entry.hash] = data
    return {name: contents[entry.hash] for name, entry in manifest.chunks.items()}


def _content_hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _epoch_of(key: bytes, book: str) -> int | None:
    parts = key.split(b"/")
    if len(parts) < 3 or parts[0] != book.encode():
        return None
    epoch = parts[1].partition(b"-")[0]
    return int(epoch) if epoch.isdigit() else None


def _is_of_lower_epoch(key: bytes, book: str, epoch: int) -> bool:
    found = _epoch_of(key, book)
    return found is not None and found < epoch
