"""What holds for every test: runs of many minutes are asked for by name."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--acceptance` runs what is marked so, and nothing else."""
    parser.addoption(
        "--acceptance", action="store_true", help="run the long runs: crashes, faults, a cluster, a year of tweets"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    wanted = bool(config.getoption("--acceptance"))
    left_out = [item for item in items if (item.get_closest_marker("acceptance") is not None) != wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
