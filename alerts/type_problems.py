"""What is wrong with plain data that is to become a struct, in words of whoever writes YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import inspect

_WORDS: dict[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.DictType: "a mapping",
    inspect.StructType: "a mapping",
}
_PYTHON: dict[type[inspect.Type], tuple[type, ...]] = {
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.FloatType: (int, float),
    inspect.BoolType: (bool,),
    inspect.NoneType: (type(None),),
}


def type_problem(value: Any, struct: Any, where: str = "") -> str | None:
    """The first place in `value` that does not fit the struct, or list of structs, and what was expected there.

    None where nothing is found. Items of lists are named by their `name`, where they have one: `rules[surge].series`.
    """
    return _problem(value, inspect.type_info(struct), where)


def _problem(value: Any, kind: inspect.Type, where: str) -> str | None:
    if isinstance(kind, inspect.UnionType):
        said = [_problem(value, option, where) for option in kind.types]
        inside = (each for option, each in zip(kind.types, said, strict=True) if each != _say(value, option, where))
        return None if None in said else next(inside, _say(value, kind, where))
    if isinstance(kind, inspect.StructType) and isinstance(value, Mapping):
        return _struct_problem(value, kind, where)
    if isinstance(kind, inspect.DictType) and isinstance(value, Mapping):
        return _first(_problem(item, kind.value_type, _below(where, str(key))) for key, item in value.items())
    if isinstance(kind, inspect.VarTupleType | inspect.ListType) and isinstance(value, list | tuple):
        return _first(_problem(item, kind.item_type, _item(where, at, item)) for at, item in enumerate(value))
    if isinstance(kind, inspect.LiteralType) and value in kind.values:
        return None
    fits = isinstance(value, _PYTHON.get(type(kind), ())) and isinstance(value, bool) <= isinstance(
        kind, inspect.BoolType
    )
    return None if fits else _say(value, kind, where)


def _struct_problem(value: Mapping[Any, Any], kind: inspect.StructType, where: str) -> str | None:
    fields = {field.encode_name: field for field in kind.fields}
    for key, item in value.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            return _at(where, f"unknown key {key!r}; did you mean {near!r}? known keys: {', '.join(fields)}")
        said = _problem(item, fields[key].type, _below(where, key))
        if said is not None:
            return said
    for name, field in fields.items():
        if field.required and name not in value:
            return f"{_below(where, name)}: is required, expected {_words(field.type)}"
    return None


def _first(said: Iterable[str | None]) -> str | None:
    return next((each for each in said if each is not None), None)


def _say(value: Any, kind: inspect.Type, where: str) -> str:
    return _at(where, f"expected {_words(kind)}, got {_shown(value)}")


def _at(where: str, what: str) -> str:
    return f"{where}: {what}" if where else what


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _item(where: str, at: int, item: Any) -> str:
    return f"{where}[{item.get('name', at) if isinstance(item, Mapping) else at}]"


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_words(option) for option in kind.types if not isinstance(option, inspect.NoneType))
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(map(str, kind.values))
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return f"a list of {_words(kind.item_type).replace('a mapping', 'mappings')}"
    return _WORDS.get(type(kind), "something else")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value[:60]) if isinstance(value, str) else str(value)[:60]
