"""What no single key can know: settings that contradict each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final

from streamer.config.settings import BookSettings, Config, KafkaSettings, WebSettings, milliseconds
from streamer.config.sink_checks import sink_contradictions
from streamer.core.documents import normal_symbol
from streamer.timestamps import format_duration
from streamer.web.admission import SHORTEST_TOKEN, host_name, is_token

_MAX_PANES = 1_000_000
_USUAL = KafkaSettings()
_SASL_USER = ("sasl_username", "sasl_password", "sasl_password_file")
_TLS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password", "ssl_key_password_file", "ssl_check_hostname")


def contradictions(config: Config, sound: frozenset[str] | None = None) -> Iterator[tuple[str, str]]:
    """Each as (dotted key, what is wrong and what to do). Only sections in `sound` are looked at; None: all are."""
    for sections, check in _CHECKS.items():
        if sound is None or sound.issuperset(sections):
            yield from check(config)


def _kafka(kafka: KafkaSettings) -> Iterator[tuple[str, str]]:
    sasl = kafka.security_protocol.startswith("SASL")
    tls = kafka.security_protocol.endswith("SSL")
    for server in kafka.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536 or "://" in server:
            yield "kafka.bootstrap_servers", f"{server.strip()!r} is not host:port, for example kafka-1:9092"
    for secret in ("sasl_password", "ssl_key_password"):
        if getattr(kafka, secret) is not None and getattr(kafka, f"{secret}_file") is not None:
            yield f"kafka.{secret}", f"is given besides kafka.{secret}_file; keep one of them"
    bearer = kafka.sasl_mechanism == "OAUTHBEARER"
    if sasl and bearer:
        if kafka.sasl_token_file is None:
            yield "kafka.sasl_token_file", "is required by kafka.sasl_mechanism OAUTHBEARER"
        yield from _without_effect(kafka, _SASL_USER, "kafka.sasl_mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    elif sasl:
        if kafka.sasl_username is None:
            yield "kafka.sasl_username", f"is required by kafka.security_protocol {kafka.security_protocol}"
        if kafka.sasl_password is None and kafka.sasl_password_file is None:
            yield (
                "kafka.sasl_password_file",
                f"or kafka.sasl_password is required by kafka.security_protocol {kafka.security_protocol}",
            )
        yield from _without_effect(kafka, ("sasl_token_file",), "kafka.sasl_mechanism", "OAUTHBEARER")
    else:
        keys = ("sasl_mechanism", *_SASL_USER, "sasl_token_file")
        wanted = "SASL_SSL" if tls else "SASL_SSL (or SASL_PLAINTEXT)"
        yield from _without_effect(kafka, keys, "kafka.security_protocol", wanted)
    if not tls:
        yield from _without_effect(kafka, _TLS, "kafka.security_protocol", "SASL_SSL" if sasl else "SSL")
    if kafka.ssl_keyfile is not None and kafka.ssl_certfile is None:
        yield "kafka.ssl_keyfile", "needs kafka.ssl_certfile, the certificate it belongs to"


def _without_effect(kafka: KafkaSettings, names: Iterable[str], decider: str, wanted: str) -> Iterator[tuple[str, str]]:
    """The keys of `names` that are set though `decider` makes them do nothing; with `wanted` there they would."""
    for name in names:
        if getattr(kafka, name) != getattr(_USUAL, name):
            now = getattr(kafka, decider.removeprefix("kafka."))
            yield f"kafka.{name}", f"does nothing with {now}; set {decider} to {wanted}"


def _topics(config: Config) -> Iterator[tuple[str, str]]:
    topics = config.topics
    names = {
        name: getattr(topics, name).name
        for name in (
            "documents",
            "scores",
            "digests",
            "windows",
            "alerts",
            "notifications",
            "silences",
            "dead_letters",
            "late",
        )
    }
    for name, count in Counter(names.values()).items():
        if count > 1:
            users = [key for key, value in names.items() if value == name]
            yield f"topics.{users[-1]}.name", f"{name!r} is also the name of topics.{users[0]}; each needs its own"
    for key, name in names.items():
        if name in (".", ".."):
            yield f"topics.{key}.name", f"Kafka does not allow a topic called {name!r}"
    if 0 < topics.digests.partitions < len(config.books):
        yield (
            "topics.digests.partitions",
            f"is {topics.digests.partitions}, but each of the {len(config.books)} books needs one; 0 follows the books",
        )


def _time(config: Config) -> Iterator[tuple[str, str]]:
    time = config.time
    if abs(time.pane_seconds * 1000 - time.pane_ms) > 1e-6 or time.pane_ms % 1000:
        yield "time.pane_seconds", "must be whole seconds"
    elif 86_400_000 % time.pane_ms:
        yield (
            "time.pane_seconds",
            f"{format_duration(time.pane_seconds)} does not divide a day, panes would drift against the clock; "
            "take for example 30s, 1m, 5m or 1h",
        )
    if config.worker.rebalance_timeout_seconds < config.worker.session_timeout_seconds:
        yield "worker.rebalance_timeout_seconds", "is below worker.session_timeout_seconds; make it at least as long"


def _web(web: WebSettings) -> Iterator[tuple[str, str]]:
    if web.token is not None and web.token_file is not None:
        yield "web.token", "is given besides web.token_file; keep one of them"
    if web.token is not None and not is_token(web.token.reveal()):
        yield "web.token", f"must be {SHORTEST_TOKEN} characters at least, printable ones without spaces"
    for index, name in enumerate(web.names):
        if host_name(name) != name:
            yield (
                f"web.names.{index}",
                f"{name!r} is no host name in lower case, without a port, such as bw.example.com",
            )


def _role(config: Config) -> Iterator[tuple[str, str]]:
    if config.worker.role == "sinks" and not config.sinks.all():
        yield "sinks", "is empty, so a worker of the role sinks has nothing to do; name one sink at least"


def _limits(config: Config) -> Iterator[tuple[str, str]]:
    if config.limits.max_text_bytes > config.limits.max_message_bytes:
        yield "limits.max_text_bytes", "is above limits.max_message_bytes, it would never apply"


def _books(config: Config) -> Iterator[tuple[str, str]]:
    for name, count in Counter(book.name for book in config.books).items():
        if count > 1:
            indexes = [index for index, book in enumerate(config.books) if book.name == name]
            yield f"books.{indexes[-1]}.name", f"{name!r} is also the name of books.{indexes[0]}; each needs its own"
    for index, book in enumerate(config.books):
        yield from _book(book, f"books.{index}", config.time.pane_ms)


def _book(book: BookSettings, key: str, pane_ms: int) -> Iterator[tuple[str, str]]:
    pane = format_duration(pane_ms / 1000)
    for position, window in enumerate(book.windows):
        window_ms = milliseconds(window)
        if window_ms % pane_ms:
            below, above = window_ms - window_ms % pane_ms, window_ms - window_ms % pane_ms + pane_ms
            nearest = " or ".join(format_duration(ms / 1000) for ms in (below, above) if ms)
            yield (
                f"{key}.windows.{position}",
                f"{format_duration(window)} is not a multiple of the pane ({pane}); the nearest are {nearest}",
            )
        elif window_ms // pane_ms > _MAX_PANES:
            yield f"{key}.windows.{position}", f"is more than {_MAX_PANES} panes of {pane}"
    for one, other in pairwise(book.windows_ms):
        if one == other:
            yield f"{key}.windows", f"{format_duration(one / 1000)} is listed twice"
    listed = Counter(symbol for symbols in book.sectors.values() for symbol in symbols)
    for symbol, count in listed.items():
        if count > 1:
            yield f"{key}.sectors", f"{symbol!r} is listed {count} times; a company has one sector"
    for field, symbols in (
        ("companies", book.companies),
        ("select.symbols", book.select.symbols),
        *((f"sectors.{sector}", symbols) for sector, symbols in book.sectors.items()),
    ):
        for symbol in symbols:
            normal = normal_symbol(symbol)
            if normal is None:
                yield f"{key}.{field}", f"{symbol!r} cannot be a ticker"
            elif normal != symbol:
                yield f"{key}.{field}", f"{symbol!r} is written {normal!r} in documents; write it so"


_CHECKS: Final[dict[tuple[str, ...], Callable[[Config], Iterator[tuple[str, str]]]]] = {
    ("kafka",): lambda config: _kafka(config.kafka),
    ("topics", "books"): _topics,
    ("time", "worker"): _time,
    ("books", "time"): _books,
    ("sinks",): lambda config: sink_contradictions(config.sinks),
    ("web",): lambda config: _web(config.web),
    ("worker", "sinks"): _role,
    ("limits",): _limits,
}
"""The sections that a check compares, and the check."""
