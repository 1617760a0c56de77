"""Reading a training recipe: an unknown key or a value of the wrong type is a RecipeError that says where."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import get_args

import msgspec
import yaml
from msgspec import Struct

from models.bundle import SENTIMENT_LABELS, TEXT_FIELDS, control_characters
from models.training.recipe import Recipe, RecipeError

_EXPONENT = re.compile(r"([-+]?\d+(?:\.\d*)?)[eE]([-+]?)(\d+)")


def load_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file. Raises RecipeError where it cannot be read or does not make sense."""
    return parse_recipe(read_recipe(path), str(path))


def read_recipe(path: Path) -> object:
    """What a YAML file says, not checked. Raises RecipeError where it cannot be read."""
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        odd = f"0x{error.object[error.start]:02x}"
        raise RecipeError(f"{path}: expected UTF-8, found the byte {odd}; save the file in UTF-8") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    return content


def parse_recipe(content: object, where: str = "recipe") -> Recipe:
    """A recipe out of plain data. Raises RecipeError."""
    try:
        recipe = msgspec.convert(content, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{where}: {error}{_nearest(str(error))}{_as_number(str(error), content)}") from error
    names = [task.name for task in recipe.tasks]
    if len(set(names)) != len(names):
        raise RecipeError(f"{where}: a task name is used twice: {', '.join(names)}")
    if recipe.distillation is not None and recipe.distillation.teacher and recipe.distillation.teachers:
        raise RecipeError(f"{where}: distillation has both `teacher` and `teachers`; leave one of them out")
    for task in recipe.tasks:
        if len({label.casefold() for label in task.labels}) != len(task.labels):
            raise RecipeError(f"{where}: task {task.name!r} lists a label twice (case does not count)")
        if not any(source.use == "train" for source in task.sources):
            raise RecipeError(f"{where}: task {task.name!r} has no source to train on (use: train)")
        own = task.class_weights if isinstance(task.class_weights, dict) else {}
        for label in own:
            if label not in task.labels:
                raise RecipeError(
                    f"{where}: class_weights of {task.name!r} has {label!r}, which is none of its labels: "
                    + ", ".join(task.labels)
                )
        for source in task.sources:
            if bool(source.path) == bool(source.dataset):
                raise RecipeError(f"{where}: a source of {task.name!r} needs either `path` or `dataset`")
            for label in source.labels.values():
                if label not in task.labels:
                    raise RecipeError(
                        f"{where}: {source.path or source.dataset} maps to {label!r}, "
                        f"which is not a label of {task.name!r}: " + ", ".join(task.labels)
                    )
    _check_for_bundle(recipe, where)
    return recipe


def _check_for_bundle(recipe: Recipe, where: str) -> None:
    """Raise RecipeError for what no bundle may say, which an export would find hours later."""
    if not recipe.languages:
        raise RecipeError(f"{where}: languages is empty; name one at least, such as en")
    for task in recipe.tasks:
        if set(task.labels) == set(SENTIMENT_LABELS) and task.labels != SENTIMENT_LABELS:
            raise RecipeError(
                f"{where}: task {task.name!r} orders its labels as {', '.join(task.labels)}; a bundle has them in the "
                f"order {', '.join(SENTIMENT_LABELS)}"
            )
        if "" in task.labels:
            raise RecipeError(f"{where}: task {task.name!r} has an empty label")
    kept = ("name", "base", "tasks", "base_licence", "base_origin", "languages", *TEXT_FIELDS, "licence")
    said = {key: value for key, value in msgspec.to_builtins(recipe).items() if key in kept}
    for entry in said["tasks"]:
        del entry["class_weights"]
        for source in entry["sources"]:
            del source["labels"], source["text"], source["label"]
    for character, field in control_characters(said):
        raise RecipeError(
            f"{where}: {field} has the control character {character}, which no bundle may have; write it in one line "
            "(a line break at the end is that of YAML's `>` and `|`; write `>-` or `|-`)"
        )


def _nearest(message: str) -> str:
    """A hint for an unknown key: the known key nearest to it."""
    if "unknown field" not in message:
        return ""
    wrong = message.split("`")[1]
    known = {field for section in _sections(Recipe) for field in section.__struct_fields__}
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _sections(kind: object) -> set[type[Struct]]:
    """Every section that what is of this type may hold, itself included."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return {kind}.union(*(_sections(field.type) for field in msgspec.structs.fields(kind)))
    return set[type[Struct]]().union(*map(_sections, get_args(kind)))


def _as_number(message: str, content: object) -> str:
    """A hint for a number that YAML reads as text: 2e-5, for want of a point and the exponent's sign."""
    if "got `str`" not in message:
        return ""
    place = re.search(r"at `\$([^`]*)`", message)
    value = content
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", place[1] if place else ""):
        try:
            value = value[int(index) if index else key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return ""
    found = _EXPONENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return ""
    number, sign, power = found.groups()
    point = "" if "." in number else ".0"
    return f"; YAML reads {value} as text, write {number}{point}e{sign or '+'}{power}"
