from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.worker.embedded import EmbeddedBroker, EmbeddedBrokerError


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Bootstrap servers of an embedded broker."""
    try:
        with EmbeddedBroker() as broker:
            yield broker.bootstrap_servers
    except EmbeddedBrokerError as error:
        pytest.skip(str(error))
