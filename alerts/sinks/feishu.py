"""Messages for the custom bots of Feishu and Lark, signed where the bot asks for it. Pure but for the sink."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from typing import Any, Final

import orjson

from alerts.notifications import Notification
from alerts.sinks.delivery import Refused, SecretSource, Stateless, TryLater
from alerts.sinks.http import Answer, Endpoint, Poster
from alerts.sinks.plain import one_line, web_link
from alerts.sinks.template import Template, template_values, text_links

_TAG: Final = re.compile(r"<(?=/?\s*[A-Za-z])")
_MOST_LINKS: Final = 3
_BUSY: Final = frozenset({11232, 11233, 11247})
"""Codes of "too often", after which a later attempt may pass."""


def feishu_escape(text: str) -> str:
    """`text` in which nothing is a tag: Feishu reads `<at …>` in text as a mention."""
    return _TAG.sub("＜", text)


def feishu_message(notification: Notification, template: Template) -> dict[str, Any]:
    """The body of the request, without a signature: a rich text of one line per row."""
    values = template_values(notification)
    rows: list[list[dict[str, str]]] = [
        [{"tag": "text", "text": line}] for line in template.render(values, feishu_escape).splitlines() if line.strip()
    ]
    for label, url in text_links(notification, _MOST_LINKS):
        link = web_link(url)
        if link is not None:
            rows.append([{"tag": "a", "text": feishu_escape(label), "href": link}])
    rows.append([{"tag": "text", "text": feishu_escape(f"{values['book']}, {values['at']}")}])
    content = {"title": feishu_escape(values["title"]), "content": rows}
    return {"msg_type": "post", "content": {"post": {"zh_cn": content}}}


def feishu_signature(secret: str, now_s: int) -> dict[str, str]:
    """The two fields that a bot with a signing secret asks for: HMAC-SHA256 of nothing, keyed by time and secret."""
    key = f"{now_s}\n{secret}".encode()
    sign = base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
    return {"timestamp": str(now_s), "sign": sign}


def judge_feishu(answer: Answer) -> None:
    """Return where Feishu has taken the message: it answers 200 to everything and says in the body what it thinks.

    Raises TryLater where it is busy, Refused where it will not have it.
    """
    try:
        said = orjson.loads(answer.body)
        code = said.get("code", said.get("StatusCode"))
        message = one_line(str(said.get("msg", said.get("StatusMessage", ""))), 200)
    except (orjson.JSONDecodeError, AttributeError):
        raise TryLater("its answer is not the JSON that Feishu gives") from None
    if code == 0:
        return
    why = f"Feishu code {one_line(str(code), 20)}: {message}"
    raise TryLater(why) if code in _BUSY else Refused(why)


class FeishuSink(Stateless):
    """Posts to a custom bot. Feishu knows no idempotency key: a repeat after a crash is a second message."""

    kind = "feishu"

    def __init__(self, endpoint: Endpoint, template: Template, secret: SecretSource | None = None) -> None:
        self._poster = Poster(endpoint)
        self._template = template
        self._secret = secret

    async def deliver(self, notification: Notification) -> None:
        """Post it. Raises TryLater or Refused."""
        message = feishu_message(notification, self._template)
        if self._secret is not None:
            message |= feishu_signature(self._secret(), int(time.time()))
        judge_feishu(await self._poster.post(orjson.dumps(message), {"Content-Type": "application/json"}, whole=True))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._poster.close()
