"""What docs/models.md and docs/delivery.md say is shown by a test or a benchmark has that test or benchmark."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
DELIVERY = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
SOURCES = [file for folder in ("streamer", "alerts", "models", "tests") for file in (ROOT / folder).rglob("*.py")]
FAUSTS_OWN = {"transport/producer.py", "streams.py", "tables/recovery.py"}
CITES_A_TEST = r"`(?:tests/chaos|[\w/]*test_\w+\.py(?:::\w+)?)`"


def test_every_test_file_named_exists_and_is_marked_as_it_runs() -> None:
    rows = [line.split("|")[2] for line in PAGE.splitlines() if line.startswith("| ") and "tests/" in line]
    assert len(rows) > 15
    for row in rows:
        kind = ""
        for mark, file in re.findall(r"(?:\*([ft])\* )?`(?:[^`]*ARGS=)?(tests/[\w/]+\.py)`", row):
            assert (ROOT / file).is_file(), f"docs/models.md names {file}"
            kind = mark or kind
            needs_torch = "needs_training" in (ROOT / file).read_text(encoding="utf-8")
            assert needs_torch == (kind == "t"), f"docs/models.md marks {file} with {kind!r}"


def test_every_benchmark_named_exists() -> None:
    found = set(re.findall(r"-m (tests\.benchmarks\.\w+)", PAGE))
    assert found == {"tests.benchmarks.shared_machine", "tests.benchmarks.lengths"}
    assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in found)


def test_every_file_and_test_that_delivery_names_exists() -> None:
    cited = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", DELIVERY)
    assert len(cited) > 100
    for name, test in cited:
        if name in FAUSTS_OWN:
            continue
        found = [ROOT / name] if (ROOT / name).is_file() else [file for file in SOURCES if file.name == name]
        assert len(found) == 1, f"docs/delivery.md names {name}: {found}"
        if test:
            functions = re.findall(r"^(?:async )?def (\w+)", found[0].read_text(encoding="utf-8"), re.MULTILINE)
            assert test in functions, f"docs/delivery.md names {name}::{test}"
    for folder in re.findall(r"`(tests/\w+)`", DELIVERY):
        assert (ROOT / folder).is_dir(), f"docs/delivery.md names {folder}"


@pytest.mark.parametrize("title", ["The score side", "The watch side"])
def test_every_step_of_delivery_says_where_it_is_tested(title: str) -> None:
    steps = re.split(r"^- ", section(title), flags=re.MULTILINE)[1:]
    assert len(steps) >= 5
    for step in steps:
        assert re.search(CITES_A_TEST, step), step


def test_everything_that_faust_and_aiokafka_do_is_shown_by_a_test_or_said_to_be_met_in_crash_runs_alone() -> None:
    rows = section("What Faust and aiokafka do, and what follows").split("|---|---|\n")[1].strip().splitlines()
    assert len(rows) > 15
    for row in rows:
        assert re.search(CITES_A_TEST + "|only crash runs show", row), row


def test_no_other_place_reaches_into_aiokafka_than_delivery_says() -> None:
    (row,) = re.findall(r"^.* are the places that reach into aiokafka; .*$", DELIVERY, re.MULTILINE)
    said = set(re.findall(r"`(\w+\.py)`", row)) - {"test_reading_kafka.py", "test_promises.py"}
    inside = re.compile(r"(?:consumer|producer|admin|Coordinator)\._[a-z]")
    assert said == {
        file.name
        for file in SOURCES
        if "tests" not in file.relative_to(ROOT).parts and inside.search(file.read_text(encoding="utf-8"))
    }


def section(title: str) -> str:
    """What docs/delivery.md says under a heading."""
    return DELIVERY.split(f"\n## {title}\n")[1].split("\n## ")[0]
