"""From the configuration of sinks to the sinks themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from alerts.sinks.alertmanager import AlertmanagerSink
from alerts.sinks.backoff import Retry
from alerts.sinks.delivery import SecretSource, Sink, TryLater
from alerts.sinks.feishu import FeishuSink
from alerts.sinks.file import FileSink
from alerts.sinks.http import Endpoint
from alerts.sinks.queue import Settled, SinkQueue
from alerts.sinks.slack import SlackSink
from alerts.sinks.smtp import EmailSink, MailServer
from alerts.sinks.template import Template
from alerts.sinks.webhook import WebhookSink
from streamer import __version__
from streamer.config.secret import Secret
from streamer.config.sink_checks import sent_in_the_clear
from streamer.config.sink_settings import (
    AlertmanagerSettings,
    AnySink,
    EmailSettings,
    FeishuSettings,
    FileSettings,
    HttpSinkSettings,
    SinksSettings,
    SlackSettings,
)

EVERY_SINK: Final = "*"
_ATTEMPT_GRACE_SECONDS: Final = 5.0


class Routed(NamedTuple):
    """A sink's queue and the receivers that it serves."""

    queue: SinkQueue
    receivers: frozenset[str]

    def wants(self, receivers: tuple[str, ...]) -> bool:
        """Whether a notification for these receivers goes to this sink; `*` means every sink."""
        return EVERY_SINK in receivers or not self.receivers.isdisjoint(receivers)


def routed_sinks(settings: SinksSettings, settled: Settled) -> list[Routed]:
    """Every configured sink with a queue of its own. `settled` hears the fate of each ticket."""
    return [
        Routed(
            SinkQueue(
                sink.name,
                make_sink(sink),
                settled,
                Retry(budget_seconds=sink.retry_seconds),
                attempt_seconds=sink.timeout_seconds + _ATTEMPT_GRACE_SECONDS,
                max_age_seconds=sink.max_age_seconds or None,
            ),
            frozenset(sink.receivers or (sink.name,)),
        )
        for sink in settings.all()
    ]


def make_sink(settings: AnySink) -> Sink:
    """The sink that these settings describe."""
    if isinstance(settings, FileSettings):
        return FileSink(Path(settings.path), max_bytes=settings.max_bytes, keep=settings.keep)
    if isinstance(settings, EmailSettings):
        server = MailServer(
            host=settings.host,
            port=settings.port,
            encryption=settings.encryption,
            username=settings.username,
            password=secret_source(settings.password, settings.password_file),
            ca_file=settings.ca_file,
            timeout_seconds=settings.timeout_seconds,
        )
        return EmailSink(server, sender=settings.sender, recipients=settings.to)
    endpoint = _endpoint(settings)
    if isinstance(settings, SlackSettings):
        return SlackSink(endpoint, Template(settings.template))
    if isinstance(settings, FeishuSettings):
        secret = secret_source(settings.secret, settings.secret_file)
        return FeishuSink(endpoint, Template(settings.template), secret)
    if isinstance(settings, AlertmanagerSettings):
        return AlertmanagerSink(endpoint, resend_seconds=settings.resend_seconds, keep_seconds=settings.keep_seconds)
    return WebhookSink(endpoint, secret_source(settings.secret, settings.secret_file))


def secret_source(given: Secret | None, file: str | None) -> SecretSource | None:
    """Where a secret comes from; a file is read at every use, so that it may be replaced. None where there is none."""
    if given is not None:
        return given.reveal
    if file is None:
        return None

    def read() -> str:
        try:
            return Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise TryLater(f"{file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TryLater(f"{file} is not UTF-8 text") from None

    return read


def _endpoint(settings: HttpSinkSettings) -> Endpoint:
    def no_url() -> str:
        raise TryLater("no URL is configured")

    read_url = secret_source(settings.url, settings.url_file) or no_url

    def url() -> str:
        found = read_url()
        what = sent_in_the_clear(settings, found)
        if what is not None:
            raise TryLater(f"http:// would send {what} in the clear; give a URL of https://")
        return found

    return Endpoint(
        url=url,
        timeout_seconds=settings.timeout_seconds,
        bearer=secret_source(getattr(settings, "bearer_token", None), getattr(settings, "bearer_token_file", None)),
        username=getattr(settings, "username", None),
        password=secret_source(getattr(settings, "password", None), getattr(settings, "password_file", None)),
        ca_file=settings.ca_file,
        proxy=secret_source(settings.proxy, None),
        agent=f"bearwire/{__version__}",
    )
