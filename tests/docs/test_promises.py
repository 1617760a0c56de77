"""What docs/models.md and docs/delivery.md say is shown by a test or a benchmark has that test or benchmark."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


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


FAUSTS = {"transport/producer.py", "streams.py"}
"""Files of Faust that docs/delivery.md names."""


def test_every_file_that_the_page_on_delivery_names_exists() -> None:
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", page)) - FAUSTS
    assert len(named) > 30
    ours = [
        file.relative_to(ROOT).as_posix()
        for part in ("streamer", "alerts", "tests")
        for file in (ROOT / part).rglob("*.py")
    ]
    for name in named:
        assert [file for file in ours if file == name or file.endswith(f"/{name}")], f"docs/delivery.md names {name}"


def test_every_step_of_delivery_says_where_it_is_shown() -> None:
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    for side in ("## The score side", "## The watch side"):
        steps = re.split(r"^- ", page.partition(side)[2].partition("\n## ")[0], flags=re.MULTILINE)[1:]
        assert len(steps) >= 5
        for step in steps:
            assert re.search(r"\*Shown\s+by\*\s+`tests/", step), f"{side[3:]}: {step[:60]}..."
