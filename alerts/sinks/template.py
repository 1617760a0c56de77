"""Message templates: text with `{field}` in it, and nothing else that could be called or looked up."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from alerts.notifications import Notification
from alerts.sinks.plain import lines_of, one_line

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_MOST_TITLE: Final = 300
_MOST_TEXT: Final = 2000
_MOST_MEMBERS: Final = 10
FIELDS: Final = ("title", "text", "alerts", "status", "severity", "book", "at", "count", "labels", "id")
DEFAULT: Final = "{text}\n{alerts}"


class TemplateError(ValueError):
    """A template with a field that does not exist; says which and names those that do."""


class Template:
    """A parsed template. Raises TemplateError where it names a field that is not in `FIELDS`."""

    def __init__(self, source: str) -> None:
        unknown = sorted(set(_PLACE.findall(source)) - set(FIELDS))
        if unknown:
            raise TemplateError(
                f"{{{unknown[0]}}} is no field of a template; there are {', '.join(f'{{{each}}}' for each in FIELDS)}"
            )
        self.source = source

    def render(self, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
        """The text with every field's escaped value in its place; what the template itself says stays as it is."""
        return _PLACE.sub(lambda place: escape(values[place[1]]), self.source).strip()


def template_values(notification: Notification) -> dict[str, str]:
    """The fields of a notification, plain text. `text` and `alerts` may have several lines."""
    members = notification.alerts
    shown = [f"• {one_line(member.line, _MOST_TITLE)}" for member in members[:_MOST_MEMBERS]]
    if len(members) > _MOST_MEMBERS:
        shown.append(f"• … {len(members) - _MOST_MEMBERS}")
    at = datetime.fromtimestamp(notification.at_ms / 1000, tz=UTC)
    return {
        "title": one_line(notification.title, _MOST_TITLE),
        "text": "\n".join(lines_of(notification.text, _MOST_TEXT)),
        "alerts": "\n".join(shown) if len(members) > 1 else "",
        "status": notification.status,
        "severity": one_line(notification.severity, 60),
        "book": one_line(notification.book, 100),
        "at": at.strftime("%Y-%m-%d %H:%M UTC"),
        "count": str(len(members)),
        "labels": ", ".join(
            f"{one_line(name, 60)}={one_line(value, 100)}" for name, value in sorted(notification.labels.items())
        ),
        "id": notification.id,
    }


def text_links(notification: Notification, limit: int) -> list[tuple[str, str]]:
    """(label, raw URL) of the strongest texts of the members that carry a link, the first `limit` different ones."""
    found: dict[str, str] = {}
    for member in notification.alerts:
        for text in member.texts:
            if text.url and text.url not in found and len(found) < limit:
                found[text.url] = one_line(text.source or text.text or text.url, 80)
    return [(label, url) for url, label in found.items()]
