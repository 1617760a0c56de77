"""Text that strangers wrote, made safe to show in a log line, a header or a terminal."""

from __future__ import annotations


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
