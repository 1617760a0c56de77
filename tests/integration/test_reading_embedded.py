"""Reading alerts, on the embedded broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.deployment import Deployment
from tests.integration.reading import check_reader, check_tail

pytestmark = pytest.mark.embedded


async def test_a_reader_gets_each_change_once_and_in_order(embedded: str, tmp_path: Path) -> None:
    await check_reader(Deployment(embedded, tmp_path), exact=False)


async def test_alerts_are_printed_as_they_come(embedded: str, tmp_path: Path) -> None:
    await check_tail(Deployment(embedded, tmp_path))
