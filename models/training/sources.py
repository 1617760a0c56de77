"""Labelled texts of a recipe's tasks, read from its sources."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from models.labelled import read_labelled
from models.training.recipe import RecipeError, Source, Task


class Example(NamedTuple):
    """A text, the index of its label in the task, and the source it came from."""

    text: str
    label: int
    source: Source


def read_source(task: Task, source: Source, roots: dict[str, Path]) -> list[Example]:
    """All labelled texts of one source, in file order; `roots` says where "data" and "recipe" lie.

    A source that is only measured on may be missing: it then has no texts. Raises RecipeError where any other
    is, and LabelledError, naming file and row, where a column is missing or a label unknown.
    """
    root = roots[source.root]
    files = sorted(root.glob(source.path)) if "*" in source.path else [root / source.path]
    files = [file for file in files if file.is_file()]
    if not files and source.use != "measure":
        raise RecipeError(f"{root / source.path} does not exist; give the data directory with --data")
    examples: list[Example] = []
    for file in files:
        read = read_labelled(file, task.labels, text=source.text, label=source.label, names=source.labels)
        examples += [Example(text, int(label), source) for text, label in zip(read.texts, read.truth, strict=True)]
    return examples
