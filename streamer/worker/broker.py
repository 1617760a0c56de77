"""Waiting for Kafka at the start, and noticing later that it no longer answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamer.config.settings import Config
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error
from streamer.worker.status import WorkerStatus
from streamer.worker.topics import ensure_topics

_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 15.0
_PROBE_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


async def connected_admin(config: Config, status: WorkerStatus) -> AIOKafkaAdminClient:
    """Wait until Kafka answers and every topic is there; pauses grow to 15 s, each shortened at random.

    Raises TopicsError and KafkaSetupError, which waiting would not mend.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        admin = AIOKafkaAdminClient(**client_arguments(config.kafka, purpose="admin"))
        try:
            await admin.start()
            await ensure_topics(admin, config)
        except (KafkaError, OSError) as error:
            await _closed(admin)
            why = plain_error(error, config.kafka)
        except BaseException:
            await _closed(admin)
            raise
        else:
            status.release("broker")
            return admin
        wait = pause * random.uniform(0.5, 1.0)  # noqa: S311
        status.hold("broker", why)
        status.note_progress()
        log.warning("waiting for Kafka, next try in %.1f s: %s", wait, why)
        await asyncio.sleep(wait)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)


async def watch_broker(admin: AIOKafkaAdminClient, config: Config, status: WorkerStatus) -> None:
    """Ask the broker every ten seconds whether it is there, and say in the status when it is not."""
    while True:
        await asyncio.sleep(_PROBE_SECONDS)
        try:
            await asyncio.wait_for(admin.describe_cluster(), _PROBE_SECONDS)
        except (KafkaError, KafkaSetupError, OSError, TimeoutError) as error:
            why = plain_error(error, config.kafka)
            if "broker" not in status.holds:
                log.warning("Kafka does not answer: %s", why)
            status.hold("broker", why)
        else:
            status.release("broker")


async def _closed(admin: AIOKafkaAdminClient) -> None:
    with contextlib.suppress(KafkaError, OSError):
        await admin.close()
