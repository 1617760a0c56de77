"""The configuration of sinks: who is told of alerts, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from alerts.sinks.template import DEFAULT, FIELDS
from streamer.config.secret import Secret
from streamer.config.types import Duration, FilePath, Names, Section

Text = Annotated[str, Meta(min_length=1)]
Url = Annotated[
    Secret | None,
    Meta(description="Where to post; never logged, since such addresses are often secrets."),
]
UrlFile = Annotated[FilePath | None, Meta(description="A file that holds the address instead.")]
Bearer = Annotated[Secret | None, Meta(description="Sent as `Authorization: Bearer`.")]
BearerFile = Annotated[FilePath | None, Meta(description="A file that holds it, read anew for every message.")]
Username = Annotated[str | None, Meta(description="User of HTTP basic authentication.")]
Password = Annotated[Secret | None, Meta(description="Its password.")]
PasswordFile = Annotated[FilePath | None, Meta(description="A file that holds it, read anew for every message.")]
SigningSecret = Annotated[Secret | None, Meta(description="Signs every message; unsigned without it.")]
SigningSecretFile = Annotated[FilePath | None, Meta(description="A file that holds it, read anew for every message.")]
MessageTemplate = Annotated[
    str,
    Meta(min_length=1, description="The message; its fields: " + ", ".join(f"`{{{each}}}`" for each in FIELDS) + "."),
]


class SinkSettings(Section, frozen=True, kw_only=True):
    """What every sink has."""

    name: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Its name, unique among the sinks.")
    ]
    receivers: Annotated[
        Names, Meta(description="The receivers in the rules' routes that it serves; its own name where empty.")
    ] = ()
    timeout_seconds: Annotated[Duration, Meta(gt=0, description="How long one attempt may take.")] = 10.0
    retry_seconds: Annotated[
        Duration, Meta(ge=0, description="For how long a message is tried before it becomes a dead letter.")
    ] = 3600.0
    max_age_seconds: Annotated[
        Duration,
        Meta(
            ge=0,
            description="A notification of an event longer ago than this is not sent: a backfill of last year pages "
            "nobody. 0 sends everything.",
        ),
    ] = 86_400.0


class HttpSinkSettings(SinkSettings, frozen=True, kw_only=True):
    """What every sink that posts has."""

    url: Url = None
    url_file: UrlFile = None
    ca_file: Annotated[
        FilePath | None, Meta(description="Certificates (PEM) to trust; the system's own where not given.")
    ] = None
    proxy: Annotated[
        Secret | None, Meta(description="An HTTP proxy to go through, `http://user:password@host:port`.")
    ] = None


class WebhookSettings(HttpSinkSettings, frozen=True, kw_only=True):
    """A webhook that takes the notification as JSON."""

    secret: SigningSecret = None
    secret_file: SigningSecretFile = None
    bearer_token: Bearer = None
    bearer_token_file: BearerFile = None
    username: Username = None
    password: Password = None
    password_file: PasswordFile = None


class SlackSettings(HttpSinkSettings, frozen=True, kw_only=True):
    """An incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat)."""

    template: MessageTemplate = DEFAULT


class FeishuSettings(HttpSinkSettings, frozen=True, kw_only=True):
    """A custom bot of Feishu or Lark."""

    template: MessageTemplate = DEFAULT
    secret: SigningSecret = None
    secret_file: SigningSecretFile = None


class AlertmanagerSettings(HttpSinkSettings, frozen=True, kw_only=True):
    """Prometheus' Alertmanager; one sink for each of a cluster."""

    bearer_token: Bearer = None
    bearer_token_file: BearerFile = None
    username: Username = None
    password: Password = None
    password_file: PasswordFile = None
    resend_seconds: Annotated[
        Duration, Meta(ge=1, description="How often firing alerts are repeated; unrepeated they expire after four.")
    ] = 60.0
    keep_seconds: Annotated[
        Duration, Meta(gt=0, description="An alert of which nothing was heard for so long is repeated no more.")
    ] = 604_800.0


class EmailSettings(SinkSettings, frozen=True, kw_only=True):
    """E-mail over SMTP."""

    host: Annotated[str, Meta(min_length=1, description="The server.")]
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65_535)] | None,
        Meta(description="Its port; 587, 465 or 25 by the encryption where not given."),
    ] = None
    encryption: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(description="STARTTLS (required, not tried), TLS from the start, none."),
    ] = "starttls"
    ca_file: Annotated[
        FilePath | None, Meta(description="Certificates (PEM) to trust; the system's own where not given.")
    ] = None
    username: Annotated[str | None, Meta(description="User to log in as; no login where not given.")] = None
    password: Password = None
    password_file: PasswordFile = None
    sender: Annotated[Text, Meta(description="Address that the messages come from.")]
    to: Annotated[Names, Meta(min_length=1, max_length=100, description="Addresses that get each message.")]


class FileSettings(SinkSettings, frozen=True, kw_only=True):
    """A file of notifications, one JSON per line."""

    path: Annotated[FilePath, Meta(description="The file.")]
    max_bytes: Annotated[
        int, Meta(ge=0, description="Beyond this it becomes `path.1` and a new one begins; 0 for never.")
    ] = 0
    keep: Annotated[int, Meta(ge=0, le=1000, description="How many old files are kept.")] = 5
    max_age_seconds: Annotated[
        Duration, Meta(ge=0, description="A notification of an event longer ago is left out; 0 writes everything.")
    ] = 0.0


AnySink = WebhookSettings | SlackSettings | FeishuSettings | AlertmanagerSettings | EmailSettings | FileSettings


class SinksSettings(Section, frozen=True, kw_only=True):
    """Who is told of alerts beside Kafka: each list holds the sinks of one kind."""

    webhooks: Annotated[tuple[WebhookSettings, ...], Meta(description="Signed JSON over HTTP.")] = ()
    slack: Annotated[tuple[SlackSettings, ...], Meta(description="Slack, Mattermost, Rocket.Chat.")] = ()
    feishu: Annotated[tuple[FeishuSettings, ...], Meta(description="Feishu and Lark.")] = ()
    alertmanager: Annotated[tuple[AlertmanagerSettings, ...], Meta(description="Prometheus' Alertmanager.")] = ()
    email: Annotated[tuple[EmailSettings, ...], Meta(description="E-mail over SMTP.")] = ()
    files: Annotated[tuple[FileSettings, ...], Meta(description="Files of JSON lines.")] = ()

    def all(self) -> tuple[AnySink, ...]:
        """Every sink, kind by kind."""
        return (*self.webhooks, *self.slack, *self.feishu, *self.alertmanager, *self.email, *self.files)
