"""Which keys of a recipe a search may change, to what, and the recipe that comes out."""

from __future__ import annotations

import copy
import difflib
from typing import Any, Literal, NamedTuple

import msgspec

from models.training.recipe import Recipe, RecipeError, SearchRange
from models.training.recipe_file import parse_recipe

Value = int | float | str | bool
_TOP = (
    "base", "pooling", "dropout", "head_dropout", "attention_dropout", "label_smoothing", "epochs", "batch",
    "train_tokens", "sampling", "thinning", "patience",
)  # fmt: skip
_SECTIONS = ("normalisation", "augmentation", "optimiser", "freeze", "lora")
_OF_TASK = ("weight", "class_weights")
_OF_BASE = ("base_revision", "base_sha256", "base_licence", "base_origin")


class Parameter(NamedTuple):
    """One searched key: its range, what kind of value it takes, and what the recipe itself says."""

    key: str
    range: SearchRange
    kind: Literal["int", "float", "choice"]
    own: Value


def parameters(recipe: Recipe, content: dict[str, Any], space: dict[str, SearchRange]) -> list[Parameter]:
    """The searched keys of `recipe`, which `content` is the plain data of, in the order of `space`.

    Raises RecipeError, naming the key, for one that cannot be searched or a range that the recipe would not take.
    """
    values = searchable(recipe)
    return [_parameter(key, found, content, values) for key, found in space.items()]


def searchable(recipe: Recipe) -> dict[str, Value]:
    """Every key that a search may change, with the recipe's own value.

    Left out is what says which texts are learned from and which judge: scores would not compare.
    """
    plain: dict[str, Any] = msgspec.to_builtins(recipe)
    values: dict[str, Value] = {key: plain[key] for key in _TOP}
    for section in _SECTIONS:
        entries = (plain[section] or {}).items()
        values |= {f"{section}.{key}": value for key, value in entries if isinstance(value, Value)}
    for task in plain["tasks"]:
        values |= {f"tasks.{task['name']}.{key}": task[key] for key in _OF_TASK if isinstance(task[key], Value)}
    return values


def with_values(content: dict[str, Any], values: dict[str, Value]) -> dict[str, Any]:
    """The plain data of a recipe with keys set anew, and without its search; with another `base` also without what it
    says of its own one."""
    changed = copy.deepcopy(content)
    changed.pop("search", None)
    if values.get("base", content["base"]) != content["base"]:
        for key in _OF_BASE:
            changed.pop(key, None)
    for key, value in values.items():
        *path, last = key.split(".")
        place: Any = changed
        for step in path:
            if isinstance(place, list):
                place = next(task for task in place if task["name"] == step)
            else:
                place = place.setdefault(step, {})
        place[last] = value
    return changed


def _parameter(key: str, found: SearchRange, content: dict[str, Any], values: dict[str, Value]) -> Parameter:
    where = f"search.space: {key}"
    if key not in values:
        if key.startswith("lora."):
            raise RecipeError(f"{where}: the recipe has no `lora`; add one (`lora: {{}}`) to search its keys")
        close = difflib.get_close_matches(key, values, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"those that can be: {', '.join(values)}"
        raise RecipeError(f"{where} is no key that can be searched; {hint}")
    own = values[key]
    ends = found.choices or (found.low, found.high)
    if (found.low is None) != (found.high is None) or None in ends or (found.choices and found.low is not None):
        raise RecipeError(f"{where} needs `low` and `high`, or `choices`")
    if found.choices and found.log:
        raise RecipeError(f"{where}: `log` goes with `low` and `high`, not with `choices`")
    for value in ends:
        try:
            parse_recipe(with_values(content, {key: value}))  # type: ignore[dict-item]
        except RecipeError as error:
            raise RecipeError(f"{where} cannot be {value!r}: {error}") from error
    if found.choices:
        return Parameter(key, found, "choice", own)
    if isinstance(own, str | bool):
        raise RecipeError(f"{where} takes no numbers; give `choices`")
    low, high = found.low, found.high
    if low is None or high is None or low > high or (found.log and low <= 0):
        raise RecipeError(f"{where}: `low` must be at most `high`, and above 0 with `log`; found {low} and {high}")
    return Parameter(key, found, "int" if isinstance(own, int) else "float", own)
