"""TLS and SASL to Apache Kafka, through every client that a worker has: consumers, producers, admin, Faust."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.certificates import Certificates, make_certificates
from tests.brokers.kraft import KafkaCluster, Security
from tests.integration.conftest import started
from tests.integration.deployment import Deployment, until
from tests.integration.stream import documents

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

PASSWORD = "correct horse"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls(certificates: Certificates) -> dict[str, str]:
    listener = "listener.name.client"
    return {
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": str(certificates.broker),
        f"{listener}.ssl.truststore.type": "PEM",
        f"{listener}.ssl.truststore.location": str(certificates.authority),
    }


@pytest.fixture(scope="module")
def sasl_kafka(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node that asks for TLS and a password, PLAIN or SCRAM."""
    security = Security(
        "SASL_SSL",
        tls(certificates)
        | {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.client.plain.sasl.jaas.config": f'{PLAIN} required user_desk="{PASSWORD}";',
            "listener.name.client.scram-sha-256.sasl.jaas.config": f"{SCRAM} required;",
        },
        scram=(f"SCRAM-SHA-256=[name=desk,password={PASSWORD}]",),
    )
    with started(KafkaCluster(tmp_path_factory.mktemp("kafka"), security=security)) as cluster:
        yield cluster.bootstrap_servers


@pytest.fixture(scope="module")
def mutual_kafka(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node that asks for the client's certificate."""
    security = Security("SSL", tls(certificates) | {"listener.name.client.ssl.client.auth": "required"})
    with started(KafkaCluster(tmp_path_factory.mktemp("kafka"), security=security)) as cluster:
        yield cluster.bootstrap_servers


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_worker_logs_in_over_tls(
    sasl_kafka: str, certificates: Certificates, tiny_bundle: str, tmp_path: Path, mechanism: str
) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    deployment = Deployment(
        sasl_kafka,
        tmp_path,
        model__bundle=tiny_bundle,
        kafka__security_protocol="SASL_SSL",
        kafka__sasl_mechanism=mechanism,
        kafka__sasl_username="desk",
        kafka__sasl_password_file=str(password),
        kafka__ssl_cafile=str(certificates.authority),
    )
    await run_through(deployment)


async def test_a_worker_shows_its_certificate(
    mutual_kafka: str, certificates: Certificates, tiny_bundle: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        mutual_kafka,
        tmp_path,
        model__bundle=tiny_bundle,
        kafka__security_protocol="SSL",
        kafka__ssl_cafile=str(certificates.authority),
        kafka__ssl_certfile=str(certificates.client),
        kafka__ssl_keyfile=str(certificates.client_key),
    )
    await run_through(deployment)


async def run_through(deployment: Deployment) -> None:
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    start = int(time.time() * 1000) - 3_600_000
    count = await deployment.publish(documents(300, seed=1, partitions=8, start_ms=start, step_ms=5000))

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count and bool(await deployment.latest("windows"))

    await until(all_out, f"{count} documents are accounted for", worker=worker)
    assert worker.finish() == 0, worker.tail()
    assert PASSWORD not in worker.log.read_text()
