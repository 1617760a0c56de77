"""Text that strangers wrote, made plain: one line, no control characters, links that are links."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_MOST_URL: Final = 2000


def one_line(text: str, limit: int = 300) -> str:
    """`text` on one line: what is not printable becomes a space, runs of spaces one; cut at `limit` with an ellipsis.

    Format characters (bidirectional controls, zero-width ones) and lone surrogates go the same way.
    """
    head = text[: limit * 2 + 64]
    plain = " ".join("".join(each if each.isprintable() else " " for each in head).split())
    return plain if len(plain) <= limit and len(head) == len(text) else plain[: limit - 1].rstrip() + "…"


def lines_of(text: str, limit: int) -> list[str]:
    """The lines of `text`, each made plain, empty ones left out, `limit` characters in all."""
    found: list[str] = []
    left = limit
    for line in text.splitlines():
        if left <= 0:
            break
        plain = one_line(line, left)
        if plain:
            found.append(plain)
            left -= len(plain)
    return found


def web_link(url: str | None) -> str | None:
    """`url` if it is a plain http or https link, with what could end it in markup percent-encoded; else None."""
    if not url or len(url) > _MOST_URL or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        return None
    return "".join(f"%{ord(each):02X}" if each in "<>|\"'`()[]{}\\^ " else each for each in url)
