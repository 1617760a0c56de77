from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from streamer.worker.embedded import EmbeddedBroker, EmbeddedBrokerError

# How long one example takes says more about the machine's other work than about ours.
hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Bootstrap servers of an embedded broker."""
    try:
        with EmbeddedBroker() as broker:
            yield broker.bootstrap_servers
    except EmbeddedBrokerError as error:
        pytest.skip(str(error))
