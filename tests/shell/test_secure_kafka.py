"""TLS in both directions and SASL against Apache Kafka itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.brokers.kraft import KafkaCluster, Security
from tests.integration.conftest import missing, started
from tests.shell.commands import bearwire

pytestmark = pytest.mark.kafka

LISTENER = "listener.name.client"
LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_bearwire="hunter2";'


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one self-signed identity for both sides: cert.pem, key.pem, and both.pem."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        missing("no openssl on the PATH to make a certificate with")
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    (folder / "password").write_text("hunter2\n")
    return folder


@pytest.fixture(scope="module")
def secure_kafka(tls: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a node that asks for a client certificate and a password."""
    properties = {
        f"{LISTENER}.ssl.keystore.type": "PEM",
        f"{LISTENER}.ssl.keystore.location": str(tls / "both.pem"),
        f"{LISTENER}.ssl.truststore.type": "PEM",
        f"{LISTENER}.ssl.truststore.location": str(tls / "cert.pem"),
        f"{LISTENER}.ssl.client.auth": "required",
        f"{LISTENER}.sasl.enabled.mechanisms": "PLAIN",
        f"{LISTENER}.plain.sasl.jaas.config": LOGIN,
    }
    with started(KafkaCluster(tmp_path_factory.mktemp("secure"), security=Security("SASL_SSL", properties))) as kafka:
        yield kafka.bootstrap_servers


def settings(servers: str, tls: Path, **changes: str) -> list[str]:
    values = {
        "bootstrap_servers": servers,
        "security_protocol": "SASL_SSL",
        "sasl_username": "bearwire",
        "sasl_password_file": str(tls / "password"),
        "ssl_cafile": str(tls / "cert.pem"),
        "ssl_certfile": str(tls / "cert.pem"),
        "ssl_keyfile": str(tls / "key.pem"),
        "request_timeout_seconds": "10s",
    } | changes
    return [part for key, value in values.items() if value for part in ("--set", f"kafka.{key}={value}")]


def test_a_replay_reaches_a_kafka_that_asks_for_everything(secure_kafka: str, tls: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id":"a","text":"b","published_at":"2026-01-05T09:00:00Z"}\n')
    result = bearwire("replay", str(source), *settings(secure_kafka, tls))
    assert result.exit_code == 0, result.output
    assert "1 messages published" in result.stderr
    findings = orjson.loads(bearwire("doctor", "--json", *settings(secure_kafka, tls)).stdout)["findings"]
    states = {finding["about"]: finding["state"] for finding in findings}
    assert {states[about] for about in ("broker", "topics", "clock")} == {"ok"}, findings


def test_a_wrong_password_is_said_without_showing_it(secure_kafka: str, tls: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("letmein")
    arguments = settings(secure_kafka, tls, sasl_password_file=str(tmp_path / "wrong"))
    result = bearwire("dead-letters", "list", *arguments)
    assert result.exit_code == 1
    assert "no Kafka broker answers" in result.stderr
    assert "uthenticat" in result.stderr
    assert "letmein" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_broker_that_cannot_prove_its_name_is_refused(secure_kafka: str, tls: Path) -> None:
    result = bearwire("dead-letters", "list", *settings(secure_kafka, tls, ssl_cafile=""))
    assert result.exit_code == 1
    assert "no Kafka broker answers" in result.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in result.stderr
