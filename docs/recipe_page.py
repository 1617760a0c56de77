"""docs/reference/recipe.md, from the structs of `models.training.recipe`."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args, get_origin

import yaml
from msgspec import NODEFAULT, Struct, to_builtins

from models.training.recipe import Recipe
from streamer.config.tree import Field, expectation, fields_of

_INTRODUCTION = """\
# Training recipe

Made from `models/training/recipe.py` by `make docs`.

What a recipe, a YAML file for `bearwire models train` and `bearwire models search`, may say
([how to train](../models.md#train)). A key that is left out has its default; `{}` is a section with the defaults of its
keys. An unknown key is an error. `[]` stands for each item of a list, `KEY` for each key of a mapping. Write numbers
such as `2.0e-5` with a point: YAML reads `2e-5` as text.

"""


def recipe_page() -> str:
    """The page."""
    places = recipe_sections()
    return _INTRODUCTION + "\n".join(_section(struct, path, places) for struct, path in places.items())


def recipe_sections() -> dict[type[Struct], str]:
    """Every struct of a recipe and the first path to it: "" for the recipe itself, `tasks[].sources[]`."""
    places: dict[type[Struct], str] = {}
    _gather(Recipe, "", places)
    return places


def _gather(struct: type[Struct], path: str, places: dict[type[Struct], str]) -> None:
    places[struct] = path
    for field in fields_of(struct).values():
        inner = _inner(field.type)
        if inner is not None and inner not in places:
            each = {tuple: "[]", dict: ".KEY"}.get(get_origin(field.type), "")
            _gather(inner, _key(path, field) + each, places)


def _inner(kind: Any) -> type[Struct] | None:
    """The struct that a key takes, or that is in its list or mapping."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return kind
    return next((found for part in get_args(kind) if (found := _inner(part))), None)


def _key(path: str, field: Field) -> str:
    return f"{path}.{field.name}" if path else field.name


def _section(struct: type[Struct], path: str, places: dict[type[Struct], str]) -> str:
    lines = [f"## {path or 'Recipe'}", "", inspect.getdoc(struct) or "", ""]
    lines += ["| key | takes | default | meaning |", "|---|---|---|---|"]
    lines += [_row(path, field, places) for field in fields_of(struct).values()]
    return "\n".join([*lines, ""])


def _row(path: str, field: Field, places: dict[type[Struct], str]) -> str:
    takes = expectation(field)
    inner = _inner(field.type)
    if inner is not None:
        link = f"[keys](#{re.sub(r'[^a-z_]', '', places[inner].lower())})"
        takes = takes.replace("keys", link) if "keys" in takes else f"{takes} to {link}"
    cells = (f"`{_key(path, field)}`", takes, _default(field.default), field.meta.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    """A default as a recipe would say it."""
    if value is NODEFAULT:
        return "required"
    if value is None:
        return "none"
    written = yaml.safe_dump([_explicit(value)], default_flow_style=True, sort_keys=False, width=1 << 16)
    return f"`{written.strip()[1:-1]}`"


def _explicit(value: Any) -> Any:
    """Plain data; of structs what differs from their defaults."""
    if isinstance(value, dict):
        return {key: _explicit(each) for key, each in value.items()}
    if isinstance(value, Struct):
        own = {name: (getattr(value, name), field.default) for name, field in fields_of(type(value)).items()}
        return {name: to_builtins(said) for name, (said, default) in own.items() if said != default}
    return to_builtins(value)
