"""What is wrong with a rule set whose keys and types are right: durations, rates, names, calendars, labels."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alerts.durations import parse_duration_ms, parse_rate_per_day
from alerts.labels import BUILT_IN, matchers_of
from alerts.series_keys import pattern_problem

if TYPE_CHECKING:
    from alerts.routes import Route
    from alerts.rules import Rule, RuleSet


def rule_set_problems(rule_set: RuleSet) -> Iterator[str]:
    """Every mistake in it: the key, what is wrong and what was expected."""
    names = [rule.name for rule in rule_set.rules]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"rules: two rules are called {name!r}; an alert's id is made from the rule's name"
    if rule_set.budget is not None:
        yield from _rate_problem(rule_set.budget.max_false_alarms, "budget.max_false_alarms")
    memory = rule_set.learning.memory
    unusable = [*_duration_problem(memory, "learning.memory")]
    yield from unusable
    if not unusable and parse_duration_ms(memory) <= 0:
        yield f"learning.memory: {memory!r} must be above zero: a half-life, such as 28d"
    yield from _duration_problem(rule_set.learning.warm_up, "learning.warm_up")
    for rule in rule_set.rules:
        yield from _rule_problems(rule, rule_set)
    yield from _telling_problems(rule_set)


def pattern_problems(rule_set: RuleSet) -> Iterator[str]:
    """Every pattern on series in it that fits no series there can be."""
    for where, patterns in _series_patterns(rule_set):
        for pattern in patterns:
            if (problem := pattern_problem(pattern.removeprefix("!"))) is not None:
                yield f"{where}: {problem}"


def _rule_problems(rule: Rule, rule_set: RuleSet) -> Iterator[str]:
    where = f"rules.{rule.name}"
    for window in rule.windows:
        yield from _duration_problem(window, f"{where}.windows")
    for field in ("pending", "min_firing", "resolve_after", "cool_down", "repeat"):
        yield from _duration_problem(getattr(rule.life, field), f"{where}.life.{field}")
    if not 1.0 <= rule.life.hysteresis <= 1000.0:
        yield f"{where}.life.hysteresis: {rule.life.hysteresis} is not between 1 and 1000"
    if rule.min_negative is not None and rule.min_negative < 1:
        yield f"{where}.min_negative: {rule.min_negative} is not at least 1"
    if rule.min_sources < 0:
        yield f"{where}.min_sources: {rule.min_sources} is not at least 0"
    yield from _rate_problem(rule.max_false_alarms, f"{where}.max_false_alarms")
    for name, rate in rule.severities.items():
        yield from _rate_problem(rate, f"{where}.severities.{name}")
    yield from _calendar_problems(rule.mute, rule_set, f"{where}.mute")
    for name in rule.labels:
        if name in BUILT_IN:
            yield f"{where}.labels: every alert has a label {name!r} of its own; choose another name"


def _telling_problems(rule_set: RuleSet) -> Iterator[str]:
    for name, periods in rule_set.calendars.items():
        for period in periods:
            for problem in period.problems():
                yield f"calendars.{name}: {problem}"
    for where, route in rule_set.route.walk():
        yield from _route_problems(where, route, rule_set)
    if rule_set.route.match:
        yield "route.match: the outermost route takes every alert; put matchers on routes inside it"
    for rule in rule_set.inhibit:
        for name in dict.fromkeys((*rule.source, *rule.target, *rule.equal)):
            yield from _label_problem(name, rule_set, f"inhibit.{rule.name}")


def _route_problems(where: str, route: Route, rule_set: RuleSet) -> Iterator[str]:
    for field in ("group_wait", "group_interval", "repeat_interval"):
        if (text := getattr(route, field)) is not None:
            yield from _duration_problem(text, f"{where}.{field}")
    yield from _calendar_problems(route.mute or (), rule_set, f"{where}.mute")
    yield from _calendar_problems(route.active or (), rule_set, f"{where}.active")
    for name in dict.fromkeys((*route.match, *(route.group_by or ()))):
        if name == "group":
            yield f"{where}: an alert has no group yet when its routes are looked for; use another label"
        else:
            yield from _label_problem(name, rule_set, where)


def _calendar_problems(names: tuple[str, ...], rule_set: RuleSet, where: str) -> Iterator[str]:
    for name in names:
        if name not in rule_set.calendars:
            near = difflib.get_close_matches(name, rule_set.calendars, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else "; there are no calendars"
            yield f"{where}: no calendar is called {name!r}{hint}"


def _label_problem(name: str, rule_set: RuleSet, where: str) -> Iterator[str]:
    known = list(dict.fromkeys((*BUILT_IN, "sector", *(label for rule in rule_set.rules for label in rule.labels))))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        yield f"{where}: no alert has a label {name!r}; did you mean {near!r}? known: {', '.join(known)}"


def _series_patterns(rule_set: RuleSet) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where patterns on series stand, and the patterns."""
    for rule in rule_set.rules:
        yield f"rules.{rule.name}.series", rule.series
        yield f"rules.{rule.name}.exclude", rule.exclude
    for where, route in rule_set.route.walk():
        yield f"{where}.match.series", matchers_of(route.match).get("series", ())
    for inhibition in rule_set.inhibit:
        for side, matched in (("source", inhibition.source), ("target", inhibition.target)):
            yield f"inhibit.{inhibition.name}.{side}.series", matchers_of(matched).get("series", ())


def _duration_problem(text: str, where: str) -> Iterator[str]:
    try:
        parse_duration_ms(text)
    except ValueError as error:
        yield f"{where}: {error}"


def _rate_problem(text: str, where: str) -> Iterator[str]:
    try:
        parse_rate_per_day(text)
    except ValueError as error:
        yield f"{where}: {error}"
