from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import orjson
import pytest

import streamer.doctor
from streamer.config.settings import KafkaSettings, WebSettings
from streamer.doctor import (
    PACKAGES,
    cpu_finding,
    cpu_flags,
    disk_finding,
    login_findings,
    package_findings,
    python_finding,
    web_finding,
)
from streamer.doctor_kafka import topic_problems
from streamer.worker.topics import TopicPlan
from tests.shell.commands import bearwire

ALL_THERE = dict.fromkeys(PACKAGES, "1.0")
PLAN = TopicPlan("t", 2, {"cleanup.policy": "delete", "max.message.bytes": "1000"})


def topic(partitions: int = 2, replicas: int = 3, leader: int = 0) -> dict[str, Any]:
    return {"partitions": [{"partition": n, "replicas": [1] * replicas, "leader": leader} for n in range(partitions)]}


def test_an_old_python_is_broken() -> None:
    assert python_finding((3, 10, 4)).state == "broken"
    assert python_finding((3, 11, 0)).state == "ok"


def test_two_onnxruntimes_overwrite_each_other() -> None:
    both = list(package_findings(ALL_THERE | {"onnxruntime": "1.22", "onnxruntime-gpu": "1.22"}))
    assert [finding.state for finding in both] == ["ok", "broken"]
    assert "uninstall" in both[1].advice
    assert [f.state for f in package_findings(ALL_THERE | {"onnxruntime": "1.22"})] == ["ok", "ok"]
    assert [f.state for f in package_findings({"onnxruntime": None})] == ["broken", "broken"]


def test_processors(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni\n\nflags : none\n")
    assert cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "avx512_vnni"}
    assert cpu_flags(tmp_path / "gone") == frozenset()
    assert cpu_finding(frozenset({"avx2", "avx512_vnni"})).state == "ok"
    assert cpu_finding(frozenset({"avx2"})).state == "warning"
    assert cpu_finding(frozenset()).state == "skipped"


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_finding(tmp_path / "not" / "there").state == "ok"
    (tmp_path / "file").write_text("")
    assert disk_finding(tmp_path / "file" / "below").state == "broken"
    monkeypatch.setattr(streamer.doctor, "_MIN_FREE_BYTES", 1 << 60)
    assert disk_finding(tmp_path).state == "warning"


@pytest.mark.parametrize(
    ("servers", "protocol", "mechanism", "state"),
    [
        ("kafka-1:9092", "SASL_PLAINTEXT", "PLAIN", "warning"),
        ("localhost:9092, 10.0.0.1:9092", "SASL_PLAINTEXT", "OAUTHBEARER", "warning"),
        ("localhost:9092,127.0.0.2:9092,[::1]:9092", "SASL_PLAINTEXT", "PLAIN", None),
        ("kafka-1:9092", "SASL_PLAINTEXT", "SCRAM-SHA-512", None),
        ("kafka-1:9092", "SASL_SSL", "PLAIN", None),
        ("kafka-1:9092", "PLAINTEXT", "PLAIN", None),
    ],
)
def test_a_login_that_others_can_read(servers: str, protocol: Any, mechanism: Any, state: str | None) -> None:
    kafka = KafkaSettings(bootstrap_servers=servers, security_protocol=protocol, sasl_mechanism=mechanism)
    assert [finding.state for finding in login_findings(kafka)] == ([state] if state else [])


def test_doctor_looks_at_the_login() -> None:
    login = ("security_protocol=SASL_PLAINTEXT", "sasl_username=u", "sasl_password=hunter2")
    keys = [part for each in ("bootstrap_servers=kafka-1:9092", *login) for part in ("--set", f"kafka.{each}")]
    result = bearwire("doctor", "--no-kafka", *keys)
    assert "sends the password in the clear to kafka-1:9092" in result.stdout
    assert "hunter2" not in result.output


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert web_finding(WebSettings(port=taken.getsockname()[1])).state == "warning"
    assert web_finding(WebSettings(port=0)).state == "ok"


def test_a_topic_as_planned_has_no_problem() -> None:
    assert not list(topic_problems(PLAN, topic(), {"cleanup.policy": "delete", "max.message.bytes": "1000"}, 3))


@pytest.mark.parametrize(
    ("described", "settings", "state", "word"),
    [
        (topic(partitions=1), {}, "warning", "1 partitions"),
        (topic(), {"cleanup.policy": "compact"}, "broken", "compact"),
        (topic(), {"max.message.bytes": "999"}, "warning", "999 bytes"),
        (topic(replicas=1), {}, "warning", "one copy"),
        (topic(leader=-1), {}, "broken", "no leader"),
    ],
)
def test_a_topic_that_differs_is_named(
    described: dict[str, Any], settings: dict[str, str], state: str, word: str
) -> None:
    (finding,) = topic_problems(PLAN, described, settings, 3)
    assert finding.state == state
    assert word in finding.message


def test_a_wrong_configuration_is_broken_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    result = bearwire("doctor", "--json", "--set", "web.prot=1", "--set", f"model.bundle={tmp_path}")
    found = orjson.loads(result.stdout)
    assert result.exit_code == 1
    assert found["ok"] is False
    states = {finding["about"]: finding["state"] for finding in found["findings"]}
    assert states["configuration"] == "broken"
    assert states["python"] == "ok"


def test_no_broker_is_said_plainly() -> None:
    for server in ("127.0.0.1:1", "localhost:1"):
        result = bearwire("doctor", "--set", f"kafka.bootstrap_servers={server}")
        assert result.exit_code == 1
        said = f"no broker at {server}: Connection refused → is the broker running, is the name right?"
        assert f"BROKEN  network        {said}\n" in result.stdout
        assert "\n1 broken, " in result.stdout
        assert max(map(len, result.stdout.splitlines())) < 200


@pytest.mark.embedded
def test_an_empty_broker_is_in_order_but_for_its_topics(embedded_broker: str) -> None:
    prefix = "doctor-test"
    result = bearwire(
        "doctor",
        "--json",
        "--set",
        f"kafka.bootstrap_servers={embedded_broker}",
        "--set",
        f"kafka.group_prefix={prefix}",
    )
    findings = orjson.loads(result.stdout)["findings"]
    about = {finding["about"]: finding for finding in findings}
    assert about["broker"]["state"] == "ok"
    assert "1 broker, speaks like Apache Kafka" in about["broker"]["message"]
    missing = [finding["message"] for finding in findings if finding["about"] == "topics"]
    assert f"{prefix}-watch-state-changelog" in " ".join(missing)
