"""Against a real SMTP server (aiosmtpd): STARTTLS, TLS, log-in, refusals."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from alerts.sinks.delivery import Refused, TryLater
from alerts.sinks.smtp import EmailSink, MailServer
from streamer.worker.embedded import free_port
from tests.brokers.certificates import Certificates, make_certificates
from tests.sinks.notifications import alert, notification


class Mailbox:
    """Takes every message, or answers as it is told."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.data_answer = "250 OK"
        self.recipient_answers: dict[str, str] = {}

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _opts: Any) -> str:
        answer = self.recipient_answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.data_answer.startswith("250"):
            self.envelopes.append(envelope)
        return self.data_answer


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.broker)
    return context


@contextmanager
def mail_server(box: Mailbox, **how: Any) -> Iterator[int]:
    controller = Controller(box, hostname="127.0.0.1", port=free_port(), **how)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def sink(port: int, *others: str, **how: Any) -> EmailSink:
    server = MailServer(**{"host": "127.0.0.1", "port": port, "timeout_seconds": 5.0, **how})
    return EmailSink(server, sender="Bearwire <bearwire@bank.example>", recipients=("desk@bank.example", *others))


def authenticator(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"bearwire", b"s3cret"), handled=False)


async def test_a_message_arrives_over_starttls_after_a_log_in(certificates: Certificates) -> None:
    box = Mailbox()
    secure = {"tls_context": tls(certificates), "require_starttls": True, "authenticator": authenticator}
    with mail_server(box, **secure, auth_required=True) as port:
        sent = notification(alert(line="Überraschung 负面"), title="Überraschung 负面")
        how = {"ca_file": str(certificates.authority), "username": "bearwire"}
        await sink(port, **how, password=lambda: "s3cret").deliver(sent)
        with pytest.raises(Refused, match="SMTP 535") as caught:
            await sink(port, **how, password=lambda: "wr0ng").deliver(sent)
        assert "wr0ng" not in str(caught.value)
    (envelope,) = box.envelopes
    assert envelope.rcpt_tos == ["desk@bank.example"]
    message = message_from_bytes(envelope.content, policy=default)  # type: ignore[arg-type]
    assert message["Subject"] == "Überraschung 负面"
    assert message["Message-ID"] == f"<{sent.id}@bank.example>"
    assert "Seven of nine" in message.get_body(("plain",)).get_content()  # type: ignore[attr-defined]


async def test_a_message_arrives_over_tls_from_the_start(certificates: Certificates) -> None:
    box = Mailbox()
    with mail_server(box, ssl_context=tls(certificates)) as port:
        await sink(port, encryption="tls", ca_file=str(certificates.authority)).deliver(notification())
    assert len(box.envelopes) == 1


async def test_a_certificate_that_nobody_signed_gets_no_message(certificates: Certificates) -> None:
    box = Mailbox()
    with mail_server(box, tls_context=tls(certificates)) as port, pytest.raises(TryLater):
        await sink(port).deliver(notification())
    assert box.envelopes == []


async def test_a_server_without_starttls_gets_no_message() -> None:
    box = Mailbox()
    with mail_server(box) as port, pytest.raises((Refused, TryLater)):
        await sink(port).deliver(notification())
    assert box.envelopes == []


async def test_4xx_is_tried_later_and_5xx_is_final() -> None:
    box = Mailbox()
    with mail_server(box) as port:
        box.data_answer = "451 try again"
        with pytest.raises(TryLater, match="SMTP 451"):
            await sink(port, encryption="none").deliver(notification())
        box.data_answer = "554 no"
        with pytest.raises(Refused, match="SMTP 554"):
            await sink(port, encryption="none").deliver(notification())
        box.recipient_answers = {"desk@bank.example": "550 unknown"}
        with pytest.raises(Refused, match=r"refused for desk@bank.example: 550$"):
            await sink(port, encryption="none").deliver(notification())
        box.recipient_answers = {"desk@bank.example": "450 greylisted"}
        with pytest.raises(TryLater, match=r"refused for desk@bank.example: 450$"):
            await sink(port, encryption="none").deliver(notification())


async def test_recipients_who_are_refused_get_it_later_or_are_named_while_the_others_get_it_once() -> None:
    box = Mailbox()
    with mail_server(box) as port:
        mail = sink(port, "Night <night@bank.example>", "gone@bank.example", encryption="none")
        box.recipient_answers = {"night@bank.example": "450 greylisted", "gone@bank.example": "550 unknown"}
        for _ in range(2):
            with pytest.raises(TryLater, match=r"for night@bank.example: 450, gone@bank.example: 550; the others"):
                await mail.deliver(notification())
        del box.recipient_answers["night@bank.example"]
        with pytest.raises(Refused, match=r"refused for gone@bank.example: 550; the others have it"):
            await mail.deliver(notification())
        with pytest.raises(Refused, match=r"refused for gone@bank.example: 550; the others have it"):
            await mail.deliver(notification())
        assert [envelope.rcpt_tos for envelope in box.envelopes] == [["desk@bank.example"], ["night@bank.example"]]
        box.recipient_answers = {}
        await mail.deliver(msgspec.structs.replace(notification(), id="another"))
        assert len(box.envelopes[-1].rcpt_tos) == 3


async def test_nobody_listening_is_tried_later(tmp_path: Path) -> None:
    with pytest.raises(TryLater):
        await sink(free_port(), encryption="none").deliver(notification())
