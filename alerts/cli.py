"""Commands about alerts: `detect` scores any numeric series, `rules` checks and tests rule files."""

from __future__ import annotations

import csv
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.durations import DAY_MS, parse_duration_ms, parse_rate_per_day
from alerts.numeric import NumericScores, NumericSettings, score_series
from alerts.rule_tests import run_rule_tests
from alerts.rules import RulesError, RuleSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@click.command()
@click.argument("series", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="CSV to write.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="PNG to draw (needs matplotlib).")
@click.option("--two-sided", is_flag=True, help="Also alert on what is unusually low.")
@click.option("--max-false-alarms", default="1 per 30d", show_default=True, help="Bearable false alarms.")
@click.option("--rest", default="12h", show_default=True, help="How long one excursion mutes what is not rarer.")
def detect(series: Path, output: Path, plot: Path | None, two_sided: bool, max_false_alarms: str, rest: str) -> None:
    """Score a numeric SERIES (CSV with the columns timestamp,value) and write timestamp,value,expected,score,alert."""
    try:
        every = 1.0 / parse_rate_per_day(max_false_alarms)
        rest_days = parse_duration_ms(rest) / DAY_MS
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if plot is not None:
        _figure()
    stamps, times_ms, values = _read(series)
    settings = NumericSettings(two_sided=two_sided, alert_every_days=every, rest_days=rest_days)
    try:
        scores = score_series(times_ms, values, settings)
    except ValueError as error:
        raise click.ClickException(f"{series}: {error}") from error
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("timestamp", "value", "expected", "score", "alert"))
        columns = (scores.expected.tolist(), scores.score.tolist(), scores.alert.tolist())
        for stamp, value, expected, score, alert in zip(stamps, values.tolist(), *columns, strict=True):
            writer.writerow((stamp, f"{value:.10g}", f"{expected:.6g}", f"{score:.6f}", int(alert)))
    if plot is not None:
        _draw(plot, times_ms, values, scores)
    click.echo(f"{len(stamps)} rows, {int(scores.alert.sum())} alerts, written to {output}", err=True)


def _read(path: Path) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    stamps, times, values = [], [], []
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file)
            missing = {"timestamp", "value"} - set(reader.fieldnames or ())
            if missing:
                raise click.ClickException(f"{path}: no column {', '.join(sorted(missing))}; expected timestamp,value")
            for number, row in enumerate(reader, start=2):
                try:
                    at, value = _cells(row)
                except (ValueError, TypeError) as error:
                    raise click.ClickException(f"{path}, line {number}: {error}") from error
                stamps.append(row["timestamp"])
                times.append(round(at.timestamp() * 1000))
                values.append(value)
        except (UnicodeDecodeError, csv.Error) as error:
            raise click.ClickException(f"{path} is no CSV in UTF-8: {error}") from error
    return stamps, np.array(times, np.int64), np.array(values, np.float64)


def _cells(row: dict[str, str]) -> tuple[datetime, float]:
    at, value = datetime.fromisoformat(row["timestamp"]), float(row["value"])
    if not math.isfinite(value):
        raise ValueError(f"{row['value']} is not a finite number")
    return at if at.tzinfo else at.replace(tzinfo=UTC), value


def _figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise click.ClickException("--plot needs matplotlib: install Bearwire with its extra [plot]") from error
    return Figure(figsize=(12, 6), layout="constrained")


def _draw(path: Path, times_ms: NDArray[np.int64], values: NDArray[np.float64], scores: NumericScores) -> None:
    at = times_ms.astype("datetime64[ms]")
    figure = _figure()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot(at, values, color="0.6", linewidth=0.6, label="value")
    upper.plot(at, scores.expected, color="tab:blue", linewidth=1.0, label="expected")
    upper.plot(at[scores.alert], values[scores.alert], "v", color="tab:red", label="alert")
    upper.legend(loc="upper left")
    lower.plot(at, scores.score, color="tab:red", linewidth=0.8)
    lower.set_ylabel("score")
    figure.savefig(path, dpi=120)


@click.group()
def rules() -> None:
    """Check and test rule files; print their schema."""


@rules.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
def rules_check(files: tuple[Path, ...]) -> None:
    """Say whether each of FILES is a usable rule set; exit status 1 if one is not."""
    bad = False
    for file in files:
        try:
            rule_set = RuleSet.load(file)
        except RulesError as error:
            bad = True
            click.echo(str(error), err=True)
        else:
            count = len(rule_set.rules)
            click.echo(f"{file}: {count} rule{'s' if count != 1 else ''}, {rule_set.version_id}")
    sys.exit(1 if bad else 0)


@rules.command("schema")
def rules_schema() -> None:
    """Print the JSON Schema of a rules file, for editors that complete and check YAML."""
    click.echo(msgspec.json.format(msgspec.json.encode(RuleSet.json_schema()), indent=2).decode())


@rules.command("test")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
def rules_test(files: tuple[Path, ...]) -> None:
    """Run the unit tests in FILES (see docs/alerts.md); exit status 1 if one fails."""
    bad = False
    for file in files:
        try:
            for name, failure in run_rule_tests(file):
                bad = bad or failure is not None
                click.echo(f"{'ok  ' if failure is None else 'FAIL'} {name}" + (f": {failure}" if failure else ""))
        except RulesError as error:
            bad = True
            click.echo(str(error), err=True)
    sys.exit(1 if bad else 0)
