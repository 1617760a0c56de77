"""The short crash run for CI; `make chaos` is the long one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.brokers.kraft import KafkaUnavailable, kafka_jars
from tests.chaos.crash import CrashRun
from tests.integration.conftest import missing
from tests.models.tiny_bundle import write_tiny_bundle

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


async def test_crashes_do_not_show(tmp_path: Path) -> None:
    """BEARWIRE_CHAOS_SEED runs a seed again."""
    try:
        kafka_jars()
    except KafkaUnavailable as error:
        missing(f"Apache Kafka cannot be had here: {error}")
    seed = int(os.environ.get("BEARWIRE_CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"seed {seed}")
    write_tiny_bundle(tmp_path / "tiny")
    report = await CrashRun(tmp_path, str(tmp_path / "tiny"), seed=seed, documents=12_000, kills=6).run()
    print("\n".join(report.lines()))
    assert report.kills == 6
    assert report.pauses
    assert report.broker_kills
