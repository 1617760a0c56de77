"""What a teacher says of texts (soft labels), in a file that a later run can learn from in the teacher's place.

answers.safetensors   `.key` uint8[8, texts]; for every task uint8[texts, labels]; in the metadata their origin

Keys ascend, and each is written as its distance to the one before, all first bytes before all second ones: in a packed
file that saves the bits which their order tells. Files of before have them as they are, uint64[texts].

A text is named by a hash, so the file holds none. An answer is the logarithm of a probability in eighths of a nat:
31 bytes a text for 23 labels. At the temperature that was asked for, a probability comes back within 14 %, those below
1e-13 apart; at a lower one the error grows as the temperature falls. Two teachers trained alike differ by far more.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.training.recipe import RecipeError, Teacher
from models.training.run import TeacherRun
from models.training.text_keys import keys_of

KEY = ".key"
STEP = 1 / 8
"""Nats between two answers that can be told apart."""


class Origin(Struct, frozen=True, kw_only=True):
    """Whose answers they are: the labels of every task, what the logits were divided by, and which models gave them.

    `teacher` is how a run trained its own, its base without a place, or None where others taught. `step` is what the
    answers are multiples of, in nats; files of before it was written have sixteenths.
    """

    labels: dict[str, tuple[str, ...]]
    temperature: float
    teacher: Teacher | None
    models: tuple[TeacherRun, ...]
    step: float = 1 / 16


class Answers(NamedTuple):
    """Answers to texts by the hash of each, ascending: `said` uint8[texts, labels] per task, in steps below 1."""

    keys: NDArray[np.uint64]
    said: dict[str, NDArray[np.uint8]]
    origin: Origin

    def of(self, texts: Sequence[str], temperature: float) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """What was said of `texts`, as probabilities float32[texts, labels] per task whose logits are divided by
        `temperature`; and which texts have an answer. The rows of others are even over the labels."""
        wanted = keys_of(texts)
        at = np.minimum(np.searchsorted(self.keys, wanted), max(len(self.keys) - 1, 0))
        known = self.keys[at] == wanted if len(self.keys) else np.zeros(len(texts), np.bool_)
        found = {}
        for task, said in self.said.items():
            logits = np.zeros((len(texts), said.shape[1]))
            logits[known] = said[at[known]] * (-self.origin.step * self.origin.temperature / temperature)
            chances = np.exp(logits)
            found[task] = (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)
        return found, known


def answers_to(texts: Sequence[str], probabilities: Mapping[str, NDArray[np.floating]], origin: Origin) -> Answers:
    """Answers out of probabilities float[texts, labels] per task, softened by the origin's temperature."""
    keys, first = np.unique(keys_of(texts), return_index=True)
    said = {}
    for task, each in probabilities.items():
        with np.errstate(divide="ignore"):
            steps = -np.log(each[first].astype(np.float64)) / origin.step
        said[task] = np.clip(np.rint(steps), 0, 255).astype(np.uint8)
    return Answers(keys, said, origin)


def same_answers(one: Answers, other: Answers) -> bool:
    """Whether both say the same of the same texts."""
    return (
        one.origin == other.origin
        and np.array_equal(one.keys, other.keys)
        and all(np.array_equal(said, other.said[task]) for task, said in one.said.items())
    )


def write_answers(file: Path, answers: Answers) -> None:
    """Write the file in one rename, and its directory where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    steps = np.diff(answers.keys, prepend=np.uint64(0)).astype(">u8")
    tensors = {KEY: steps.view(np.uint8).reshape(-1, 8).T, **answers.said}
    save_file(
        {name: np.ascontiguousarray(each) for name, each in tensors.items()},
        draft,
        metadata={"origin": msgspec.json.encode(answers.origin).decode()},
    )
    draft.rename(file)


def read_answers(file: Path) -> Answers:
    """The answers in a file, packed where it is called .gz or .xz. RecipeError where it is none, or cut short."""
    try:
        with _plain(file) as plain, safe_open(plain, framework="numpy") as opened:
            origin = msgspec.json.decode((opened.metadata() or {}).get("origin", "null"), type=Origin)
            said = {task: opened.get_tensor(task) for task in origin.labels}
            keys = opened.get_tensor(KEY)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, SafetensorError, msgspec.DecodeError) as error:
        raise RecipeError(f"{file} holds no answers of a teacher that a run has kept: {error}") from error
    if keys.dtype == np.uint8 and keys.ndim == 2 and len(keys) == 8:
        keys = np.cumsum(np.ascontiguousarray(keys.T).view(">u8")[:, 0], dtype=np.uint64)
    if keys.dtype != np.uint64 or keys.ndim != 1 or (keys[1:] <= keys[:-1]).any():
        raise RecipeError(f"{file} has keys that are no ascending hashes of texts")
    for task, labels in origin.labels.items():
        if said[task].shape != (len(keys), len(labels)) or said[task].dtype != np.uint8:
            raise RecipeError(f"{file} has other answers than one byte for every of its texts and labels of {task!r}")
    return Answers(keys, said, origin)


@contextmanager
def _plain(file: Path) -> Iterator[Path]:
    if file.suffix not in (".gz", ".xz"):
        yield file
        return
    with NamedTemporaryFile() as plain:
        with lzma.open(file) if file.suffix == ".xz" else gzip.open(file) as packed:
            shutil.copyfileobj(packed, plain)
        plain.flush()
        yield Path(plain.name)
