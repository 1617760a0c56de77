"""Labelled texts of a recipe's tasks, read from its sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from models.labelled import read_labelled
from models.training.recipe import RecipeError, Source, Task


class Example(NamedTuple):
    """A text, the index of its label in the task, and the source it came from."""

    text: str
    label: int
    source: Source


def read_source(task: Task, source: Source, roots: dict[str, Path], say: Callable[[str], None]) -> list[Example]:
    """All labelled texts of one source, in file order; `roots` says where "data" and "recipe" lie.

    A source that is only measured on may be missing, which is said: it then has no texts. Raises RecipeError where any
    other is, and LabelledError, naming file and row, where a column is missing or a label unknown.
    """
    if source.dataset:
        return [e for file in hub_files(source) for e in _read(file, task, source)]
    root = roots[source.root]
    try:
        files = sorted(root.glob(source.path)) if "*" in source.path else [root / source.path]
    except (ValueError, NotImplementedError) as error:
        raise RecipeError(f"{source.path} is no pattern of files below {root}: {error}") from error
    files = [file for file in files if file.is_file()]
    if not files and source.use == "measure":
        say(f"{task.name}: {root / source.path} does not exist, so nothing is measured on it")
    elif not files:
        remedy = "give the data directory with --data" if source.root == "data" else "it is to lie beside the recipe"
        raise RecipeError(f"{root / source.path} does not exist; {remedy}")
    return [example for file in files for example in _read(file, task, source)]


def hub_files(source: Source) -> list[Path]:
    """The Parquet files of a Hugging Face data set, downloaded or from the hub's cache. Raises RecipeError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = f"{source.config}/{source.split}/*.parquet"
    try:
        found = snapshot_download(
            source.dataset, repo_type="dataset", revision=source.revision, allow_patterns=[wanted]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise RecipeError(f"dataset {source.dataset} cannot be had from the Hugging Face hub: {error}") from error
    files = sorted(Path(found).glob(wanted))
    if not files:
        raise RecipeError(f"dataset {source.dataset} has no {wanted} in {source.revision}; set `config` and `split`")
    return files


def _read(file: Path, task: Task, source: Source) -> list[Example]:
    hint = 'the source\'s `labels: {{"{}": LABEL}}`'
    read = read_labelled(file, task.labels, text=source.text, label=source.label, names=source.labels, hint=hint)
    return [Example(text, int(label), source) for text, label in zip(read.texts, read.truth, strict=True)]
