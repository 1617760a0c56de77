"""`bearwire detect` finds excursions, says each once, and never looks ahead."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from alerts.cli import detect
from alerts.numeric import NumericSettings, score_series

STEP_MS = 300_000


def traffic(days: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    times = 1_700_000_000_000 + np.arange(days * 288) * STEP_MS
    mean = 20 * (1.2 + np.sin(np.arange(len(times)) * 2 * np.pi / 288))
    return times.astype(np.int64), rng.poisson(mean).astype(np.float64)


def test_an_excursion_alerts_once_and_at_its_start() -> None:
    times, values = traffic(8)
    values[1800:1824] += 120
    scores = score_series(times, values)
    found = np.flatnonzero(scores.alert)
    assert any(1800 <= row <= 1806 for row in found)
    assert len([row for row in found if 1800 <= row <= 1824]) <= 3


def test_no_row_depends_on_later_rows() -> None:
    times, values = traffic(5)
    values[1000] += 500
    whole = score_series(times, values)
    part = score_series(times[:1200], values[:1200])
    np.testing.assert_array_equal(whole.score[:1200], part.score)
    np.testing.assert_array_equal(whole.expected[:1200], part.expected)


def test_silence_alerts_only_when_two_sided() -> None:
    times, values = traffic(8)
    values[1850:1900] = 0
    assert not score_series(times, values).alert[1850:1900].any()
    assert score_series(times, values, NumericSettings(two_sided=True)).alert[1850:1900].any()


def test_scores_stay_in_range_for_any_values() -> None:
    times, values = traffic(3)
    for odd in (values * 0.0, values - 1000.5, values * 1e12):
        score = score_series(times, odd).score
        assert np.isfinite(score).all()
        assert (score >= 0).all() and (score <= 1).all()


def test_the_command_writes_a_row_per_row_and_names_a_bad_one(tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("timestamp,value\n" + "".join(f"2026-01-01 {h:02d}:00:00,{h}\n" for h in range(24)))
    assert CliRunner().invoke(detect, [str(source), "-o", str(output)]).exit_code == 0
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["timestamp"] for row in rows] == [f"2026-01-01 {h:02d}:00:00" for h in range(24)]
    assert set(rows[0]) == {"timestamp", "value", "expected", "score", "alert"}
    source.write_text("timestamp,value\n2026-01-01,many\n")
    result = CliRunner().invoke(detect, [str(source), "-o", str(output)])
    assert result.exit_code == 1
    assert "line 2" in result.output
    source.write_bytes(b"timestamp,value\n\xff,1\n")
    result = CliRunner().invoke(detect, [str(source), "-o", str(output)])
    assert result.exit_code == 1
    assert "is no CSV in UTF-8" in result.output


def test_times_that_go_back_are_refused() -> None:
    with pytest.raises(ValueError, match="sort"):
        score_series(np.array([2, 1]), np.array([1.0, 1.0]))


def counts_file(folder: Path) -> Path:
    source = folder / "in.csv"
    rows = "".join(f"2026-01-{day:02d} {hour:02d}:00:00,{hour % 7}\n" for day in range(1, 4) for hour in range(24))
    source.write_text("timestamp,value\n" + rows)
    return source


def test_a_plot_is_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    arguments = [str(counts_file(tmp_path)), "-o", str(tmp_path / "out.csv"), "--plot", str(picture)]
    assert CliRunner().invoke(detect, arguments).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_what_to_install_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    output = tmp_path / "out.csv"
    result = CliRunner().invoke(
        detect, [str(counts_file(tmp_path)), "-o", str(output), "--plot", str(tmp_path / "out.png")]
    )
    assert result.exit_code == 1
    assert "extra [plot]" in result.output
    assert not output.exists()
