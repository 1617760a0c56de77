"""Reading alerts, on Apache Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.deployment import Deployment
from tests.integration.reading import check_reader, check_tail

pytestmark = pytest.mark.kafka


async def test_a_reader_gets_each_change_once_and_in_order(kafka: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka, tmp_path)
    deployment.idempotent = True
    await check_reader(deployment, exact=True)


async def test_alerts_are_printed_as_they_come(kafka: str, tmp_path: Path) -> None:
    await check_tail(Deployment(kafka, tmp_path))
