from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.worker.embedded import EmbeddedBroker, EmbeddedBrokerError
from tests.brokers.kraft import KafkaCluster, KafkaUnavailable
from tests.models.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of Apache Kafka: of BEARWIRE_TEST_BROKER, else of a node started for the session."""
    named = os.environ.get("BEARWIRE_TEST_BROKER")
    if named:
        yield named
        return
    with started(KafkaCluster(tmp_path_factory.mktemp("kafka"))) as cluster:
        yield cluster.bootstrap_servers


@pytest.fixture(scope="session")
def embedded() -> Iterator[str]:
    """Bootstrap servers of an embedded broker."""
    broker = EmbeddedBroker()
    try:
        broker.start()
    except EmbeddedBrokerError as error:
        missing(str(error))
    yield broker.bootstrap_servers
    broker.stop()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small real bundle."""
    folder: Path = tmp_path_factory.mktemp("bundle") / "tiny"
    write_tiny_bundle(folder)
    return str(folder)


def started(cluster: KafkaCluster) -> KafkaCluster:
    """The cluster, started; a skip (in CI a failure) where Kafka cannot be had on this machine."""
    try:
        cluster.start()
    except KafkaUnavailable as error:
        missing(f"Apache Kafka cannot be had here: {error}")
    return cluster


def missing(why: str) -> None:
    """Skip, or fail in CI, where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
