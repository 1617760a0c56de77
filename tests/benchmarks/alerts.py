"""`make bench-alerts`: injected negative surges found, how soon, what fired for nothing, against the usual detectors.

A clean run of the background counts false alarms per series and 30 days; a run with surges and decoys (see
`alert_streams` for what a surge is) counts what was found on the surge's own series between its start and its end.
The comparators see the same streams, copies folded, and are tuned to the same number of false alarms as Bearwire raised
on the same clean stream. Sentiment and topics come from the shipped model, once, unless they are drawn. A second table
holds stated against observed false alarms on surrogate streams (see `alert_calibration`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from alerts.engine import AlertEngine
from alerts.records import AlertRecord
from alerts.rules import Rule, RuleSet
from tests.alerts.streams import DAY_MS, MINUTE_MS, WINDOWS_MS, Texts, run
from tests.benchmarks.alert_calibration import Calibration, calibrations
from tests.benchmarks.alert_comparators import COMPARATORS, STEP_MS, episodes, negative_counts, tune
from tests.benchmarks.alert_streams import LENGTHS_MS, RATIOS, Background, Surge, inject, plan, read_background

WARM_DAYS = 30
GRACE_MS = 5 * MINUTE_MS


def fired(texts: Texts, budget: str) -> list[AlertRecord]:
    """Alerts that fired, by the default rule with this budget."""
    rules = RuleSet(rules=(Rule(name="negative-surge", max_false_alarms=budget),))
    engine = AlertEngine(rules, book="main", pane_ms=MINUTE_MS, windows_ms=WINDOWS_MS)
    return [record for record in run(engine, texts) if record.change == "fired"]


@dataclass
class Tally:
    """What one detector did over all seeds: delays of surges (None where missed), decoys, false alarms."""

    surges: list[Surge] = field(default_factory=list)
    delays: list[float | None] = field(default_factory=list)
    decoys: list[tuple[Surge, bool]] = field(default_factory=list)
    alarms: int = 0
    series_months: float = 0.0
    seconds: float = 0.0

    def row(self, name: str) -> dict[str, object]:
        """One line of the table."""
        hits = [delay for delay in self.delays if delay is not None]
        return {
            "detector": name,
            "recall": round(len(hits) / max(len(self.delays), 1), 3),
            "median_delay": round(float(np.median(hits)), 3) if hits else None,
            "decoys_fired": self.fired("positive", "copies"),
            "positive_fired": self.fired("positive"),
            "copies_fired": self.fired("copies"),
            "false_alarms_per_series_30d": round(self.alarms / max(self.series_months, 1e-9), 3),
        }

    def fired(self, *kinds: str) -> float:
        """The share of the decoys of these kinds that fired."""
        chosen = [fired for surge, fired in self.decoys if surge.kind in kinds]
        return round(float(np.mean(chosen)), 4) if chosen else 0.0

    def judge(self, surges: Sequence[Surge], times_of: dict[str, list[int]]) -> None:
        """Count the first alarm inside each surge, as a share of its length, and the decoys that fired."""
        for surge in surges:
            end = surge.start_ms + surge.length_ms + GRACE_MS
            inside = [at for at in times_of.get(surge.series, []) if surge.start_ms < at <= end]
            if surge.decoy:
                self.decoys.append((surge, bool(inside)))
            else:
                self.surges.append(surge)
                self.delays.append((min(inside) - surge.start_ms) / surge.length_ms if inside else None)


def cut(background: Background, days: float) -> Background:
    """The first days of a background."""
    end = int(np.searchsorted(background.times_ms, background.times_ms[0] + int(days * DAY_MS)))
    return Background(
        background.times_ms[:end],
        background.labels[:end],
        background.companies[:end],
        background.topics[:end],
        background.texts[:end],
    )


def scored(tweets: Path, scores: Path) -> Path:
    """The scores of these tweets by the shipped model, made if they are not there."""
    if not scores.exists():
        scores.parent.mkdir(parents=True, exist_ok=True)
        print(f"scoring {tweets} with the shipped model into {scores}, once", file=sys.stderr)
        partial = scores.with_suffix(".partial")
        subprocess.run([sys.executable, "-m", "streamer.cli", "classify", str(tweets), "-o", str(partial)], check=True)
        partial.rename(scores)
    return scores


def compare(
    background: Background, seed: int, surges: int, decoys: int, budget: str, tallies: dict[str, Tally]
) -> None:
    """One seed: Bearwire on the clean and on the mixed stream, and every comparator tuned to its false alarms."""
    start_ms = int(background.times_ms[0])
    warm_ms = start_ms + WARM_DAYS * DAY_MS
    months = (int(background.times_ms[-1]) - warm_ms) / DAY_MS / 30
    clean = inject(background, [], seed)
    planned = plan(background, seed, surges, decoys, WARM_DAYS)
    mixed = inject(background, planned, seed)
    began = time.process_time()
    alarms = sum(record.at_ms > warm_ms for record in fired(clean, budget))
    times_of: dict[str, list[int]] = {}
    for record in fired(mixed, budget):
        times_of.setdefault(record.series, []).append(record.at_ms)
    own = tallies.setdefault("Bearwire", Tally())
    own.seconds += time.process_time() - began
    own.judge(planned, times_of)
    own.alarms += alarms
    own.series_months += len(clean.keys) * months
    steps = int((int(background.times_ms[-1]) - start_ms) // STEP_MS) + 3 * DAY_MS // STEP_MS
    for name, detector in COMPARATORS.items():
        tally = tallies.setdefault(name, Tally())
        scores = detector(negative_counts(clean, start_ms, steps))
        scores[:, : WARM_DAYS * DAY_MS // STEP_MS] = 0.0
        threshold = tune(scores, alarms)
        tally.alarms += sum(map(len, episodes(scores, threshold)))
        tally.series_months += len(clean.keys) * months
        starts = episodes(detector(negative_counts(mixed, start_ms, steps)), threshold)
        tally.judge(
            planned,
            {key: (start_ms + (at + 1) * STEP_MS).tolist() for key, at in zip(mixed.keys, starts, strict=True)},
        )


def breakdown(tally: Tally) -> dict[str, dict[str, list[float | None]]]:
    """Recall and median delay by length, ratio and shape of the surges."""

    def of(keep: list[bool]) -> list[float | None]:
        chosen = [delay for delay, kept in zip(tally.delays, keep, strict=True) if kept]
        hits = [delay for delay in chosen if delay is not None]
        return [
            round(len(hits) / len(chosen), 3) if chosen else None,
            round(float(np.median(hits)), 3) if hits else None,
        ]

    return {
        "length": {f"{n / 3_600_000:g}h": of([surge.length_ms == n for surge in tally.surges]) for n in LENGTHS_MS},
        "ratio": {f"{ratio:g}x": of([surge.ratio == ratio for surge in tally.surges]) for ratio in RATIOS},
        "shape": {
            "flash": of([surge.flash for surge in tally.surges]),
            "slow": of([not surge.flash for surge in tally.surges]),
        },
    }


def draw(path: Path, table: list[dict[str, object]], parts: dict[str, dict[str, list[float | None]]]) -> None:
    """Recall and delay of every detector, and Bearwire's recall by kind of surge. Needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        sys.exit("--plot needs matplotlib: install Bearwire with its extra [plot]")
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [str(row["detector"]) for row in table]
    for place, (measure, colour) in enumerate((("recall", "tab:blue"), ("median_delay", "tab:orange"))):
        heights = [float(str(row[measure] or 0.0)) for row in table]
        left.bar(np.arange(len(names)) + 0.4 * place - 0.2, heights, 0.4, color=colour, label=measure.replace("_", " "))
    left.axhline(0.9, color="tab:blue", linewidth=0.6)
    left.axhline(0.25, color="tab:orange", linewidth=0.6)
    left.set_xticks(np.arange(len(names)), names, rotation=20)
    left.set_ylim(0.0, 1.2)
    left.set_title("at the same false alarms")
    left.legend(loc="upper right", ncols=2)
    labels = [name for part in parts.values() for name in part]
    heights = [values[0] or 0.0 for part in parts.values() for values in part.values()]
    right.bar(labels, heights, color="tab:blue")
    right.set_ylim(0.0, 1.0)
    right.set_title("Bearwire's recall by kind of surge")
    right.tick_params(axis="x", rotation=60)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with stocknet/tweets-2014.jsonl.gz")
    parser.add_argument("--tweets", default="stocknet/tweets-2014.jsonl.gz", help="file inside --data")
    parser.add_argument("--scores", type=Path, help="JSONL of `bearwire classify`; made under build/ where absent")
    parser.add_argument("--drawn", action="store_true", help="draw sentiment and topics instead of scoring")
    parser.add_argument("--seeds", default="2,3,4", help="comma-separated")
    parser.add_argument("--surges", type=int, default=300, help="per seed")
    parser.add_argument("--decoys", type=int, default=100, help="per seed")
    parser.add_argument("--days", type=float, default=365.0)
    parser.add_argument("--budget", default="1 per 30d")
    parser.add_argument("--calibration-days", type=int, default=75, help="days of the surrogates; 0 leaves them out")
    parser.add_argument("--json", type=Path, help="write the tables there too")
    parser.add_argument("--plot", type=Path, help="PNG to draw (needs matplotlib)")
    options = parser.parse_args()
    source = options.data / options.tweets
    if not source.exists():
        sys.exit(f"{source} is not there; name the data folder: make bench-alerts DATA=...")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    scores = None if options.drawn else scored(source, options.scores or Path("build") / f"{source.stem}.scores.jsonl")
    tallies: dict[str, Tally] = {}
    for seed in seeds:
        background = cut(read_background(source, scores, seed), options.days)
        compare(background, seed, options.surges, options.decoys, options.budget, tallies)
    table = [tally.row(name) for name, tally in tallies.items()]
    parts = breakdown(tallies["Bearwire"])
    stories = len(background.times_ms)
    print(f"seeds {options.seeds}; {options.surges} surges and {options.decoys} decoys each; budget {options.budget}")
    for row in table:
        print(json.dumps(row))
    for name, part in parts.items():
        print(f"recall and median delay by {name}", json.dumps(part))
    done = stories * 2 * len(seeds) / max(tallies["Bearwire"].seconds, 1e-9)
    print(f"{stories} stories; detection and its panes take in {done:,.0f} stories/s of CPU")
    lines: list[Calibration] = []
    if options.calibration_days:
        print("stated against observed false alarms on surrogates")
        for line in calibrations(background, seeds[:1], options.calibration_days):
            lines.append(line)
            print(json.dumps(asdict(line)))
    if options.json:
        found = {"seeds": seeds, "table": table, "parts": parts, "calibration": [asdict(line) for line in lines]}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        draw(options.plot, table, parts)


if __name__ == "__main__":
    main()
