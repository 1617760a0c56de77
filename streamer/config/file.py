"""YAML with the place of every value, and without YAML 1.1's surprises.

Only `true` and `false` are booleans (`no` is Norwegian), times and `1:30` stay text, a repeated key is an error. A
number remembers how it was written, for keys that want text: the ticker `000001`, the name `92e3`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

import yaml

from streamer.escaping import looks_like_a_name

Path = tuple[str | int, ...]
_MOST_VALUES: Final = 200_000
_PLAINER: Final = {
    "could not determine a constructor for the tag": "a tag that is not known; quote a value that begins with !",
    "found undefined tag handle": "a tag that is not known; quote a value that begins with !",
    "duplicate tag handle": "a tag handle is given twice",
    "found undefined alias": "an alias to what was not named before; quote a value that begins with *",
}
"""How PyYAML begins its messages that repeat what is written, which may be a secret, and what is said instead."""


class Located(NamedTuple):
    """A document of YAML as plain data, and the line of each key or item in it."""

    value: Any
    lines: dict[Path, int]


class YamlProblem(Exception):
    """Text that is no usable YAML: the 1-based line and what is wrong there."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


class WrittenInt(int):
    """A whole number and its text in the file."""

    written: str


class WrittenFloat(float):
    """A number and its text in the file."""

    written: str


class _Loader(yaml.SafeLoader):
    """Starts without any of PyYAML's rules for what a plain scalar is."""

    def construct_written_int(self, node: yaml.ScalarNode) -> WrittenInt:
        # PyYAML would read 010 as 8, and fail at 09.
        number = WrittenInt(node.value, 16 if "x" in node.value else 10)
        number.written = node.value
        return number

    def construct_written_float(self, node: yaml.ScalarNode) -> WrittenFloat:
        number = WrittenFloat(self.construct_yaml_float(node))
        number.written = node.value
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_written_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_written_float)

_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


def read_yaml(text: str) -> Located:
    """The data in `text`; raises `YamlProblem`."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlProblem(line, f"holds the character U+{ord(text[error.position]):04X}, which YAML forbids") from None
    try:
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        return Located(None if node is None else _value(loader, node, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = str(error.problem or error.context)
        message = next((ours for theirs, ours in _PLAINER.items() if message.startswith(theirs)), message)
        raise YamlProblem(mark.line + 1 if mark else 1, message) from None
    except RecursionError:
        raise YamlProblem(1, "is nested too deeply") from None
    finally:
        loader.dispose()


def read_scalar(text: str) -> Any:
    """One value as it would be read to the right of a `key:`; raises `YamlProblem`."""
    return read_yaml(text).value


def _value(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > _MOST_VALUES:
        raise YamlProblem(node.start_mark.line + 1, f"more than {_MOST_VALUES:,} values, do aliases repeat each other?")
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, index), lines) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node)
    _refuse_repeats(loader, node)
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(loader, key_node)
        if not isinstance(key, str):
            key = str(key)
        lines[(*path, key)] = key_node.start_mark.line + 1
        mapping[key] = _value(loader, value_node, (*path, key), lines)
    return mapping


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, LookupError, AttributeError):
        # Their words, or a tag that PyYAML does not guard (`!!bool x`), would show the value.
        raise YamlProblem(node.start_mark.line + 1, "a value that is not what its tag says, or too long") from None


def _refuse_repeats(loader: _Loader, node: yaml.MappingNode) -> None:
    seen: dict[Hashable, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlProblem(key_node.start_mark.line + 1, "a key must be plain text")
        if key_node.value in seen:
            name = repr(key_node.value) if looks_like_a_name(key_node.value) else "a key"
            raise YamlProblem(
                key_node.start_mark.line + 1, f"{name} is given twice, first on line {seen[key_node.value]}"
            )
        seen[key_node.value] = key_node.start_mark.line + 1
