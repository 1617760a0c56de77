"""The scorer of `make bench-nab`, on cases that were worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import nab

ROWS = 1000
WINDOWS = ((300, 310), (600, 650))


def logistic(position: float) -> float:
    return 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def detecting(*rows: int) -> nab.Judged:
    """A series of 1,000 rows with two windows, of which these rows are detected."""
    scores = np.zeros(ROWS)
    scores[list(rows)] = 1.0
    return nab.judged("made", scores, WINDOWS)


def raw(*rows: int) -> float:
    return nab.score(detecting(*rows), 0.5).raw


def test_every_window_at_its_first_row_and_nothing_else_is_100() -> None:
    perfect = nab.score(detecting(300, 600), 0.5)
    assert perfect == nab.Score(raw=2.0, found=2, false=0, windows=2)
    assert perfect.normalised == 100.0


def test_a_detector_that_says_nothing_is_0() -> None:
    silent = nab.score(detecting(), 0.5)
    assert silent == nab.Score(raw=-2.0, found=0, false=0, windows=2)
    assert silent.normalised == 0.0


def test_a_window_that_is_missed_costs_1() -> None:
    assert raw(300) == pytest.approx(0.0)
    assert nab.score(detecting(300), 0.5).normalised == pytest.approx(50.0)


def test_only_the_first_detection_in_a_window_counts_and_more_the_earlier_it_is() -> None:
    seventh_of_eleven = logistic(-5 / 11) / logistic(-1.0)
    assert raw(306) == pytest.approx(seventh_of_eleven - 1.0)
    assert raw(306, 308, 310) == pytest.approx(seventh_of_eleven - 1.0)
    assert raw(310) == pytest.approx(logistic(-1 / 11) / logistic(-1.0) - 1.0)


def test_a_detection_outside_costs_more_the_farther_behind_a_window_it_is() -> None:
    assert raw(200) - raw() == pytest.approx(-0.11), "no window before it"
    assert raw(311) - raw() == pytest.approx(0.11 * logistic(1 / 10))
    assert raw(330) - raw() == pytest.approx(0.11 * logistic(20 / 10))
    assert raw(341) - raw() == pytest.approx(-0.11), "more than three windows behind"
    assert raw(200, 341) - raw() == pytest.approx(-0.22), "each one costs"


def test_what_is_detected_in_the_probationary_period_counts_for_nothing() -> None:
    assert detecting().probation == 150
    assert raw(*range(150)) == raw()
    assert raw(150) < raw()
    assert nab.judged("long", np.zeros(15_902), ()).probation == 750


def test_one_threshold_is_chosen_for_all_series() -> None:
    first, second = detecting(), detecting()
    first.scores[[300, 600, 900]] = (0.9, 0.6, 0.3)
    second.scores[[300, 600, 900]] = (0.7, 0.6, 0.65)
    assert nab.best_threshold([first, second]) == 0.6
    assert nab.together([nab.score(each, 0.6) for each in (first, second)]).found == 4
    assert nab.best_threshold([detecting(900)]) == math.inf, "better to say nothing"


def test_the_command_scores_what_detect_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, step = np.datetime64("2026-03-02T00:00:00"), np.timedelta64(5, "m")
    times = start + step * np.arange(12 * 288)
    values = np.random.default_rng(1).poisson(20.0, len(times))
    values[2000:2012] += 200
    (tmp_path / "nab").mkdir()
    lines = ["timestamp,value", *(f"{str(at).replace('T', ' ')},{n}" for at, n in zip(times, values, strict=True))]
    (tmp_path / "nab" / "made.csv").write_text("\n".join(lines))
    window = [f"{times[row].item():%Y-%m-%d %H:%M:%S}.000000" for row in (1990, 2090)]
    (tmp_path / "nab" / "windows.json").write_text(json.dumps({"made.csv": [window]}))
    monkeypatch.setattr("sys.argv", ["nab", "--data", str(tmp_path)])
    nab.main()
    made, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert (made["found"], made["windows"], made["false_rows"]) == (1, 1, 0)
    assert whole["score"] == made["score"] == pytest.approx(100 * (1 + logistic(-90 / 101) / logistic(-1)) / 2, abs=0.5)
