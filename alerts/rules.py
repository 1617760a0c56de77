"""Rules: which series are watched over which windows, how many false alarms are bearable, how an alert lives.

A rule set is a plain mapping (YAML or JSON). Whatever is left out has a default that works; an unknown key is an error
that names the nearest known one.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from alerts.calendars import Period
from alerts.durations import parse_duration_ms, parse_rate_per_day
from alerts.inhibition import Inhibition
from alerts.labels import BUILT_IN, matchers_of
from alerts.routes import Route
from alerts.series_keys import pattern_problem
from alerts.type_problems import type_problem

LIVELY_PER_DAY = 0.5
DEFAULT_SEVERITIES = {"warning": "1 per 30d", "high": "1 per 1y", "critical": "1 per 10y"}


class RulesError(ValueError):
    """A rule set that cannot be used: names the key, what is wrong and what was expected."""


class Life(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Timings of an alert, all in event time.

    `pending` is how long a surge must hold before it fires, `min_firing` the least time it stays firing,
    `resolve_after` how long it must be calm, `cool_down` how long after that nothing new may start, `repeat` how
    often a firing alert is sent again. `hysteresis`: calm means a score that ordinary days reach this many times as
    often as the one needed to fire.
    """

    pending: str = "0m"
    min_firing: str = "10m"
    resolve_after: str = "10m"
    cool_down: str = "30m"
    repeat: str = "6h"
    hysteresis: float = 5.0


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: an alert of its own for every series it selects.

    `series` are shell patterns on series keys (`topic:*`, `company:XOM`, `company:*|topic:*`), `exclude` takes some
    out again; `windows` of the book, all when empty; `max_false_alarms` the bearable rate per series; `severities`
    the same rate for each severity, mildest first; `min_negative` negative texts (see `least_negative`) and
    `min_sources` independent sources are the least that an alert must rest on; `slow` also watches for slow
    deterioration. While one of the calendars `mute` holds, nobody is told of its alerts.
    """

    name: str
    series: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    max_false_alarms: str = "1 per 30d"
    severities: dict[str, str] = msgspec.field(default_factory=dict)
    min_negative: int | None = None
    min_sources: int = 1
    slow: bool = True
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    mute: tuple[str, ...] = ()
    life: Life = Life()

    def selects(self, series: str) -> bool:
        """Whether the rule watches the series with this key."""
        return any(fnmatch.fnmatchcase(series, pattern) for pattern in self.series) and not any(
            fnmatch.fnmatchcase(series, pattern) for pattern in self.exclude
        )

    @property
    def least_negative(self) -> int:
        """`min_negative`, or what the budget suggests: two negative stories are worth a word to a desk that can take an
        alert every other day from a series, and chance to one that can take less."""
        if self.min_negative is not None:
            return self.min_negative
        return 2 if self.budget_per_day >= LIVELY_PER_DAY else 3

    @property
    def budget_per_day(self) -> float:
        """Bearable false alarms per series and day."""
        return parse_rate_per_day(self.max_false_alarms)

    @property
    def severity_rates(self) -> tuple[tuple[str, float], ...]:
        """Severities with the false-alarm rate per day that each stands for, mildest first; the first is the budget."""
        if self.severities:
            rates = [(name, parse_rate_per_day(rate)) for name, rate in self.severities.items()]
            return tuple(sorted(rates, key=lambda item: -item[1]))
        names = list(DEFAULT_SEVERITIES)
        return tuple(
            (name, self.budget_per_day / factor) for name, factor in zip(names, (1.0, 12.0, 120.0), strict=True)
        )


class Learning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the past is learned.

    `memory` is the time after which a day counts for half; `warm_up` the event time that a book is watched before
    anything may fire.
    """

    memory: str = "28d"
    warm_up: str = "1d"


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the whole book may cost: a bearable rate of false alarms over all rules and series together."""

    max_false_alarms: str

    @property
    def per_day(self) -> float:
        """Bearable false alarms per day."""
        return parse_rate_per_day(self.max_false_alarms)


class RuleSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rules of a book, and who is told of their alerts, when and how.

    `language` is that of the sentences in records and notifications.
    """

    rules: tuple[Rule, ...] = (Rule(name="negative-surge"),)
    budget: Budget | None = None
    learning: Learning = Learning()
    route: Route = Route()
    inhibit: tuple[Inhibition, ...] = ()
    calendars: dict[str, tuple[Period, ...]] = {}
    language: Literal["en", "zh"] = "en"

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RuleSet:
        """The rule set of a mapping as read from YAML. Raises RulesError naming the key and the nearest known one."""
        _check_keys(mapping, cls, "rules file")
        try:
            rule_set = msgspec.convert(dict(mapping), cls)
        except msgspec.ValidationError as error:
            raise RulesError(type_problem(mapping, cls) or f"rules: {error}") from error
        rule_set._check()
        return rule_set

    @classmethod
    def written(cls, mapping: Mapping[str, Any]) -> RuleSet:
        """As `from_mapping`, for rules that somebody wrote: patterns that fit no series are refused as well.

        A book's log may hold such patterns of earlier, and they do no harm there.
        """
        rule_set = cls.from_mapping(mapping)
        for where, patterns in rule_set._series_patterns():
            for pattern in patterns:
                if (problem := pattern_problem(pattern.removeprefix("!"))) is not None:
                    raise RulesError(f"{where}: {problem}")
        return rule_set

    @classmethod
    def load(cls, path: Path) -> RuleSet:
        """The rule set of a YAML file. Raises RulesError naming the file."""
        mapping = read_yaml(path)
        if not isinstance(mapping, Mapping):
            raise RulesError(f"{path}: expected a mapping with the key 'rules', found {type(mapping).__name__}")
        try:
            return cls.written(mapping)
        except RulesError as error:
            raise RulesError(f"{path}: {error}") from error

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) of a rules file, for editors and other checkers.

        It knows keys and types; durations, rates and the names of calendars and labels only `from_mapping` checks.
        """
        schema = msgspec.json.schema(cls)
        for part in schema["$defs"].values():
            part["description"] = inspect.cleandoc(part.get("description", ""))
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Bearwire rules", **schema}

    @property
    def severities(self) -> tuple[str, ...]:
        """Every severity of the rules, mildest first."""
        rates: dict[str, float] = {}
        for rule in self.rules:
            for name, rate in rule.severity_rates:
                rates.setdefault(name, rate)
        return tuple(sorted(rates, key=lambda name: -rates[name]))

    @property
    def version_id(self) -> str:
        """`rules-` and 12 hexadecimal digits of the canonical form: the same for files that differ only in spelling."""
        canonical = msgspec.json.encode(self, order="sorted")
        return "rules-" + hashlib.sha256(canonical).hexdigest()[:12]

    def _check(self) -> None:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise RulesError(f"rules: two rules are called {name!r}; an alert's id is made from the rule's name")
        if self.budget is not None:
            try:
                parse_rate_per_day(self.budget.max_false_alarms)
            except ValueError as error:
                raise RulesError(f"budget.max_false_alarms: {error}") from error
        _check_duration(self.learning.memory, "learning.memory")
        if parse_duration_ms(self.learning.memory) <= 0:
            raise RulesError(f"learning.memory: {self.learning.memory!r} must be above zero: a half-life, such as 28d")
        _check_duration(self.learning.warm_up, "learning.warm_up")
        for rule in self.rules:
            where = f"rules.{rule.name}"
            for window in rule.windows:
                _check_duration(window, f"{where}.windows")
            for field in ("pending", "min_firing", "resolve_after", "cool_down", "repeat"):
                _check_duration(getattr(rule.life, field), f"{where}.life.{field}")
            if not 1.0 <= rule.life.hysteresis <= 1000.0:
                raise RulesError(f"{where}.life.hysteresis: {rule.life.hysteresis} is not between 1 and 1000")
            if (rule.min_negative is not None and rule.min_negative < 1) or rule.min_sources < 0:
                raise RulesError(f"{where}: min_negative must be at least 1 and min_sources at least 0")
            for field, rate in [("max_false_alarms", rule.max_false_alarms), *rule.severities.items()]:
                try:
                    parse_rate_per_day(rate)
                except ValueError as error:
                    raise RulesError(f"{where}.{field}: {error}") from error
            self._check_calendars(rule.mute, f"{where}.mute")
            _check_labels(rule.labels, where)
        self._check_telling()

    def _series_patterns(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Where patterns on series stand, and the patterns."""
        for rule in self.rules:
            yield f"rules.{rule.name}.series", rule.series
            yield f"rules.{rule.name}.exclude", rule.exclude
        for where, route in self.route.walk():
            yield f"{where}.match.series", matchers_of(route.match).get("series", ())
        for inhibition in self.inhibit:
            for side in ("source", "target"):
                matchers = matchers_of(getattr(inhibition, side))
                yield f"inhibit.{inhibition.name}.{side}.series", matchers.get("series", ())

    def _check_telling(self) -> None:
        """Check routes, inhibition and calendars."""
        for name, periods in self.calendars.items():
            for period in periods:
                if (problem := period.problem()) is not None:
                    raise RulesError(f"calendars.{name}: {problem}")
        for where, route in self.route.walk():
            for field in ("group_wait", "group_interval", "repeat_interval"):
                if (text := getattr(route, field)) is not None:
                    _check_duration(text, f"{where}.{field}")
            self._check_calendars(route.mute or (), f"{where}.mute")
            self._check_calendars(route.active or (), f"{where}.active")
            for name in (*route.match, *(route.group_by or ())):
                self._check_label(name, where)
        if self.route.match:
            raise RulesError("route.match: the outermost route takes every alert; put matchers on routes inside it")
        for rule in self.inhibit:
            for name in (*rule.source, *rule.target, *rule.equal):
                self._check_label(name, f"inhibit.{rule.name}")

    def _check_calendars(self, names: tuple[str, ...], where: str) -> None:
        for name in names:
            if name not in self.calendars:
                near = difflib.get_close_matches(name, self.calendars, n=1, cutoff=0.0)
                hint = f"; did you mean {near[0]!r}?" if near else "; there are no calendars"
                raise RulesError(f"{where}: no calendar is called {name!r}{hint}")

    def _check_label(self, name: str, where: str) -> None:
        known = list(dict.fromkeys((*BUILT_IN, "sector", *(label for rule in self.rules for label in rule.labels))))
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise RulesError(
                f"{where}: no alert has a label {name!r}; did you mean {near!r}? known: {', '.join(known)}"
            )


def read_yaml(path: Path) -> Any:
    """The plain data in a YAML file. Raises RulesError naming the file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RulesError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # PyYAML leaves a date that there is not to Python
        raise RulesError(f"{path}: cannot be read as YAML: {error}") from error


def _check_duration(text: str, where: str) -> None:
    try:
        parse_duration_ms(text)
    except ValueError as error:
        raise RulesError(f"{where}: {error}") from error


def _check_labels(labels: Mapping[str, str], where: str) -> None:
    for name in labels:
        if name in BUILT_IN:
            raise RulesError(f"{where}.labels: every alert has a label {name!r} of its own; choose another name")


_PARTS: dict[tuple[type, str], type] = {
    (RuleSet, "rules"): Rule,
    (RuleSet, "budget"): Budget,
    (RuleSet, "learning"): Learning,
    (RuleSet, "route"): Route,
    (RuleSet, "inhibit"): Inhibition,
    (RuleSet, "calendars"): Period,
    (Rule, "life"): Life,
    (Route, "routes"): Route,
}
"""The struct that a key holds: one, a list of them, or lists of them by name."""


def _check_keys(mapping: Any, struct: type, where: str) -> None:
    """Name the first key in `mapping` and its parts that is unknown, and the nearest known one."""
    if not isinstance(mapping, Mapping):
        raise RulesError(f"{where}: expected a mapping, found {type(mapping).__name__}")
    known = [field.encode_name for field in msgspec.structs.fields(struct)]
    for key, value in mapping.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise RulesError(f"{where}: unknown key {key!r}; did you mean {near[0]!r}? known keys: {', '.join(known)}")
        part = _PARTS.get((struct, key))
        if part is Period and isinstance(value, Mapping):
            for name, periods in value.items():
                _check_parts(periods, part, f"calendars.{name}")
        elif part is not None and value is not None:
            _check_parts(value, part, key if struct is RuleSet else f"{where}.{key}")


def _check_parts(value: Any, part: type, where: str) -> None:
    if not isinstance(value, list | tuple):
        _check_keys(value, part, where)
        return
    for number, item in enumerate(value):
        name = item.get("name", number) if isinstance(item, Mapping) else number
        _check_keys(item, part, f"{where}[{name}]")
