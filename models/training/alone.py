"""One process at a time in a directory of a training run or a search."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from models.training.recipe import RecipeError

LOCK = ".lock"


@contextmanager
def alone(directory: Path, what: str) -> Iterator[None]:
    """Hold the directory for this process; one that dies lets go of it.

    It is made where it is missing, and taken away again, not what it lies in, where nothing was put there before an
    error. On a file system without locks nobody is kept out. Raises RecipeError where another process holds it; `what`
    says what that does.
    """
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as lock:
        if not _locked(lock) or os.fstat(lock.fileno()).st_nlink == 0:  # the one who made it took it away
            raise RecipeError(
                f"another {what} is running in {directory}; wait until it has ended, or choose another directory"
            )
        try:
            yield
        except BaseException:
            if is_new and [each.name for each in directory.iterdir()] == [LOCK]:
                (directory / LOCK).unlink()
                directory.rmdir()
            raise


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
    return True
