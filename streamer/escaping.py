"""Text that strangers wrote, made safe to show in a log line, a header or a terminal."""

from __future__ import annotations

import re
from typing import Final


def escaped(text: str, limit: int = 300) -> str:
    """`text` on one line, without control, format or surrogate characters, at most `limit` characters.

    What is not printable becomes a backslash escape, so newlines cannot forge log lines and ANSI or
    bidirectional controls cannot rewrite a terminal. A cut is marked with an ellipsis.
    """
    head = text if len(text) <= limit else text[: limit - 1]
    if not head.isprintable():
        head = "".join(c if c.isprintable() else _escape(c) for c in head)
    if len(text) > limit or len(head) > limit:
        return head[: limit - 1] + "…"
    return head


def escaped_lines(text: str) -> str:
    """`text` of any length with its line feeds, everything else that is not printable escaped as by `escaped`."""
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def escaped_json(document: bytes) -> bytes:
    """JSON of the same meaning that a terminal can show: what is not printable is written as JSON's own escapes.

    Encoders leave DEL, the C1 controls and the bidirectional ones as they are. Line feeds are kept, they end records.
    """
    text = document.decode("utf-8")
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text).encode("utf-8")


def kind_of(value: object) -> str:
    """What a value is, without what it says, for messages about what may be a secret: `text`, `a number`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict):
        return "keys" if value else "no keys"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return "text"


_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}")


def looks_like_a_name(text: str) -> bool:
    """Whether a text where a key was expected may be shown: letters, `_` and `-`. A pasted secret has more to it."""
    return _NAME.fullmatch(text) is not None


def quoted(value: object, limit: int = 60) -> str:
    """A short, one-line literal of any JSON value, for a message: `"long te…"`, `true`, `null`, `12`."""
    if isinstance(value, str):
        literal = value[: limit + 1].replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped(literal, limit)}"'
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return escaped(str(value), limit)


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if short is not None:
        return short
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
