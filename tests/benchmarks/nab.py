"""`make bench-nab`: `bearwire detect` on the Numenta Anomaly Benchmark, scored by NAB's standard profile, 0 to 100.

The score is that of Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark"
(2015, arXiv:1510.03336, section III). A row is detected where the detector's score reaches a threshold, the same for
all series. The first detection in a labelled window earns up to 1, more the earlier it is; a window without one
costs 1; every detection outside the windows costs up to 0.11, less the sooner it follows one. The first 15 % of a
series (of its first 5,000 rows, as in NAB's own files and published results) are not judged. 100 is every window found
at its first row and nothing else, 0 a detector that says nothing.

The threshold is the one that scores best on these very series, as NAB chooses it. The last line of the table holds each
series to the best threshold of the others.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Window = tuple[int, int]

FALSE_POSITIVE = 0.11
FALSE_NEGATIVE = 1.0
PROBATION = 0.15
PROBATION_ROWS = 5000
FAR = 3.0


class Judged(NamedTuple):
    """One series of n rows with its labels.

    `scores` float64[n], the detector's; `windows` the first and the last row of each labelled window, in order of
    time; `values` float64[n] what a detection at each row is worth; `probation` rows at the start count for nothing.
    """

    name: str
    scores: Floats
    windows: tuple[Window, ...]
    values: Floats
    probation: int


class Score(NamedTuple):
    """What a threshold comes to: NAB's raw score, windows found, rows detected outside of windows, out of windows."""

    raw: float
    found: int
    false: int
    windows: int

    @property
    def normalised(self) -> float:
        """0 for a detector that says nothing, 100 for a perfect one."""
        null = -FALSE_NEGATIVE * self.windows
        return 100.0 * (self.raw - null) / (self.windows - null)


def sigmoid(position: Floats) -> Floats:
    """The paper's scaled sigmoid: nearly 1 at the start of a window (-1), 0 at its end, -1 far behind it."""
    return np.where(position > FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, FAR))) - 1.0)


def values_of(rows: int, windows: Sequence[Window]) -> Floats:
    """What a detection at each row is worth, float64[rows]: up to 1 in a window, down to -0.11 outside of them.

    Positions are in units of the window: -1 at its first row, 0 just behind its last, and behind that the distance to
    its last row over its length less one.
    """
    values = np.full(rows, -FALSE_POSITIVE)
    for number, (first, last) in enumerate(windows):
        length = last - first + 1
        inside = np.arange(first, last + 1)
        values[inside] = sigmoid((inside - last - 1) / length) / sigmoid(np.array(-1.0))
        until = windows[number + 1][0] if number + 1 < len(windows) else rows
        behind = np.arange(last + 1, until)
        values[behind] = FALSE_POSITIVE * sigmoid((behind - last) / max(length - 1, 1))
    return values


def judged(name: str, scores: Floats, windows: Sequence[Window]) -> Judged:
    """The series with the worth of its rows."""
    probation = int(PROBATION * min(len(scores), PROBATION_ROWS))
    return Judged(name, scores, tuple(windows), values_of(len(scores), windows), probation)


def score(series: Judged, threshold: float) -> Score:
    """One series at this threshold; a row is detected where its score reaches it."""
    detected = series.scores >= threshold
    detected[: series.probation] = False
    raw, found = 0.0, 0
    for first, last in series.windows:
        hits = series.values[first : last + 1][detected[first : last + 1]]
        raw += float(hits.max()) if len(hits) else -FALSE_NEGATIVE
        found += len(hits) > 0
        detected[first : last + 1] = False
    return Score(raw + float(series.values[detected].sum()), found, int(detected.sum()), len(series.windows))


def together(parts: Sequence[Score]) -> Score:
    """The sum over series."""
    return Score(*(sum(column) for column in zip(*parts, strict=True)))


def best_threshold(corpus: Sequence[Judged]) -> float:
    """The threshold with the highest score over all series; the higher one where two are as good."""
    tried = np.unique(np.concatenate([series.scores for series in corpus]))[::-1]
    tried = tried[tried > 0.0]
    raws = [sum(score(series, float(each)).raw for series in corpus) for each in tried]
    silent = together([score(series, np.inf) for series in corpus]).raw
    return float(tried[int(np.argmax(raws))]) if len(raws) and max(raws) > silent else float("inf")


def read_series(file: Path, labels: Sequence[Sequence[str]], arguments: Sequence[str]) -> Judged:
    """`bearwire detect` over a CSV, with the labelled windows (first and last timestamp of each)."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "scores.csv"
        command = [sys.executable, "-m", "streamer.cli", "detect", str(file), "-o", str(output), *arguments]
        subprocess.run(command, check=True, stderr=subprocess.PIPE)
        with output.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    times = np.array([row["timestamp"] for row in rows], "datetime64[ms]")
    scores = np.array([row["score"] for row in rows], np.float64)
    edges = np.array(labels, "datetime64[ms]").reshape(-1, 2)
    first, last = np.searchsorted(times, edges[:, 0]), np.searchsorted(times, edges[:, 1], side="right") - 1
    return judged(file.stem, scores, list(zip(first.tolist(), last.tolist(), strict=True)))


def table(corpus: Sequence[Judged], threshold: float) -> list[dict[str, object]]:
    """A line per series, one for all of them, one with each at the best threshold of the others."""
    parts = [score(series, threshold) for series in corpus]
    lines = [row(series.name, part, threshold) for series, part in zip(corpus, parts, strict=True)]
    lines.append(row("all", together(parts), threshold))
    if len(corpus) > 1:
        held = [score(series, best_threshold([other for other in corpus if other is not series])) for series in corpus]
        lines.append(row("all, each by the others", together(held), None))
    return lines


def row(name: str, part: Score, threshold: float | None) -> dict[str, object]:
    """One line of the table."""
    return {
        "series": name,
        "score": round(part.normalised, 1),
        "found": part.found,
        "windows": part.windows,
        "false_rows": part.false,
        "threshold": None if threshold is None else round(threshold, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with nab/*.csv and nab/windows.json")
    parser.add_argument("--threshold", type=float, help="score with this one and do not look for the best")
    parser.add_argument("--two-sided", action="store_true", help="what is unusually low counts too")
    options = parser.parse_args()
    folder = options.data / "nab"
    labels = folder / "windows.json"
    if not labels.exists():
        sys.exit(f"{labels} is not there; name the data folder: make bench-nab DATA=...")
    windows = json.loads(labels.read_text(encoding="utf-8"))
    arguments = ["--two-sided"] if options.two_sided else []
    corpus = [read_series(folder / name, windows[name], arguments) for name in sorted(windows)]
    threshold = best_threshold(corpus) if options.threshold is None else options.threshold
    for line in table(corpus, threshold):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
