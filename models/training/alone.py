"""One process at a time in a directory of a training run or a search."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.training.recipe import RecipeError


@contextmanager
def alone(directory: Path, what: str) -> Iterator[None]:
    """Hold the directory, which is made where it is missing, for this process; one that dies lets go of it.

    Raises RecipeError where another process holds it; `what` says what that does.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecipeError(
                f"another {what} is running in {directory}; wait until it has ended, or choose another directory"
            ) from error
        yield
