"""What holds for every test: runs of many minutes are asked for by name, and properties have one profile."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

_EXAMPLES = 100
_ACCEPTANCE_EXAMPLES = 2000
_ACCEPTANCE_SECONDS = 7200  # for a property and its examples, on a busy machine


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--acceptance` runs what is marked so, the properties with thousands of examples, and nothing else; `--no-skips`
    is for environments that have all that the chosen tests need."""
    parser.addoption(
        "--acceptance", action="store_true", help="run the long runs: a year of tweets, thousands of examples"
    )
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped fails the run")


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples properties try; none has a deadline, since the machine may be busy."""
    examples = _ACCEPTANCE_EXAMPLES if config.getoption("--acceptance") else _EXAMPLES
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large)
    settings.register_profile(
        "bearwire", deadline=None, max_examples=examples, print_blob=True, suppress_health_check=slow
    )
    settings.load_profile("bearwire")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for, and give time to properties with many examples."""
    if config.getoption("--acceptance"):
        for item in items:
            if item.get_closest_marker("properties"):
                item.add_marker(pytest.mark.timeout(_ACCEPTANCE_SECONDS), append=False)
        left_out = [item for item in items if not any(map(item.get_closest_marker, ("acceptance", "properties")))]
    else:
        left_out = [item for item in items if item.get_closest_marker("acceptance")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run with skipped tests where none may be."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
