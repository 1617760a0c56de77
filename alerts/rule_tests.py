"""Unit tests for rules, written in YAML, as promtool has them.

    rules: {rules: [{name: surge, min_negative: 4}]}     # or a path beside this file
    tests:
      - name: a flash on one company fires
        quiet: {days: 4, texts_per_day: 60, negative_share: 0.2, companies: 5, topics: 3}
        bursts:
          - {series: company:C0, after: 3d 10h, length: 30m, texts: 25, negative: 0.9}
        expect:
          - {series: company:C0, fires: true, within: 30m, of: 3d 10h}

Background texts are spread over the days in a fixed pseudo-random order, so a test gives the same answer everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from alerts.durations import DAY_MS, parse_duration_ms
from alerts.engine import AlertEngine
from alerts.panes import FIELDS, NO_EVIDENCE, ClosedPane
from alerts.records import AlertRecord
from alerts.rules import RulesError, RuleSet

_PANE_MS = 60_000
_EPOCH_MS = 1_704_067_200_000
_WINDOWS: tuple[str, ...] = ("15m", "1h", "24h")


class Quiet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ordinary days of a test."""

    days: float = 4.0
    texts_per_day: int = 60
    negative_share: float = 0.2
    companies: int = 5
    topics: int = 3


class Burst(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts on one series on top of the ordinary ones; `negative` is the share of them that is."""

    series: str
    after: str
    length: str
    texts: int
    negative: float = 1.0


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be true: an alert on `series` fires, or does not, `within` some time `of` a time since the start."""

    series: str
    fires: bool = True
    within: str = "1d"
    of: str = "0m"


class RuleTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test."""

    name: str
    quiet: Quiet = Quiet()
    bursts: tuple[Burst, ...] = ()
    expect: tuple[Expectation, ...] = ()
    windows: tuple[str, ...] = _WINDOWS


def run_rule_tests(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (name, None or what failed) for each test of a file. Raises RulesError where the file is not usable."""
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RulesError(f"{path}: cannot be read as YAML: {error}") from error
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
        raise RulesError(f"{path}: tests: {error}") from error
    for test in tests:
        try:
            records = _replay(test, rules)
        except ValueError as error:
            raise RulesError(f"{path}: test {test.name!r}: {error}") from error
        failures = [failure for expected in test.expect if (failure := _judge(expected, records)) is not None]
        yield test.name, "; ".join(failures) or None


def _rules(given: Any, path: Path) -> RuleSet:
    if isinstance(given, str):
        return RuleSet.load(path.parent / given)
    if not isinstance(given, Mapping):
        raise RulesError(f"{path}: rules: expected a mapping or the path of a rules file")
    return RuleSet.from_mapping(given)


def _replay(test: RuleTest, rules: RuleSet) -> list[AlertRecord]:
    windows = tuple(parse_duration_ms(window) for window in test.windows)
    rng = np.random.default_rng(0)
    rows: list[tuple[int, bool, tuple[str, ...]]] = []
    names: tuple[str, ...]
    quiet = test.quiet
    for _ in range(round(quiet.days * quiet.texts_per_day)):
        names = ("all", f"company:C{rng.integers(quiet.companies)}", f"topic:T{rng.integers(quiet.topics)}")
        rows.append((int(rng.random() * quiet.days * DAY_MS), bool(rng.random() < quiet.negative_share), names))
    for burst in test.bursts:
        start, length = parse_duration_ms(burst.after), parse_duration_ms(burst.length)
        for _ in range(burst.texts):
            at = start + int(rng.random() * length)
            rows.append((at, bool(rng.random() < burst.negative), tuple(dict.fromkeys(("all", burst.series)))))
    keys = sorted({name for _, _, names in rows for name in names})
    place = {key: number for number, key in enumerate(keys)}
    panes: dict[int, np.ndarray[Any, np.dtype[np.int64]]] = {}
    for at, negative, names in rows:
        counts = panes.setdefault(at // _PANE_MS, np.zeros((len(keys), len(FIELDS)), np.int64))
        for name in names:
            counts[place[name], [0, 2 if negative else 3]] += 1
    engine = AlertEngine(rules, book="test", pane_ms=_PANE_MS, windows_ms=windows)
    records: list[AlertRecord] = []
    nothing = np.zeros((len(keys), len(FIELDS)), np.int64)
    sums = np.zeros((len(windows), len(keys), len(FIELDS)), np.int64)
    for pane in range(round((quiet.days + 1) * DAY_MS) // _PANE_MS):
        counts = panes.get(pane, nothing)
        for number, window in enumerate(windows):
            sums[number] += counts - panes.get(pane - window // _PANE_MS, nothing)
        ids = np.flatnonzero(counts[:, 0])
        if len(ids) or engine.is_live():
            start = _EPOCH_MS + pane * _PANE_MS
            closed = ClosedPane(start, start + _PANE_MS, ids, counts[ids], sums, keys)
            records += engine.observe(closed, lambda series, start_ms, end_ms: NO_EVIDENCE, "rule-test")
    return records


def _judge(expected: Expectation, records: list[AlertRecord]) -> str | None:
    start = _EPOCH_MS + parse_duration_ms(expected.of)
    end = start + parse_duration_ms(expected.within)
    found = [r for r in records if r.change == "fired" and r.series == expected.series and start <= r.at_ms <= end]
    if expected.fires and not found:
        return f"{expected.series} did not fire within {expected.within} of {expected.of}"
    if not expected.fires and found:
        return f"{expected.series} fired: {found[0].line}"
    return None
