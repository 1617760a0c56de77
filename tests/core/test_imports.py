"""Dependencies point one way, and what decides knows no clock, network, file or thread. See docs/design.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = {
    "bisect", "collections", "dataclasses", "datetime", "functools", "hashlib", "heapq", "itertools", "math", "re",
    "struct", "typing", "unicodedata", "zlib",
    "msgspec", "numpy", "orjson", "scipy",
}  # fmt: skip
PURE_OF_OURS = ("streamer.core", "streamer.config.settings", "streamer.escaping", "streamer.timestamps")


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def is_of(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize(
    ("folder", "others"),
    [
        ("models", ("streamer", "alerts")),
        ("alerts", ("streamer", "models")),
        ("streamer/config", ("streamer.kafka", "streamer.worker", "streamer.offline", "streamer.commands")),
        ("streamer/kafka", ("streamer.worker", "streamer.web", "streamer.offline", "streamer.commands")),
        ("streamer/offline", ("streamer.worker", "streamer.web", "streamer.commands")),
        ("streamer/worker", ("streamer.commands", "streamer.offline", "streamer.demo")),
    ],
)
def test_what_lies_below_does_not_import_what_lies_above(folder: str, others: tuple[str, ...]) -> None:
    upward = [(path.name, module) for path in sources(folder) for module in imported(path) if is_of(module, others)]
    assert not upward


def test_the_core_of_the_daemon_is_pure() -> None:
    for path in sources("streamer/core"):
        for module in imported(path):
            package = module.partition(".")[0]
            if package == "streamer":
                assert is_of(module, PURE_OF_OURS), f"{path.name} imports {module}"
            else:
                assert package in PURE | {"__future__", "models", "alerts"}, f"{path.name} imports {module}"


def test_nothing_that_decides_reads_a_clock() -> None:
    clocks = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter"}
    for path in sources("streamer/core"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in clocks:
                raise AssertionError(f"{path.name}:{node.lineno} calls {node.func.attr}()")
