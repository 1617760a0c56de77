"""Messages for Slack's incoming webhooks, in the form that Mattermost and Rocket.Chat take as well.

Rendering is pure. Markup is switched off in the message, and what a text could do regardless (links,
mentions) is escaped, as https://api.slack.com/reference/surfaces/formatting asks.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from alerts.notifications import Notification
from alerts.sinks.delivery import Stateless
from alerts.sinks.http import Endpoint, Poster
from alerts.sinks.plain import web_link
from alerts.sinks.template import Template, template_values, text_links

_MENTION: Final = re.compile(r"@(?=\w)")
_LINK: Final = re.compile(r"\](?=[(\[:])")
_COLOURS: Final = {"warning": "#d9a400", "high": "#d9650b", "critical": "#c4232b"}
_RESOLVED: Final = "#2e8b57"
_MOST_LINKS: Final = 3
_HIDDEN: Final = "\u200b"


def slack_escape(text: str) -> str:
    """`text` without any meaning as markup: no link, no picture, no mention, no entity."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINK.sub("]" + _HIDDEN, _MENTION.sub("@" + _HIDDEN, escaped))


def slack_message(notification: Notification, template: Template) -> dict[str, Any]:
    """The body of the request."""
    values = template_values(notification)
    title = slack_escape(values["title"])
    text = template.render(values, slack_escape)
    links = [
        f"<{link.replace('&', '&amp;')}|{slack_escape(label)}>"
        for label, url in text_links(notification, _MOST_LINKS)
        if (link := web_link(url)) is not None
    ]
    colour = _RESOLVED if notification.status == "resolved" else _COLOURS.get(notification.severity, "#808080")
    return {
        "text": title,
        "mrkdwn": False,
        "attachments": [
            {
                "fallback": title,
                "color": colour,
                "text": "\n".join([text, *links]),
                "mrkdwn_in": [],
                "footer": slack_escape(f"{values['book']}, {values['at']}"),
            }
        ],
    }


class SlackSink(Stateless):
    """Posts to an incoming webhook. Slack knows no idempotency key: a repeat after a crash is a second message."""

    kind = "slack"

    def __init__(self, endpoint: Endpoint, template: Template) -> None:
        self._poster = Poster(endpoint)
        self._template = template

    async def deliver(self, notification: Notification) -> None:
        """Post it. Raises TryLater or Refused."""
        body = orjson.dumps(slack_message(notification, self._template))
        await self._poster.post(body, {"Content-Type": "application/json"})

    async def close(self) -> None:
        """Let go of the connections."""
        await self._poster.close()
