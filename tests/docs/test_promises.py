"""What docs/models.md says is shown by a test or a benchmark has that test or benchmark."""

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
