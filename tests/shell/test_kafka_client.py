from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from streamer.config.secret import Secret
from streamer.config.settings import KafkaSettings
from streamer.kafka.client import FileTokenProvider, KafkaSetupError, client_arguments, faust_arguments, tls_context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem, key.pem (password `hunter2`) and plain.pem (its key without one)."""
    folder = tmp_path_factory.mktemp("tls")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=kafka.example"]
    encrypted = ["-keyout", "key.pem", "-out", "cert.pem", "-passout", "pass:hunter2"]
    try:
        subprocess.run([*request, *encrypted], cwd=folder, check=True, capture_output=True)
        plain = ["openssl", "rsa", "-in", "key.pem", "-out", "plain.pem", "-passin", "pass:hunter2"]
        subprocess.run(plain, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on the PATH to make a certificate with")
    return folder


def sasl(**changes: Any) -> KafkaSettings:
    settings = {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": Secret("hunter2")}
    return KafkaSettings(bootstrap_servers="a:1, b:2", **(settings | changes))


def test_plaintext_needs_nothing() -> None:
    arguments = client_arguments(KafkaSettings(bootstrap_servers="a:1,b:2"), purpose="scorer")
    assert arguments == {
        "bootstrap_servers": ["a:1", "b:2"],
        "client_id": "bearwire-scorer",
        "request_timeout_ms": 40_000,
        "security_protocol": "PLAINTEXT",
    }
    assert faust_arguments(KafkaSettings())["broker_credentials"] is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords_reach_both_clients(mechanism: Any) -> None:
    settings = sasl(sasl_mechanism=mechanism)
    arguments = client_arguments(settings)
    assert (arguments["sasl_mechanism"], arguments["sasl_plain_username"]) == (mechanism, "u")
    assert arguments["sasl_plain_password"] == "hunter2"
    assert isinstance(arguments["ssl_context"], ssl.SSLContext)
    credentials = faust_arguments(settings)["broker_credentials"]
    assert credentials.mechanism.value == mechanism
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.password == "hunter2"
    assert "hunter2" not in repr(credentials)


def test_a_password_file_may_end_in_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b" hunter2 \r\n")
    arguments = client_arguments(sasl(sasl_password=None, sasl_password_file=str(file)))
    assert arguments["sasl_plain_password"] == " hunter2 "
    with pytest.raises(KafkaSetupError, match=r"kafka\.sasl_password_file: .*gone cannot be read: No such file"):
        client_arguments(sasl(sasl_password=None, sasl_password_file=str(tmp_path / "gone")))


def test_oauth_tokens_are_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    provider = client_arguments(sasl(sasl_mechanism="OAUTHBEARER", sasl_token_file=str(file)))[
        "sasl_oauth_token_provider"
    ]
    assert isinstance(provider, FileTokenProvider)
    assert asyncio.run(provider.token()) == "one"
    file.write_text("two\n")
    assert asyncio.run(provider.token()) == "two"
    file.write_text("")
    with pytest.raises(KafkaSetupError, match="is empty"):
        asyncio.run(provider.token())


def test_the_broker_s_certificate_is_always_verified() -> None:
    for check in (True, False):
        context = tls_context(KafkaSettings(security_protocol="SSL", ssl_check_hostname=check))
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname is check


def test_mutual_tls(certificate: Path) -> None:
    cert, key, plain = (str(certificate / name) for name in ("cert.pem", "key.pem", "plain.pem"))
    assert tls_context(KafkaSettings(ssl_cafile=cert, ssl_certfile=cert, ssl_keyfile=plain))
    assert tls_context(KafkaSettings(ssl_certfile=cert, ssl_keyfile=key, ssl_key_password=Secret("hunter2")))
    for password in (None, Secret("wrong")):
        with pytest.raises(KafkaSetupError, match=r"kafka\.ssl_certfile: .*cannot be used"):
            tls_context(KafkaSettings(ssl_certfile=cert, ssl_keyfile=key, ssl_key_password=password))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ssl_cafile": "gone.pem"}, r"kafka\.ssl_cafile: gone\.pem cannot be read: No such file"),
        ({"ssl_certfile": "gone.pem"}, r"kafka\.ssl_certfile: gone\.pem cannot be read: No such file"),
        ({"ssl_cafile": __file__}, r"kafka\.ssl_cafile: .* cannot be used"),
        ({"ssl_certfile": __file__}, r"kafka\.ssl_certfile: .* cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(KafkaSetupError, match=message):
        tls_context(KafkaSettings(security_protocol="SSL", **settings))
