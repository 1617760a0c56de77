"""From a tree of plain values to the typed configuration, collecting every problem on the way."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Meta, Struct, structs

from streamer.config.file import WrittenFloat, WrittenInt, YamlProblem, read_scalar
from streamer.config.secret import Secret
from streamer.escaping import kind_of, looks_like_a_name, quoted
from streamer.timestamps import TimestampError, parse_duration

_META = ("gt", "ge", "lt", "le", "pattern", "min_length", "max_length", "description", "extra", "extra_json_schema")


class Problem(NamedTuple):
    """One thing that is wrong: the dotted key (may be empty), where it was written, and what to do about it."""

    key: str
    place: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.key, self.message) if part)


class Field(NamedTuple):
    """One key of a section. `type` is without its annotations, `meta` what they say."""

    name: str
    annotated: Any
    type: Any
    meta: Meta
    default: Any

    @property
    def is_duration(self) -> bool:
        """Whether the key, or each item of its list, is a duration in seconds."""
        kind, meta = self.type, self.meta
        if get_origin(kind) is tuple:
            kind, meta = _unwrap(get_args(kind)[0])
        return bool((meta.extra or {}).get("duration"))


class Keys(NamedTuple):
    """Every known key in dotted form (books as `books.*.name`), and the sections."""

    dotted: tuple[str, ...]
    sections: frozenset[str]


class _Text(str):
    """A value from the environment or a flag, to be read as its key's type asks."""


@functools.cache
def fields_of(section: type[Struct]) -> dict[str, Field]:
    """The fields of a section by name."""
    hints = get_type_hints(section, include_extras=True)
    found = {}
    for field in structs.fields(section):
        bare, meta = _unwrap(hints[field.name])
        default = (
            field.default_factory()
            if field.default is NODEFAULT and field.default_factory is not NODEFAULT
            else field.default
        )
        found[field.name] = Field(field.name, hints[field.name], bare, meta, default)
    return found


def config_keys(root: type[Struct]) -> Keys:
    """Every key below `root`."""
    return Keys(tuple(_leaves(root, ())), frozenset(fields_of(root)))


def _leaves(section: type[Struct], path: tuple[str, ...]) -> Iterator[str]:
    for field in fields_of(section).values():
        inner = section_type(field.type)
        items = item_section(field.type)
        if inner is not None:
            yield from _leaves(inner, (*path, field.name))
        elif items is not None:
            yield from _leaves(items, (*path, field.name, "*"))
        else:
            yield ".".join((*path, field.name))


def count_set(section: type[Struct], tree: Any) -> int:
    """How many keys of the section `tree` gives a value; one that is not known counts too, a list is one value."""
    if not isinstance(tree, dict):
        return 1
    count = 0
    for name, value in tree.items():
        field = fields_of(section).get(name)
        inner = section_type(field.type) or item_section(field.type) if field else None
        values = value if isinstance(value, list) else [value]
        count += 1 if inner is None else sum(count_set(inner, each) for each in values)
    return count


def section_type(kind: Any) -> type[Struct] | None:
    """`kind` if it is a section."""
    return kind if isinstance(kind, type) and issubclass(kind, Struct) else None


def item_section(kind: Any) -> type[Struct] | None:
    """The section that `kind` is a tuple of, if it is one."""
    return section_type(_unwrap(get_args(kind)[0])[0]) if get_origin(kind) is tuple else None


def dotted(path: tuple[str | int, ...]) -> str:
    """`books.0.name` of ("books", 0, "name")."""
    return ".".join(map(str, path))


def shown_path(path: Iterable[str | int]) -> str:
    """As `dotted`, for a path whose names are not known to be keys: `?` for what may be a secret in a key's place."""
    return dotted(tuple(name if str(name).isdecimal() or looks_like_a_name(str(name)) else "?" for name in path))


def overlay(tree: dict[str, Any], values: dict[str, Any], directory: Path, section: type[Struct] | None) -> None:
    """Lays `values` of a file in `directory` over `tree`; relative paths in them become relative to that directory."""
    known = fields_of(section) if section is not None else {}
    for name, value in values.items():
        field = known.get(name)
        inner = section_type(field.type) if field else None
        items = item_section(field.type) if field else None
        if isinstance(value, dict) and inner is not None:
            branch = tree.setdefault(name, {})
            overlay(branch, value, directory, inner)
        elif isinstance(value, list) and items is not None:
            branches = []
            for item in value:
                if isinstance(item, dict):
                    branch = {}
                    overlay(branch, item, directory, items)
                    branches.append(branch)
                else:
                    branches.append(item)
            tree[name] = branches
        elif field is not None and isinstance(value, str) and is_path(field) and value not in ("", "default"):
            tree[name] = str(directory / Path(value).expanduser())
        else:
            tree[name] = value


def assign(
    root: type[Struct], tree: dict[str, Any], places: dict[str, str], path: list[str], text: str, place: str
) -> Iterator[Problem]:
    """Sets the value at `path` to a text from the environment or a flag."""
    branch: Any = tree
    section: type[Struct] | None = root
    for depth, name in enumerate(path):
        here, there = ".".join(path[: depth + 1]), shown_path(path[: depth + 1])
        last = depth == len(path) - 1
        if isinstance(branch, list):
            if not name.isdecimal() or int(name) >= len(branch):
                yield Problem(there, place, f"{shown_path([name])!r} is no index of a list of {len(branch)}")
                return
            if last:
                yield Problem(there, place, f"a list item is set by its keys, for example {there}.name=desk")
                return
            branch = branch[int(name)]
        elif not isinstance(branch, dict):
            yield Problem(there, place, f"{shown_path(path[:depth])} is a single value, it has no keys")
            return
        else:
            field = fields_of(section).get(name) if section is not None else None
            inner = section_type(field.type) if field else None
            items = item_section(field.type) if field else None
            if last:
                places[here] = place
                try:
                    branch[name] = read_scalar(text) if inner or items else _Text(text)
                except YamlProblem as problem:
                    yield Problem(there, place, f"cannot be read: {problem.message}")
                return
            if items is not None and field is not None:
                branch.setdefault(name, [_explicit(item) for item in field.default])
            else:
                branch.setdefault(name, {})
            section = inner or items
            branch = branch[name]


def _explicit(section: Struct) -> dict[str, Any]:
    values = structs.asdict(section)
    return {name: values[name] for name, field in fields_of(type(section)).items() if values[name] != field.default}


class Builder:
    """Builds sections out of a tree; what is wrong gathers in `problems`."""

    def __init__(self, keys: Keys, places: dict[str, str]) -> None:
        self.problems: list[Problem] = []
        self._keys = keys
        self._places = places

    def place_of(self, key: str) -> str:
        """Where `key`, or the nearest thing around it, was written; empty for a default."""
        around = key
        while around:
            if around in self._places:
                return self._places[around]
            around = around.rpartition(".")[0]
        return next((place for inner, place in self._places.items() if inner.startswith(key + ".")), "")

    def build(self, section: type[Struct], tree: dict[str, Any], path: tuple[str | int, ...] = ()) -> Any:
        """The section, or None when something in it is wrong."""
        before = len(self.problems)
        fields = fields_of(section)
        values = {}
        for name, value in tree.items():
            at = (*path, name)
            field = fields.get(name)
            if field is None:
                self._unknown(at, fields)
            else:
                values[name] = self._field(field, value, at, may_be_told=not _is_about_a_secret(field))
        for name, field in fields.items():
            if field.default is NODEFAULT and name not in tree:
                self._say((*path, name), f"is required, expected {expectation(field)}")
        if len(self.problems) > before:
            return None
        return section(**values)

    def _field(self, field: Field, value: Any, at: tuple[str | int, ...], *, may_be_told: bool) -> Any:
        """The value as its key asks. An error repeats what was written only where `may_be_told`, and never in sinks."""
        told = quoted if may_be_told and at[0] != "sinks" else kind_of
        inner, items = section_type(field.type), item_section(field.type)
        if inner is not None:
            if value is None:
                return field.default
            if not isinstance(value, dict):
                return self._say(at, f"expected keys ({', '.join(fields_of(inner))}), got {kind_of(value)}")
            return self.build(inner, _with_defaults(field.default, value), at)
        if items is not None:
            if not isinstance(value, list):
                return self._say(at, f"expected a list, got {kind_of(value)}")
            built = []
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    built.append(self.build(items, item, (*at, index)))
                else:
                    self._say((*at, index), f"expected keys ({', '.join(fields_of(items))}), got {kind_of(item)}")
            return None if None in built else self._convert(field, tuple(built), at, kind_of)
        if isinstance(value, _Text):
            value = str(value) if _wants_text(field.type) else self._read(value, at)
        if value is None and field.default is not NODEFAULT and not _allows_none(field.type):
            return self._say(at, f"has no value, expected {expectation(field)}")
        value = _as_spelled(field.type, value)
        try:
            value = _durations(field.annotated, _as_wanted(field.annotated, value))
        except TimestampError as error:
            return self._say(at, f"{told(value)} is {error}")
        return self._convert(field, value, at, kind_of if _takes_mapping(field.type) else told)

    def _read(self, text: str, at: tuple[str | int, ...]) -> Any:
        try:
            return read_scalar(text)
        except YamlProblem as problem:
            return self._say(at, f"cannot be read: {problem.message}")

    def _convert(self, field: Field, value: Any, at: tuple[str | int, ...], told: Callable[[Any], str]) -> Any:
        try:
            return msgspec.convert(value, field.annotated, dec_hook=_decode_secret)
        except msgspec.ValidationError as error:
            where = str(error).partition(" - at `$")[2].rstrip("`")
            return self._say(at, f"expected {expectation(field)}, got {told(value)}{' at ' + where if where else ''}")

    def _unknown(self, at: tuple[str | int, ...], fields: dict[str, Field]) -> None:
        name = str(at[-1])
        near = difflib.get_close_matches(name.lower().replace("-", "_"), fields, n=1, cutoff=0.6)
        if near:
            hint = f"did you mean {dotted((*at[:-1], near[0]))}?"
        else:
            elsewhere = [key for key in self._keys.dotted if key.rpartition(".")[2] == name.lower()]
            elsewhere = elsewhere or difflib.get_close_matches(dotted(at), self._keys.dotted, n=1, cutoff=0.7)
            hint = f"did you mean {elsewhere[0]}?" if elsewhere else f"known here: {', '.join(fields)}"
        key = dotted((*at[:-1], "?")) if at[0] == "sinks" and not near else shown_path(at)
        self.problems.append(Problem(key, self.place_of(dotted(at)), f"unknown key; {hint}"))

    def _say(self, at: tuple[str | int, ...], message: str) -> None:
        key = dotted(at)
        self.problems.append(Problem(key, self.place_of(key), message))


def _with_defaults(default: Any, values: dict[str, Any]) -> dict[str, Any]:
    """`values` over what this place's own default changes, so that `topics.late` keeps its name."""
    return values if default is NODEFAULT else {**_explicit(default), **values}


def expectation(field: Field) -> str:
    """What a key takes, in words: `a whole number, at least 1`."""
    return _in_words(field.type, field.meta)


def _in_words(kind: Any, meta: Meta) -> str:
    if (meta.extra or {}).get("duration"):
        return "a duration such as 90, 30s, 15m or 24h" + _bounds(meta)
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin in (Union, UnionType):
        parts = [arg for arg in get_args(kind) if arg is not NoneType]
        return " or ".join(_in_words(*_unwrap(part)) for part in parts)
    if origin is tuple:
        return f"a list of {_in_words(*_unwrap(get_args(kind)[0]))}" + _lengths(meta)
    if origin is dict:
        return "a mapping"
    if (meta.extra or {}).get("path"):
        return "a path"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Secret: "text"}
    words = names.get(kind, "keys" if section_type(kind) else str(kind))
    return words + _bounds(meta) + _lengths(meta) + (f" matching {meta.pattern}" if meta.pattern else "")


def _bounds(meta: Meta) -> str:
    words = []
    for bound, phrase in ((meta.ge, "at least"), (meta.gt, "above"), (meta.le, "at most"), (meta.lt, "below")):
        if bound is not None:
            words.append(f"{phrase} {bound:g}" if isinstance(bound, float) else f"{phrase} {bound}")
    return ", " + " and ".join(words) if words else ""


def _lengths(meta: Meta) -> str:
    if meta.min_length and meta.max_length:
        return f", {meta.min_length} to {meta.max_length} of them"
    if meta.min_length:
        return ", not empty" if meta.min_length == 1 else f", at least {meta.min_length} of them"
    return ""


def _unwrap(annotated: Any) -> tuple[Any, Meta]:
    if get_origin(annotated) is not Annotated:
        return annotated, Meta()
    bare, *metas = get_args(annotated)
    merged: dict[str, Any] = {}
    for meta in metas:
        if isinstance(meta, Meta):
            merged.update({name: value for name in _META if (value := getattr(meta, name)) is not None})
    return bare, Meta(**merged)


def _alternatives(kind: Any) -> Iterator[tuple[Any, Meta]]:
    if get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            yield _unwrap(part)
    else:
        yield kind, Meta()


def is_path(field: Field) -> bool:
    """Whether the key names a file or directory."""
    metas = [field.meta, *(meta for _, meta in _alternatives(field.type))]
    return any((meta.extra or {}).get("path") for meta in metas)


def _is_secret(kind: Any) -> bool:
    return any(part is Secret for part, _ in _alternatives(kind))


def _is_about_a_secret(field: Field) -> bool:
    """Whether the key is a secret or, as `password_file`, names its file, and is where the secret itself may land."""
    return _is_secret(field.type) or field.name.endswith("_file")


def _takes_mapping(kind: Any) -> bool:
    return any(get_origin(part) is dict for part, _ in _alternatives(kind))


def _allows_none(kind: Any) -> bool:
    return any(part is NoneType for part, _ in _alternatives(kind))


def _wants_text(kind: Any) -> bool:
    return all(part in (str, Secret, NoneType) or (get_origin(part) is Literal) for part, _ in _alternatives(kind))


def _as_wanted(annotated: Any, value: Any) -> Any:
    """`value` with every number of a file as its text where text is wanted, as a plain number elsewhere."""
    kind, _ = _unwrap(annotated)
    if isinstance(value, WrittenInt | WrittenFloat):
        if _wants_text(kind):
            return value.written
        return int(value) if isinstance(value, WrittenInt) else float(value)
    arguments = get_args(kind) if get_origin(kind) in (tuple, dict) else ()
    if isinstance(value, list):
        return [_as_wanted(arguments[0] if arguments else Any, item) for item in value]
    if isinstance(value, dict):
        return {key: _as_wanted(arguments[-1] if arguments else Any, item) for key, item in value.items()}
    return value


def _as_spelled(kind: Any, value: Any) -> Any:
    """`value` as one of the words that the key takes spells it, whatever its case."""
    for part, _ in _alternatives(kind):
        for word in get_args(part) if get_origin(part) is Literal else ():
            if isinstance(value, str) and isinstance(word, str) and word.casefold() == value.casefold():
                return word
    return value


def _durations(annotated: Any, value: Any) -> Any:
    kind, meta = _unwrap(annotated)
    if (meta.extra or {}).get("duration"):
        return parse_duration(value) if isinstance(value, str) else value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return [_durations(get_args(kind)[0], item) for item in value]
    return value


def _decode_secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, Secret):
        return value
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise msgspec.ValidationError("expected text")
