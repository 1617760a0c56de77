"""Rules: which series are watched over which windows, how many false alarms are bearable, how an alert lives.

A rule set is a plain mapping (YAML or JSON). Whatever is left out has a default that works; an unknown key is an error
that names the nearest known one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from alerts.calendars import Period
from alerts.durations import parse_rate_per_day
from alerts.inhibition import Inhibition
from alerts.routes import Route
from alerts.rule_problems import pattern_problems, rule_set_problems
from alerts.type_problems import type_problems

LIVELY_PER_DAY = 0.5
DEFAULT_SEVERITIES = {"warning": "1 per 30d", "high": "1 per 1y", "critical": "1 per 10y"}


class RulesError(ValueError):
    """A rule set that cannot be used. `problems` are all that was found, each with its key, what is wrong and what was
    expected; the message has them one a line."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    @property
    def in_one_line(self) -> str:
        """The problems for a log."""
        return "; ".join(self.problems)

    def at(self, place: object) -> RulesError:
        """The same, each problem behind the place that it was found in."""
        return RulesError(*(f"{place}: {problem}" for problem in self.problems))


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
        """The rule set of a mapping as read from YAML. Raises RulesError naming every wrong key and the nearest known
        one; values are looked at once keys and types are right."""
        rule_set = cls._typed(mapping)
        if problems := [*rule_set_problems(rule_set)]:
            raise RulesError(*problems)
        return rule_set

    @classmethod
    def written(cls, mapping: Mapping[str, Any]) -> RuleSet:
        """As `from_mapping`, for rules that somebody wrote: patterns that fit no series are refused as well.

        A book's log may hold such patterns of earlier, and they do no harm there.
        """
        rule_set = cls._typed(mapping)
        if problems := [*rule_set_problems(rule_set), *pattern_problems(rule_set)]:
            raise RulesError(*problems)
        return rule_set

    @classmethod
    def _typed(cls, mapping: Mapping[str, Any]) -> RuleSet:
        try:
            return msgspec.convert(dict(mapping), cls)
        except msgspec.ValidationError as error:
            raise RulesError(*type_problems(mapping, cls) or [f"rules: {error}"]) from error

    @classmethod
    def load(cls, path: Path) -> RuleSet:
        """The rule set of a YAML file. Raises RulesError naming the file."""
        mapping = read_yaml(path)
        if not isinstance(mapping, Mapping):
            raise RulesError(f"{path}: expected a mapping with the key 'rules', found {type(mapping).__name__}")
        try:
            return cls.written(mapping)
        except RulesError as error:
            raise error.at(path) from error

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


def read_yaml(path: Path) -> Any:
    """The plain data in a YAML file. Raises RulesError naming the file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RulesError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # PyYAML leaves a date that there is not to Python
        raise RulesError(f"{path}: cannot be read as YAML: {error}") from error
