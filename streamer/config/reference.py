"""The configuration described for editors (JSON Schema) and for people (a Markdown page)."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from streamer.config.load import environment_name
from streamer.config.secret import Secret
from streamer.config.settings import Config
from streamer.config.tree import Field, expectation, fields_of, item_section, section_type
from streamer.timestamps import DURATION_SCHEMA_PATTERN, format_duration

SCHEMA_ID = "urn:bearwire:schema:config:1"


def config_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of bearwire.yaml."""
    schema = msgspec.json.schema(Config, schema_hook=_hook)
    for section in _sections(Config):
        definition = schema["$defs"][section.__name__]
        # A section is laid over its defaults, so a file may leave out what the struct alone would require.
        definition.pop("required", None)
        for name, field in fields_of(section).items():
            if field.is_duration:
                _allow_text(definition["properties"][name])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "bearwire.yaml",
        **_readable(schema),
    }


def _sections(root: type[Struct]) -> Iterator[type[Struct]]:
    yield root
    for field in fields_of(root).values():
        inner = section_type(field.type) or item_section(field.type)
        if inner is not None:
            yield from _sections(inner)


def _allow_text(duration: dict[str, Any]) -> None:
    number = duration.get("items", duration)
    number.update({"type": ["number", "string"], "pattern": DURATION_SCHEMA_PATTERN})


def config_page() -> str:
    """docs/reference/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Made from `streamer/config/settings.py` by `make docs`.",
        "",
        "Bearwire works without a configuration against a Kafka on `localhost:9092`. What differs is written in",
        "`bearwire.yaml` (or the file that `--config` or `BEARWIRE_CONFIG` names); environment variables come before",
        "the file, `--set section.key=value` before both. An unknown key is an error. `bearwire config check` says",
        "what is wrong and where, and which files are not there, `bearwire config show` prints what is in force,",
        "`bearwire config schema` prints a JSON Schema for editors.",
        "",
        "Durations are seconds, or text such as `30s`, `15m`, `1h30m`, `7d`. Relative paths in the file are relative",
        "to the file. The environment variable of `kafka.client_id` is `BEARWIRE_KAFKA__CLIENT_ID`, that of a key of",
        "the first book `BEARWIRE_BOOKS__0__NAME`; values are YAML.",
        "",
    ]
    for field in fields_of(Config).values():
        lines += _section(field)
    return "\n".join(lines).rstrip() + "\n"


def _section(field: Field) -> list[str]:
    section = section_type(field.type) or item_section(field.type)
    if section is None:
        raise TypeError(f"{field.name} is no section")
    name = field.name if section_type(field.type) else f"{field.name}[]"
    lines = [f"## {field.name}", "", _summary(section), ""]
    if item_section(field.type):
        lines += ["A list; each item has these keys.", ""]
    lines += ["| key | takes | default | meaning |", "|---|---|---|---|"]
    lines += [_row(key, leaf, default) for key, leaf, default in _leaves(section, name, field.default)]
    example = next(key for key, _, _ in _leaves(section, field.name, field.default)).replace("[]", ".0")
    if section_type(field.type):
        return [*lines, "", f"Environment: `{environment_name(example)}` and so on.", ""]
    return [*lines, ""]


def _leaves(section: type[Struct], path: str, defaults: Any) -> Iterator[tuple[str, Field, Any]]:
    for field in fields_of(section).values():
        default = getattr(defaults, field.name, field.default)
        inner, items = section_type(field.type), item_section(field.type)
        if inner is not None:
            yield from _leaves(inner, f"{path}.{field.name}", default)
        elif items is not None:
            yield from _leaves(items, f"{path}.{field.name}[]", None)
        else:
            yield f"{path}.{field.name}", field, default


def _row(key: str, field: Field, default: Any) -> str:
    cells = (f"`{key}`", expectation(field), _default(field, default), field.meta.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: Field, default: Any) -> str:
    if default is NODEFAULT:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return "`[" + ", ".join(_value(field, item) for item in default) + "]`"
    return f"`{_value(field, default)}`"


def _value(field: Field, value: Any) -> str:
    if field.is_duration:
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value).replace("\n", "\\n")


def _summary(section: type[Struct]) -> str:
    return (section.__doc__ or "").partition("\n")[0]


def _hook(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string"}
    raise NotImplementedError(f"{kind} has no JSON Schema")


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    if value is NODEFAULT or value is NoneType:
        return None
    return msgspec.to_builtins(value)
