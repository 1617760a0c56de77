"""What is wrong with plain data that is to become a struct, in words of whoever writes YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
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


def type_problems(value: Any, struct: Any, where: str = "") -> list[str]:
    """Every place in `value` that does not fit the struct, or list of structs, and what was expected there.

    Empty where nothing is found. Items of lists are named by their `name`, where they have one: `rules[surge].series`.
    """
    return [*_problems(value, inspect.type_info(struct), where)]


def _problems(value: Any, kind: inspect.Type, where: str) -> Iterator[str]:
    if isinstance(kind, inspect.UnionType):
        yield from _union_problems(value, kind, where)
    elif isinstance(kind, inspect.StructType) and isinstance(value, Mapping):
        yield from _struct_problems(value, kind, where)
    elif isinstance(kind, inspect.DictType) and isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield _at(where, f"the key {key!r} is not text; write it in quotes")
            yield from _problems(item, kind.value_type, _below(where, str(key)))
    elif isinstance(kind, inspect.VarTupleType | inspect.ListType) and isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _problems(item, kind.item_type, _item(where, at, item))
    elif not _fits(value, kind):
        yield _say(value, kind, where)


def _union_problems(value: Any, kind: inspect.UnionType, where: str) -> Iterator[str]:
    """What is wrong inside of the option that is of the value's own kind; where none is, that."""
    inside = None
    for option in kind.types:
        said = [*_problems(value, option, where)]
        if not said:
            return
        if inside is None and said != [_say(value, option, where)]:
            inside = said
    yield from inside or [_say(value, kind, where)]


def _struct_problems(value: Mapping[Any, Any], kind: inspect.StructType, where: str) -> Iterator[str]:
    fields = {field.encode_name: field for field in kind.fields}
    for key, item in value.items():
        if key in fields:
            yield from _problems(item, fields[key].type, _below(where, key))
        else:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            yield _at(where, f"unknown key {key!r}; did you mean {near!r}? known keys: {', '.join(fields)}")
    for name, field in fields.items():
        if field.required and name not in value:
            yield f"{_below(where, name)}: is required, expected {_words(field.type)}"


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    of_kind = isinstance(value, _PYTHON.get(type(kind), ()))
    return of_kind and isinstance(value, bool) <= isinstance(kind, inspect.BoolType)


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
