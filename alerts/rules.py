"""Rules: which series are watched over which windows, how many false alarms are bearable, how an alert lives.

A rule set is a plain mapping (YAML or JSON). Whatever is left out has a default that works; an unknown key is an error
that names the nearest known one.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from alerts.durations import parse_duration_ms, parse_rate_per_day

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
    the same rate for each severity, mildest first; `min_negative` negative texts and `min_sources` independent
    sources are the least that an alert must rest on; `slow` also watches for slow deterioration.
    """

    name: str
    series: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    max_false_alarms: str = "1 per 30d"
    severities: dict[str, str] = msgspec.field(default_factory=dict)
    min_negative: int = 2
    min_sources: int = 1
    slow: bool = True
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    life: Life = Life()

    def selects(self, series: str) -> bool:
        """Whether the rule watches the series with this key."""
        return any(fnmatch.fnmatchcase(series, pattern) for pattern in self.series) and not any(
            fnmatch.fnmatchcase(series, pattern) for pattern in self.exclude
        )

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


class RuleSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rules of a book. `language` is that of `line` and `paragraph` in the records."""

    rules: tuple[Rule, ...] = (Rule(name="negative-surge"),)
    learning: Learning = Learning()
    language: Literal["en", "zh"] = "en"

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RuleSet:
        """The rule set of a mapping as read from YAML. Raises RulesError naming the key and the nearest known one."""
        _check_keys(mapping, cls, "rules file")
        try:
            rule_set = msgspec.convert(dict(mapping), cls)
        except msgspec.ValidationError as error:
            raise RulesError(f"rules: {error}") from error
        rule_set._check()
        return rule_set

    @classmethod
    def load(cls, path: Path) -> RuleSet:
        """The rule set of a YAML file. Raises RulesError naming the file."""
        try:
            mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RulesError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(mapping, Mapping):
            raise RulesError(f"{path}: expected a mapping with the key 'rules', found {type(mapping).__name__}")
        try:
            return cls.from_mapping(mapping)
        except RulesError as error:
            raise RulesError(f"{path}: {error}") from error

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
        _check_duration(self.learning.memory, "learning.memory")
        _check_duration(self.learning.warm_up, "learning.warm_up")
        for rule in self.rules:
            where = f"rules.{rule.name}"
            for window in rule.windows:
                _check_duration(window, f"{where}.windows")
            for field in ("pending", "min_firing", "resolve_after", "cool_down", "repeat"):
                _check_duration(getattr(rule.life, field), f"{where}.life.{field}")
            if not 1.0 <= rule.life.hysteresis <= 1000.0:
                raise RulesError(f"{where}.life.hysteresis: {rule.life.hysteresis} is not between 1 and 1000")
            if rule.min_negative < 1 or rule.min_sources < 0:
                raise RulesError(f"{where}: min_negative must be at least 1 and min_sources at least 0")
            for field, rate in [("max_false_alarms", rule.max_false_alarms), *rule.severities.items()]:
                try:
                    parse_rate_per_day(rate)
                except ValueError as error:
                    raise RulesError(f"{where}.{field}: {error}") from error


def _check_duration(text: str, where: str) -> None:
    try:
        parse_duration_ms(text)
    except ValueError as error:
        raise RulesError(f"{where}: {error}") from error


_SECTIONS: dict[str, type] = {"learning": Learning, "life": Life}


def _check_keys(mapping: Mapping[str, Any], struct: type, where: str) -> None:
    known = [field.encode_name for field in msgspec.structs.fields(struct)]
    for key, value in mapping.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise RulesError(f"{where}: unknown key {key!r}; did you mean {near[0]!r}? known keys: {', '.join(known)}")
        if key in _SECTIONS and isinstance(value, Mapping):
            _check_keys(value, _SECTIONS[key], f"{where}.{key}")
        if struct is RuleSet and key == "rules" and isinstance(value, list):
            for number, item in enumerate(value):
                if not isinstance(item, Mapping):
                    raise RulesError(f"rules[{number}]: expected a mapping, found {type(item).__name__}")
                _check_keys(item, Rule, f"rules[{item.get('name', number)}]")
