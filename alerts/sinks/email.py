"""E-mail messages: plain text and simple HTML, threaded by group, with the notification's id as Message-ID. Pure."""

from __future__ import annotations

import html
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from alerts.notifications import Notification, notification_id
from alerts.sinks.plain import lines_of, one_line, web_link

_MOST_TITLE: Final = 200
_MOST_TEXT: Final = 8000
_MOST_MEMBERS: Final = 50
_MOST_LINKS: Final = 5
_PAGE: Final = (
    '<!doctype html><html><head><meta charset="utf-8"></head>'
    '<body style="font-family:sans-serif;max-width:48em">{body}</body></html>'
)


def email_message(
    notification: Notification, *, sender: str, recipients: tuple[str, ...], date: datetime, domain: str
) -> EmailMessage:
    """The message. `domain` is the right side of the Message-ID; `date` is when it is sent."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = one_line(notification.title, _MOST_TITLE)
    message["Date"] = date
    message["Message-ID"] = f"<{notification.id}@{domain}>"
    if notification.sequence > 1:
        first = f"<{notification_id(notification.group, 1)}@{domain}>"
        message["In-Reply-To"] = first
        message["References"] = first
    message["Auto-Submitted"] = "auto-generated"
    message["X-Bearwire-Status"] = notification.status
    message["X-Bearwire-Severity"] = one_line(notification.severity, 60)
    message.set_content(_plain(notification))
    message.add_alternative(_html(notification), subtype="html")
    return message


def _plain(notification: Notification) -> str:
    lines = lines_of(notification.text, _MOST_TEXT)
    if len(notification.alerts) > 1:
        lines += ["", *(f"- {line}" for line in _members(notification))]
    links = _links(notification)
    if links:
        lines += ["", *(f"{label}: {link}" for label, link in links)]
    return "\n".join(lines) + "\n"


def _html(notification: Notification) -> str:
    parts = [f"<h2>{_safe(one_line(notification.title, _MOST_TITLE))}</h2>"]
    parts += [f"<p>{_safe(line)}</p>" for line in lines_of(notification.text, _MOST_TEXT)]
    if len(notification.alerts) > 1:
        parts.append("<ul>" + "".join(f"<li>{_safe(line)}</li>" for line in _members(notification)) + "</ul>")
    links = _links(notification)
    if links:
        items = (f'<li><a href="{_safe(link)}" rel="noreferrer">{_safe(label)}</a></li>' for label, link in links)
        parts.append("<ul>" + "".join(items) + "</ul>")
    return _PAGE.format(body="".join(parts))


def _members(notification: Notification) -> list[str]:
    shown = [one_line(member.line, 300) for member in notification.alerts[:_MOST_MEMBERS]]
    more = len(notification.alerts) - len(shown)
    return [*shown, f"… {more}"] if more else shown


def _links(notification: Notification) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for member in notification.alerts:
        for text in member.texts:
            link = web_link(text.url)
            if link is not None and len(found) < _MOST_LINKS:
                found.setdefault(link, one_line(text.source or text.text or link, 80))
    return [(label, link) for link, label in found.items()]


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
