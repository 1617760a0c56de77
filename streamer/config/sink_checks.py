"""What no single key of a sink can know: settings that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from alerts.sinks.template import Template, TemplateError
from streamer.config.sink_settings import (
    AnySink,
    EmailSettings,
    FeishuSettings,
    HttpSinkSettings,
    SinksSettings,
    SlackSettings,
)
from streamer.web.admission import is_loopback

_SECRETS: Final = ("url", "secret", "bearer_token", "password")


def sink_contradictions(sinks: SinksSettings) -> Iterator[tuple[str, str]]:
    """Each as (dotted key, what is wrong and what to do)."""
    names: dict[str, str] = {}
    for key, sink in keyed_sinks(sinks):
        if sink.name in names:
            yield f"{key}.name", f"{sink.name!r} is also the name of {names[sink.name]}; each needs its own"
        names.setdefault(sink.name, key)
        yield from _secrets(key, sink)
        if isinstance(sink, HttpSinkSettings):
            yield from _http(key, sink)
        elif isinstance(sink, EmailSettings):
            yield from _email(key, sink)


def keyed_sinks(sinks: SinksSettings) -> Iterator[tuple[str, AnySink]]:
    """Every sink with its dotted key, in the order of `SinksSettings.all`."""
    for kind in ("webhooks", "slack", "feishu", "alertmanager", "email", "files"):
        for index, sink in enumerate(getattr(sinks, kind)):
            yield f"sinks.{kind}.{index}", sink


def _secrets(key: str, sink: AnySink) -> Iterator[tuple[str, str]]:
    for name in _SECRETS:
        if getattr(sink, name, None) is not None and getattr(sink, f"{name}_file", None) is not None:
            yield f"{key}.{name}", f"is given besides {key}.{name}_file; keep one of them"
    has_password = getattr(sink, "password", None) is not None or getattr(sink, "password_file", None) is not None
    has_bearer = getattr(sink, "bearer_token", None) is not None or getattr(sink, "bearer_token_file", None) is not None
    user = getattr(sink, "username", None)
    if has_password and user is None:
        yield f"{key}.username", "is required by the password"
    if user is not None and not has_password:
        yield f"{key}.password_file", "or password is required by the username"
    if has_bearer and user is not None:
        yield f"{key}.bearer_token", "is given besides a username; keep one of them"


def _http(key: str, sink: HttpSinkSettings) -> Iterator[tuple[str, str]]:
    if sink.url is None and sink.url_file is None:
        yield f"{key}.url", "or url_file is required"
    if sink.url is not None and not _is_url(sink.url.reveal()):
        yield f"{key}.url", "is no address that begins with https:// or http://"
    elif sink.url is not None and (what := sent_in_the_clear(sink, sink.url.reveal())) is not None:
        yield f"{key}.url", f"http:// would send {what} in the clear; use https:// (http:// only to this very machine)"
    if sink.proxy is not None and not _is_url(sink.proxy.reveal()):
        yield f"{key}.proxy", "is no address such as http://proxy:3128"
    template = getattr(sink, "template", None)
    if template is not None:
        try:
            Template(template)
        except TemplateError as error:
            yield f"{key}.template", str(error)


def _email(key: str, sink: EmailSettings) -> Iterator[tuple[str, str]]:
    for name, addresses in (("sender", (sink.sender,)), ("to", sink.to)):
        for address in addresses:
            if "@" not in address or not address.isprintable():
                yield f"{key}.{name}", f"{address!r} is no address such as desk@example.com"
    if sink.encryption == "none" and sink.username is not None:
        yield f"{key}.encryption", "none would send the password in the clear; use starttls or tls"


def sent_in_the_clear(sink: HttpSinkSettings, url: str) -> str | None:
    """What a post to `url` would show to everybody on the way, None where nothing: over TLS, or within this machine."""
    try:
        parts = urlsplit(url.strip())
        if parts.scheme != "http" or (_is_here(url) and (sink.proxy is None or _is_here(sink.proxy.reveal()))):
            return None
    except ValueError:
        return None
    if isinstance(sink, SlackSettings | FeishuSettings):
        return "the address, which is a secret,"
    if getattr(sink, "bearer_token", None) is not None or getattr(sink, "bearer_token_file", None) is not None:
        return "the bearer token"
    if getattr(sink, "username", None) is not None or parts.username is not None:
        return "the password"
    return None


def _is_here(url: str) -> bool:
    return is_loopback(urlsplit(url.strip()).hostname or "")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname) and text.strip().isprintable()
    except ValueError:
        return False
