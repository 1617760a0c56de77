"""The one place that turns `config.kafka` into arguments for aiokafka and Faust."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError, KafkaError

from streamer.config.secret import Secret
from streamer.config.settings import KafkaSettings
from streamer.escaping import escaped
from streamer.kafka.offset_fetches import check_offset_fetches

COMPRESSION = "lz4"
LONGEST_POLL_INTERVAL_MS = 10 * 365 * 86_400_000
"""For members of a group that may stand by: one that polls for nothing leaves, in aiokafka, and does not come back. The
watchdog looks after those that have work."""


class KafkaSetupError(Exception):
    """Kafka cannot be used as configured; the message names the key or the broker and what to do."""


def client_arguments(kafka: KafkaSettings, *, purpose: str = "") -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes. Raises `KafkaSetupError`.

    `purpose` is appended to the client id, so that a broker's log tells a worker's clients apart.
    """
    check_offset_fetches()
    arguments: dict[str, Any] = {
        "bootstrap_servers": servers(kafka),
        "client_id": f"{kafka.client_id}-{purpose}" if purpose else kafka.client_id,
        "request_timeout_ms": round(kafka.request_timeout_seconds * 1000),
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = tls_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        if kafka.sasl_mechanism == "OAUTHBEARER":
            arguments["sasl_oauth_token_provider"] = FileTokenProvider(
                _required(kafka.sasl_token_file, "sasl_token_file")
            )
        else:
            arguments["sasl_plain_username"] = _required(kafka.sasl_username, "sasl_username")
            arguments["sasl_plain_password"] = sasl_password(kafka).reveal()
    return arguments


def faust_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """`broker` and `broker_credentials` of a Faust app, and its client id and timeout. Raises `KafkaSetupError`."""
    from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
    from yarl import URL

    check_offset_fetches()
    context = tls_context(kafka) if kafka.security_protocol.endswith("SSL") else None
    credentials: Any = None
    if kafka.security_protocol.startswith("SASL"):
        if kafka.sasl_mechanism == "OAUTHBEARER":
            provider = FileTokenProvider(_required(kafka.sasl_token_file, "sasl_token_file"))
            credentials = OAuthCredentials(oauth_cb=provider, ssl_context=context)
        else:
            credentials = SASLCredentials(
                username=_required(kafka.sasl_username, "sasl_username"),
                password=sasl_password(kafka).reveal(),
                mechanism=kafka.sasl_mechanism,
                ssl_context=context,
            )
    elif context is not None:
        credentials = SSLCredentials(context)
    return {
        "broker": [URL(f"kafka://{server}") for server in servers(kafka)],
        "broker_credentials": credentials,
        "broker_client_id": f"{kafka.client_id}-faust",
        "broker_request_timeout": kafka.request_timeout_seconds,
    }


def servers(kafka: KafkaSettings) -> list[str]:
    """The bootstrap servers, each `host:port`."""
    return [server.strip() for server in kafka.bootstrap_servers.split(",") if server.strip()]


def sasl_password(kafka: KafkaSettings) -> Secret:
    """The SASL password from the configuration or its file. Raises `KafkaSetupError`."""
    password = _secret(kafka, "sasl_password")
    if password is None:
        raise KafkaSetupError("kafka.sasl_password: neither it nor kafka.sasl_password_file is set")
    return password


def tls_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """TLS as configured: the broker's certificate is always verified. Raises `KafkaSetupError`."""
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise KafkaSetupError(f"kafka.ssl_cafile: {kafka.ssl_cafile} {_unusable(error)}") from None
    context.check_hostname = kafka.ssl_check_hostname
    if kafka.ssl_certfile is not None:
        for key, file in (("ssl_certfile", kafka.ssl_certfile), ("ssl_keyfile", kafka.ssl_keyfile)):
            if file is not None:
                _read(file, key)
        password = _secret(kafka, "ssl_key_password")
        try:
            # Without a password OpenSSL would ask for one on the terminal and wait.
            context.load_cert_chain(
                kafka.ssl_certfile, kafka.ssl_keyfile, password=lambda: password.reveal() if password else ""
            )
        except (OSError, ssl.SSLError) as error:
            raise KafkaSetupError(
                f"kafka.ssl_certfile: {kafka.ssl_certfile} and its key {_unusable(error)}; is it PEM, do the two "
                "belong together, and is kafka.ssl_key_password right?"
            ) from None
    return context


class FileTokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """OAUTHBEARER tokens from a file that somebody else keeps fresh (a Kubernetes projected token, say)."""

    def __init__(self, file: str) -> None:
        self._file = file

    async def token(self) -> str:
        """The token as it stands in the file now. Raises `KafkaSetupError`."""
        token = await asyncio.to_thread(_read, self._file, "sasl_token_file")
        if not token:
            raise KafkaSetupError(f"kafka.sasl_token_file: {self._file} is empty")
        return token


def last_words(error: BaseException) -> str:
    """An error of Kafka's clients that nobody could mend, in one line. Some of theirs begin with their name."""
    name, said = type(error).__name__, " ".join(str(error).split()).removeprefix(f"{type(error).__name__}:").strip()
    return f"Kafka: {name}: {said}"


def plain_error(error: BaseException, kafka: KafkaSettings) -> str:
    """What a failure of an aiokafka client means, for people."""
    where = kafka.bootstrap_servers
    if isinstance(error, KafkaConnectionError | ConnectionError | TimeoutError | asyncio.TimeoutError):
        return (
            f"no Kafka broker answers at {where} ({kafka.security_protocol}); is it running, is "
            "kafka.bootstrap_servers right, and do kafka.security_protocol and its settings fit the listener?"
            + (f" (aiokafka: {escaped(_last_words.text, 200)})" if _last_words.text else "")
        )
    if isinstance(error, KafkaError):
        return f"Kafka at {where}: {type(error).__name__}: {error}"
    return str(error) or type(error).__name__


def quiet_clients() -> None:
    """Leaves it to `plain_error` to say why a broker cannot be used: aiokafka logs the reason and raises without it."""
    logger = logging.getLogger("aiokafka")
    logger.propagate = False
    if _last_words not in logger.handlers:
        logger.addHandler(_last_words)


class _LastWords(logging.Handler):
    """Keeps the last error that was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


_last_words = _LastWords()


def _secret(kafka: KafkaSettings, name: str) -> Secret | None:
    given: Secret | None = getattr(kafka, name)
    file: str | None = getattr(kafka, f"{name}_file")
    return Secret(_read(file, f"{name}_file")) if file is not None else given


def _read(file: str, key: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise KafkaSetupError(f"kafka.{key}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KafkaSetupError(f"kafka.{key}: {file} is not UTF-8 text") from None


def _required(value: str | None, key: str) -> str:
    if value is None:
        raise KafkaSetupError(f"kafka.{key}: is not set")
    return value


def _unusable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"cannot be used: {error.reason or error}"
    return f"cannot be read: {error.strerror}"
