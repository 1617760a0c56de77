"""Unit tests for rules, written in YAML, as promtool has them.

    rules: {rules: [{name: surge, min_negative: 4}]}     # or a path beside this file
    tests:
      - name: a flash on one company fires
        quiet: {days: 4, texts_per_day: 60, negative_share: 0.2, companies: 5, topics: 3}
        bursts:
          - {series: company:C0, also: [topic:T1], after: 3d 10h, length: 30m, texts: 25, negative: 0.9}
        silences:
          - {match: {series: "topic:*"}, from: 3d, to: 4d}
        expect:
          - {series: company:C0, fires: true, within: 30m, of: 3d 10h, told: [pager], with: [all]}
          - {series: topic:T1, muted: true, within: 1h, of: 3d 10h}

Background texts are spread over the days in a fixed pseudo-random order, so a test gives the same answer everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from alerts.dispatch import Told
from alerts.durations import parse_duration_ms
from alerts.rule_scenarios import EPOCH_MS, Burst, Quiet, TestSilence, replay
from alerts.rules import RulesError, RuleSet, read_yaml
from alerts.type_problems import type_problems

_WINDOWS: tuple[str, ...] = ("15m", "1h", "24h")


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be true: an alert on `series` fires, or does not, `within` some time `of` a time since the start.

    `told` are exactly the receivers told of it in that time, `with` series that one notification lists together with
    it, `muted` whether something mutes it when it fires.
    """

    series: str
    fires: bool = True
    told: tuple[str, ...] | None = None
    with_: tuple[str, ...] = msgspec.field(default=(), name="with")
    muted: bool | None = None
    within: str = "1d"
    of: str = "0m"


class RuleTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test."""

    name: str
    quiet: Quiet = Quiet()
    bursts: tuple[Burst, ...] = ()
    silences: tuple[TestSilence, ...] = ()
    expect: tuple[Expectation, ...] = ()
    windows: tuple[str, ...] = _WINDOWS


def run_rule_tests(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (name, None or what failed) for each test of a file. Raises RulesError where the file is not usable."""
    mapping = read_yaml(path)
    if not isinstance(mapping, Mapping) or not isinstance(mapping.get("tests"), list):
        raise RulesError(f"{path}: expected a mapping with the keys 'rules' and 'tests'")
    for key in mapping:
        if key not in ("rules", "tests"):
            near = difflib.get_close_matches(str(key), ["rules", "tests"], n=1, cutoff=0.0)[0]
            raise RulesError(f"{path}: unknown key {key!r}; did you mean {near!r}?")
    rules = _rules(mapping.get("rules", {}), path)
    try:
        tests = msgspec.convert(mapping["tests"], list[RuleTest])
    except msgspec.ValidationError as error:
        said = type_problems(mapping["tests"], list[RuleTest], "tests") or [str(error)]
        raise RulesError(*said).at(path) from error
    for test in tests:
        try:
            told = replay(rules, test.quiet, test.bursts, test.silences, test.windows)
        except ValueError as error:
            wrong = error if isinstance(error, RulesError) else RulesError(str(error))
            raise wrong.at(f"{path}: test {test.name!r}") from error
        failures = [failure for expected in test.expect if (failure := _judge(expected, told, rules)) is not None]
        yield test.name, "; ".join(failures) or None


def _rules(given: Any, path: Path) -> RuleSet:
    if isinstance(given, str):
        return RuleSet.load(path.parent / given)
    if not isinstance(given, Mapping):
        raise RulesError(f"{path}: rules: expected a mapping or the path of a rules file")
    try:
        return RuleSet.written(given)
    except RulesError as error:
        raise error.at(path) from error


def _judge(expected: Expectation, told: Told, rules: RuleSet) -> str | None:
    start = EPOCH_MS + parse_duration_ms(expected.of)
    end = start + parse_duration_ms(expected.within)
    where = f"{expected.series} within {expected.within} of {expected.of}"
    fired = [
        record
        for record in told.alerts
        if record.change == "fired" and record.series == expected.series and start <= record.at_ms <= end
    ]
    if expected.fires and not fired:
        selected = any(rule.selects(expected.series) for rule in rules.rules)
        return f"{where}: it did not fire" + ("" if selected else f"; no rule selects {expected.series}")
    if fired and not expected.fires:
        return f"{where}: it fired: {fired[0].line}"
    if expected.muted is not None and fired and bool(fired[0].muted_by) != expected.muted:
        return f"{where}: muted by {', '.join(fired[0].muted_by) or 'nothing'}"
    about = [
        notification
        for notification in told.notifications
        if start <= notification.at_ms <= end and any(alert.series == expected.series for alert in notification.alerts)
    ]
    receivers = sorted({receiver for notification in about for receiver in notification.receivers})
    if expected.told is not None and receivers != sorted(expected.told):
        return f"{where}: told {', '.join(receivers) or 'nobody'}, expected {', '.join(expected.told) or 'nobody'}"
    together = [{alert.series for alert in notification.alerts} for notification in about]
    if expected.with_ and not any(series.issuperset(expected.with_) for series in together):
        listed = "; ".join(", ".join(sorted(series)) for series in together) or "none"
        return f"{where}: no notification lists it with {', '.join(expected.with_)}; those about it list: {listed}"
    return None
