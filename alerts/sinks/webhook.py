"""The webhook: the notification itself as JSON, signed, with its id as the idempotency key."""

from __future__ import annotations

import time
from typing import Final

from alerts.notifications import Notification
from alerts.sinks.delivery import SecretSource, Stateless
from alerts.sinks.http import Endpoint, Poster
from alerts.sinks.signature import signature_headers

IDEMPOTENCY_KEY: Final = "Idempotency-Key"


def webhook_headers(notification: Notification, body: bytes, secret: str | None, now_s: int) -> dict[str, str]:
    """The headers of one attempt. `secret` None leaves the signature out."""
    headers = {"Content-Type": "application/json", IDEMPOTENCY_KEY: notification.id}
    return headers if secret is None else headers | signature_headers(secret, body, now_s)


class WebhookSink(Stateless):
    """Posts every notification as it lies on the topic."""

    kind = "webhook"

    def __init__(self, endpoint: Endpoint, secret: SecretSource | None = None) -> None:
        self._poster = Poster(endpoint)
        self._secret = secret

    async def deliver(self, notification: Notification) -> None:
        """Post it. Raises TryLater or Refused."""
        body = notification.encode()
        secret = None if self._secret is None else self._secret()
        await self._poster.post(body, webhook_headers(notification, body, secret, int(time.time())))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._poster.close()
