"""A file of notifications, one JSON per line, each on the disk before it counts as delivered."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from alerts.notifications import Notification
from alerts.sinks.delivery import Stateless, TryLater


class FileSink(Stateless):
    """Appends to `path`; beyond `max_bytes` it becomes `path.1`, of which `keep` numbers are kept (0 bytes: never).

    The file is opened for every line, so another program may move it away at any time and need not tell us.
    """

    kind = "file"

    def __init__(self, path: Path, *, max_bytes: int = 0, keep: int = 5) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    async def deliver(self, notification: Notification) -> None:
        """Append it. Raises TryLater."""
        try:
            await asyncio.to_thread(append_line, self._path, notification.encode(), self._max_bytes, self._keep)
        except OSError as error:
            raise TryLater(f"{self._path}: {error.strerror or error}") from error


def append_line(path: Path, line: bytes, max_bytes: int, keep: int) -> None:
    """Append `line` and make it durable; all of it or nothing. Raises OSError."""
    size = path.stat().st_size if path.exists() else 0
    if max_bytes and size and size + len(line) + 1 > max_bytes:
        _rotate(path, keep)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(descriptor).st_size
        # A crash may have left half a line behind: it must not swallow this one.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line + b"\n"
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(f"only a part of {len(data)} bytes could be written")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if is_new:
        _sync_directory(path.parent)


def _rotate(path: Path, keep: int) -> None:
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    if keep:
        path.replace(path.with_name(f"{path.name}.1"))
    else:
        path.unlink()


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
