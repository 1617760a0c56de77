"""`make bench-alerts`: injected negative surges found, how soon, what fired for nothing, against the usual detectors.

A clean run of the background counts false alarms per series and 30 days; a run with surges and decoys (see
`alert_streams` for what a surge is) counts what was found on the surge's own series between its start and its end.
The comparators are tuned to the same number of false alarms as Bearwire raised on the same clean stream.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from alerts.engine import AlertEngine
from alerts.records import AlertRecord
from alerts.rules import Rule, RuleSet
from tests.alerts.streams import DAY_MS, MINUTE_MS, WINDOWS_MS, Texts, run
from tests.benchmarks.alert_comparators import COMPARATORS, STEP_MS, episodes, negative_counts, tune
from tests.benchmarks.alert_streams import LENGTHS_MS, RATIOS, Background, Surge, inject, plan, read_background

WARM_DAYS = 30
GRACE_MS = 5 * MINUTE_MS


def fired(texts: Texts, budget: str) -> list[AlertRecord]:
    """Alerts that fired, by the default rule with this budget."""
    rules = RuleSet(rules=(Rule(name="negative-surge", max_false_alarms=budget),))
    engine = AlertEngine(rules, book="main", pane_ms=MINUTE_MS, windows_ms=WINDOWS_MS)
    return [record for record in run(engine, texts) if record.change == "fired"]


def delays(surges: list[Surge], times_of: dict[str, list[int]]) -> list[float | None]:
    """Delay of the first alarm inside each surge as a share of its length; None where it was missed."""
    found = []
    for surge in surges:
        end = surge.start_ms + surge.length_ms + GRACE_MS
        inside = [at for at in times_of.get(surge.series, []) if surge.start_ms < at <= end]
        found.append((min(inside) - surge.start_ms) / surge.length_ms if inside else None)
    return found


def summary(name: str, surges: list[Surge], found: list[float | None], rate: float) -> dict[str, object]:
    """One line of the table."""
    real = [delay for surge, delay in zip(surges, found, strict=True) if not surge.decoy]
    decoys = [delay is not None for surge, delay in zip(surges, found, strict=True) if surge.decoy]
    hits = [delay for delay in real if delay is not None]
    return {
        "detector": name,
        "recall": round(len(hits) / max(len(real), 1), 3),
        "median_delay": round(float(np.median(hits)), 3) if hits else None,
        "decoys_fired": round(float(np.mean(decoys)), 3) if decoys else 0.0,
        "false_alarms_per_series_30d": round(rate, 3),
    }


def cut(background: Background, days: float) -> Background:
    """The first days of a background."""
    end = int(np.searchsorted(background.times_ms, background.times_ms[0] + int(days * DAY_MS)))
    return Background(
        background.times_ms[:end], background.labels[:end], background.companies[:end], background.topics[:end]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with stocknet/tweets-2014.jsonl.gz")
    parser.add_argument("--tweets", default="stocknet/tweets-2014.jsonl.gz", help="file inside --data")
    parser.add_argument("--scores", type=Path, help="JSONL of `bearwire classify`; else sentiment is drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surges", type=int, default=300)
    parser.add_argument("--decoys", type=int, default=100)
    parser.add_argument("--days", type=float, default=365.0)
    parser.add_argument("--budget", default="1 per 30d")
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args()
    source = options.data / options.tweets
    if not source.exists():
        sys.exit(f"{source} is not there; name the data folder: make bench-alerts DATA=...")
    started = time.perf_counter()
    background = cut(read_background(source, options.scores, options.seed), options.days)
    start_ms = int(background.times_ms[0])
    warm_ms = start_ms + WARM_DAYS * DAY_MS
    days = (int(background.times_ms[-1]) - warm_ms) / DAY_MS
    clean = inject(background, [], options.seed)
    surges = plan(background, options.seed, options.surges, options.decoys, WARM_DAYS)
    mixed = inject(background, surges, options.seed)
    alarms = sum(record.at_ms > warm_ms for record in fired(clean, options.budget))
    watched = len(clean.keys) * days / 30
    times_of: dict[str, list[int]] = {}
    for record in fired(mixed, options.budget):
        times_of.setdefault(record.series, []).append(record.at_ms)
    found = delays(surges, times_of)
    table = [summary("Bearwire", surges, found, alarms / watched)]
    steps = int((int(background.times_ms[-1]) - start_ms) // STEP_MS) + 3 * DAY_MS // STEP_MS
    for name, detector in COMPARATORS.items():
        scores = detector(negative_counts(clean, start_ms, steps))
        scores[:, : WARM_DAYS * DAY_MS // STEP_MS] = 0.0
        threshold = tune(scores, alarms)
        rate = sum(map(len, episodes(scores, threshold))) / watched
        starts = episodes(detector(negative_counts(mixed, start_ms, steps)), threshold)
        by_series = {key: (start_ms + (at + 1) * STEP_MS).tolist() for key, at in zip(mixed.keys, starts, strict=True)}
        table.append(summary(name, surges, delays(surges, by_series), rate))
    for row in table:
        print(json.dumps(row))
    real = [(surge, delay is not None) for surge, delay in zip(surges, found, strict=True) if not surge.decoy]
    by_length = {f"{n / 3_600_000:g}h": [hit for surge, hit in real if surge.length_ms == n] for n in LENGTHS_MS}
    by_ratio = {f"{ratio:g}x": [hit for surge, hit in real if surge.ratio == ratio] for ratio in RATIOS}
    print("recall by length", {name: round(float(np.mean(hits)), 2) for name, hits in by_length.items() if hits})
    print("recall by ratio", {name: round(float(np.mean(hits)), 2) for name, hits in by_ratio.items() if hits})
    print(f"{len(clean.times_ms)} stories, {len(clean.keys)} series, {time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
