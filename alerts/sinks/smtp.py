"""Hands e-mail to an SMTP server, over STARTTLS or TLS unless told otherwise."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Final, Literal

import aiosmtplib
import msgspec

from alerts.notifications import Notification
from alerts.sinks.delivery import Refused, SecretSource, Stateless, TryLater
from alerts.sinks.email import email_message
from alerts.sinks.plain import one_line

Encryption = Literal["starttls", "tls", "none"]
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server and how to log in. `port` None takes the usual one of the encryption."""

    host: str
    port: int | None = None
    encryption: Encryption = "starttls"
    username: str | None = None
    password: SecretSource | None = None
    ca_file: str | None = None
    timeout_seconds: float = 30.0


class EmailSink(Stateless):
    """Sends every notification as one message to all recipients, and tries those alone again who were refused."""

    kind = "email"

    def __init__(self, server: MailServer, *, sender: str, recipients: tuple[str, ...]) -> None:
        self._server = server
        self._sender = sender
        self._recipients = recipients
        self._domain = sender.rpartition("@")[2].strip("> ") or "bearwire.invalid"
        self._owed: tuple[str, tuple[str, ...]] = ("", ())

    async def deliver(self, notification: Notification) -> None:
        """Send it. Raises TryLater or Refused."""
        message = email_message(
            notification,
            sender=self._sender,
            recipients=self._recipients,
            date=datetime.now(UTC),
            domain=self._domain,
        )
        try:
            refused = await self._send(message, notification.id)
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = {each.recipient: each.code for each in error.recipients}
        except aiosmtplib.SMTPResponseException as error:
            raise _answered([error.code], f"SMTP {error.code}: {one_line(error.message, 200)}") from error
        except aiosmtplib.SMTPNotSupported as error:
            raise Refused(f"the server cannot do what is asked: {one_line(str(error), 200)}") from error
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError) as error:
            raise TryLater(f"{type(error).__name__}: {one_line(str(error), 200)}") from error
        if refused:
            who = ", ".join(one_line(f"{address}: {code}", 100) for address, code in refused.items())
            others = "; the others have it" if self._owed[0] == notification.id else ""
            raise _answered(list(refused.values()), f"refused for {who}{others}")

    async def _send(self, message: EmailMessage, identity: str) -> dict[str, int]:
        """Send it to those who have not got it; the reply code of each who was refused, where not all were."""
        server = self._server
        try:
            trusted = ssl.create_default_context(cafile=server.ca_file)
        except OSError as error:
            raise TryLater(f"ca_file {server.ca_file} cannot be used: {error.strerror or error}") from None
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port or _PORTS[server.encryption],
            use_tls=server.encryption == "tls",
            start_tls=server.encryption == "starttls",
            tls_context=trusted if server.encryption != "none" else None,
            timeout=server.timeout_seconds,
        )
        async with client:
            if server.username is not None:
                await client.login(server.username, server.password() if server.password is not None else "")
            owed, recipients = self._owed
            answers, _ = await client.send_message(message, recipients=recipients if owed == identity else None)
            if answers:
                self._owed = (identity, tuple(answers))
            return {address: answer.code for address, answer in answers.items()}


def _answered(codes: list[int], why: str) -> TryLater | Refused:
    """4xx replies may pass another time (RFC 5321, 4.2.1), 5xx will not."""
    return TryLater(why) if any(400 <= code < 500 for code in codes) else Refused(why)
