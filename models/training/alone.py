"""One process at a time in a directory of a training run or a search."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.training.recipe import RecipeError

LOCK = ".lock"


@contextmanager
def alone(directory: Path, what: str) -> Iterator[None]:
    """Hold the directory for this process; one that dies lets go of it.

    It is made where it is missing, and gone again where nothing was put there before an error. Raises RecipeError where
    another process holds it; `what` says what that does.
    """
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecipeError(
                f"another {what} is running in {directory}; wait until it has ended, or choose another directory"
            ) from error
        try:
            yield
        except BaseException:
            if is_new and [each.name for each in directory.iterdir()] == [LOCK]:
                (directory / LOCK).unlink()
                directory.rmdir()
            raise
