"""A progress line on a terminal; nothing at all elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_line(total_bytes: int | None) -> Iterator[Callable[[int, str], None]]:
    """Gives a function that shows how many bytes are done, and some words, on standard error."""
    if not sys.stderr.isatty():
        yield lambda done, words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%") if total_bytes else TextColumn(""),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn() if total_bytes else TextColumn(""),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=total_bytes, words="")
        yield lambda done, words: bar.update(task, completed=done, words=words)
