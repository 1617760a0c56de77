"""The directory of a training run: what it says besides weights, for `export` and for people."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import DataSource, ParentModel
from models.training.cleaning import Split
from models.training.recipe import Recipe, RecipeError, Source, Task, Teacher
from models.training.sources import Example
from models.training.text_keys import keys_of

RECIPE = "recipe.json"
REPORT = "report.json"
CLEANING = "cleaning.json"
DATA = "data.json"
HELD_BACK = "held_back.jsonl"
TEXTS = "texts.sha256"
TEACHERS = "teachers.json"
LEARNED = "learned.keys"


class HeldBack(Struct, frozen=True):
    """A labelled text that was not learned from: of the validation split, or only to be measured on."""

    task: str
    source: str
    use: str
    label: int
    text: str


class TeacherRun(Struct, frozen=True):
    """A finished run that taught a student: what it and its own teachers began with, and the texts of them all."""

    name: str
    parents: tuple[ParentModel, ...]
    data: tuple[DataSource, ...]


def write_run(directory: Path, recipe: Recipe, splits: dict[str, Split]) -> None:
    """Write the recipe, what cleaning found, which data were used, and the texts held back.

    A run that lies there goes on, and is not finished until it is again. Raises RecipeError where it has learned from
    other texts.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not same_texts(directory, digest(splits)):
        raise RecipeError(
            f"{directory} holds a run that was begun with other texts to train on; put the data back as they were, or "
            "choose another directory"
        )
    (directory / REPORT).unlink(missing_ok=True)
    _write(directory / RECIPE, recipe)
    _write(directory / CLEANING, [split.report for split in splits.values()])
    _write(directory / DATA, [entry for task in recipe.tasks for entry in _data(task, splits[task.name])])
    lines = [msgspec.json.encode(row) for task in recipe.tasks for row in _held_back(task, splits[task.name])]
    _put(directory / HELD_BACK, b"\n".join([*lines, b""]))


def digest(splits: dict[str, Split], *, judges: bool = False) -> bytes:
    """A hash of every text to train on with its task and label, in order; with `judges` of those to validate on too."""
    found = hashlib.sha256()
    for task, split in splits.items():
        for example in [*split.train, *(split.validation if judges else ())]:
            found.update(msgspec.json.encode([task, example.label, example.text]))
    return found.hexdigest().encode() + b"\n"


def same_texts(directory: Path, found: bytes) -> bool:
    """Whether `directory` was begun with the texts of this digest, which one that keeps none keeps from now on."""
    begun = directory / TEXTS
    if begun.is_file():
        return begun.read_bytes() == found
    _put(begun, found)
    return True


def record_teachers(directory: Path, teachers: Iterable[TeacherRun]) -> None:
    """Write what the models that teach were made of, for the NOTICE of a bundle; nothing where there are none."""
    found = list(teachers)
    if found:
        _write(directory / TEACHERS, found)
    else:
        (directory / TEACHERS).unlink(missing_ok=True)


def record_learned(directory: Path, texts: Iterable[str], others: Iterable[NDArray[np.uint64]]) -> None:
    """Keep hashes of `texts`, which the run learns, and of those that its teachers have learned (`others`), beside what
    is kept there already."""
    before = read_learned(directory)
    known = [keys_of(texts), *others, *([] if before is None else [before])]
    _put(directory / LEARNED, np.unique(np.concatenate(known)).astype("<u8").tobytes())


def read_learned(directory: Path) -> NDArray[np.uint64] | None:
    """Hashes of the texts that the run in `directory` and its teachers have learned, ascending; None where it has kept
    none."""
    file = directory / LEARNED
    return np.frombuffer(file.read_bytes(), dtype="<u8").astype(np.uint64) if file.is_file() else None


def public_teacher(teacher: TeacherRun) -> TeacherRun:
    """The same without places on this machine."""
    data = tuple(msgspec.structs.replace(each, name=public_file(each.name)) for each in teacher.data)
    return msgspec.structs.replace(teacher, data=data)


def made_of(teachers: Iterable[Path]) -> list[TeacherRun]:
    """What the finished runs in `teachers` were made of. A model without a recipe says no more than its directory's
    name. Raises RecipeError."""
    try:
        return [_teacher_run(teacher) for teacher in teachers]
    except (OSError, msgspec.DecodeError) as error:
        raise RecipeError(f"distillation.teachers: what a teacher was made of cannot be read: {error}") from error


def _teacher_run(directory: Path) -> TeacherRun:
    if not (directory / RECIPE).is_file():
        return TeacherRun(directory.name, (), ())
    recipe = msgspec.json.decode((directory / RECIPE).read_bytes(), type=Recipe)
    parents = [parent_of(each) for each in (recipe, _own_teacher(recipe)) if each is not None]
    data = [*read_data(directory)]
    for earlier in read_teachers(directory):
        parents += earlier.parents
        data += earlier.data
    return TeacherRun(recipe.name, tuple(parents), tuple(data))


def read_data(directory: Path) -> tuple[DataSource, ...]:
    """The data sets that the run in `directory` learned from, judged by or was measured on."""
    return msgspec.json.decode((directory / DATA).read_bytes(), type=tuple[DataSource, ...])


def read_teachers(directory: Path) -> tuple[TeacherRun, ...]:
    """The finished runs that taught the run in `directory`."""
    file = directory / TEACHERS
    return msgspec.json.decode(file.read_bytes(), type=tuple[TeacherRun, ...]) if file.is_file() else ()


def parent_of(recipe: Recipe | Teacher) -> ParentModel:
    """The published model that a recipe or its teacher begins with."""
    return ParentModel(
        name=recipe.base_origin or public_name(recipe.base),
        licence=recipe.base_licence,
        source="" if is_path(recipe.base) else recipe.base,
        revision=recipe.base_revision,
    )


def settled(recipe: Recipe, begun: Recipe | None = None) -> Recipe:
    """The recipe with its base models in absolute directories, which name the same wherever its run is read later.

    `begun` is the recipe of the run where it goes on: a directory that it had counts as one though it has gone since.
    """
    earlier = {each.base for each in (begun, _own_teacher(begun)) if each is not None}
    teaching = recipe.distillation
    if teaching is not None and teaching.teacher is not None:
        teacher = msgspec.structs.replace(teaching.teacher, base=_absolute(teaching.teacher.base, earlier))
        teaching = msgspec.structs.replace(teaching, teacher=teacher)
    return msgspec.structs.replace(recipe, base=_absolute(recipe.base, earlier), distillation=teaching)


def _own_teacher(recipe: Recipe | None) -> Teacher | None:
    return recipe.distillation.teacher if recipe is not None and recipe.distillation is not None else None


def _absolute(base: str, earlier: Collection[str]) -> str:
    place = str(Path(base).resolve())
    return place if is_path(base) or place in earlier else base


def begun_recipe(directory: Path) -> Recipe | None:
    """The recipe of the run in `directory`, None where there is none yet."""
    file = directory / RECIPE
    return kept_recipe(file) if file.is_file() else None


def kept_recipe(file: Path) -> Recipe:
    """The recipe that a run or search keeps in `file`. Raises RecipeError where it is none that this version knows."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Recipe)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{file} is damaged, or of another version of Bearwire: {error}; use that version, or choose another "
            "directory"
        ) from error


def members_of(directory: Path, recipe: Recipe) -> list[Path]:
    """Where the run in `directory` keeps the members that it trains."""
    return [directory / f"member-{number}" for number in range(recipe.members)]


def student_of(directory: Path) -> Path:
    """Where the run in `directory` keeps its student."""
    return directory / "student"


def is_path(base: str) -> bool:
    """Whether a base model is named by its place on this machine."""
    return not base.startswith("wheel:") and (Path(base).is_absolute() or base[:1] in ".~" or Path(base).is_dir())


def public_name(base: str) -> str:
    """What a base model may be called in a bundle that others read: never its place on this machine."""
    return Path(base).resolve().name if is_path(base) else base


def public_file(name: str) -> str:
    """What a data set may be called in a bundle that others read: a file never by its place on this machine."""
    outside = Path(name).is_absolute() or ".." in Path(name).parts or name.startswith("~")
    return Path(name).name if outside else name


def finish_run(directory: Path, report: Struct) -> None:
    """Write report.json, the last file of a run: where it lies, the run's model is the one that was asked for."""
    _write(directory / REPORT, report)


def is_finished(directory: Path) -> bool:
    """Whether the run in `directory` went to its end. Its model may lie there before a student has learned from it."""
    return (directory / REPORT).is_file()


def read_held_back(directory: Path) -> tuple[HeldBack, ...]:
    """The texts that a run held back, in the order they were written."""
    lines = (directory / HELD_BACK).read_bytes().splitlines()
    return tuple(msgspec.json.decode(line, type=HeldBack) for line in lines if line)


def group_of(row: HeldBack) -> tuple[str, str, str]:
    """The task, use and source of a held-back text, which are measured together."""
    return row.task, row.use, row.source


def grouped(rows: Iterable[HeldBack]) -> dict[tuple[str, str, str], list[HeldBack]]:
    """Held-back texts by `group_of`, groups and rows in the order in which they come."""
    groups: dict[tuple[str, str, str], list[HeldBack]] = defaultdict(list)
    for row in rows:
        groups[group_of(row)].append(row)
    return dict(groups)


def calibrating(recipe: Recipe | None, task: str, rows: Iterable[HeldBack]) -> list[HeldBack]:
    """Of held-back texts those that a task's temperature is fitted on: the validation texts, without sources whose
    labels the recipe calls less sure, where there are others."""
    validation = [row for row in rows if row.task == task and row.use == "validation"]
    unsure = {
        name_of(source)
        for each in (recipe.tasks if recipe else ())
        for source in each.sources
        if each.name == task and source.label_smoothing is not None
    }
    return [row for row in validation if row.source not in unsure] or validation


def source_name(example: Example) -> str:
    """What people call the data set of an example."""
    return name_of(example.source)


def name_of(source: Source) -> str:
    """What people call a data set."""
    return source.name or source.path or source.dataset


def _held_back(task: Task, split: Split) -> list[HeldBack]:
    rows = [("validation", example) for example in split.validation]
    rows += [("measuring", example) for examples in split.measure.values() for example in examples]
    return [HeldBack(task.name, source_name(e), use, e.label, e.text) for use, e in rows]


def _data(task: Task, split: Split) -> list[DataSource]:
    entries = []
    for source in task.sources:
        counts = {
            "training": sum(e.source is source for e in split.train),
            "validation": sum(e.source is source for e in split.validation),
            "measuring": sum(e.source is source for rows in split.measure.values() for e in rows),
        }
        for use, rows in counts.items():
            if rows:
                entry = {
                    "name": name_of(source),
                    "licence": source.licence,
                    "rows": rows,
                    "use": use,
                    "source": source.origin,
                }
                entries.append(msgspec.convert(entry, DataSource))
    return entries


def _write(file: Path, content: object) -> None:
    _put(file, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def _put(file: Path, content: bytes) -> None:
    """Write the file in one rename: whoever starts after a kill finds all of it or nothing."""
    draft = file.with_name(file.name + ".new")
    draft.write_bytes(content)
    draft.replace(file)
