"""Inhibition: while one alert fires, others that it explains are not told about, as in Alertmanager.

inhibit:
  - {name: market-wide, source: {series: all}, target: {series: "company:*", severity: warning}}
  - {name: topic-over-parts, source: {series: "topic:*"}, target: {series: "company:*|topic:*"}, equal: [topic]}
  - {name: members, source: {series: "sector:*"}, target: {series: "company:*", severity: warning}, equal: [sector]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from alerts.labels import Matchers, Patterns, matchers_of, matches


class Inhibition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: a firing alert that fits `source` mutes alerts that fit `target` and have the same `equal` labels.

    An alert that fits both sides is not muted by another that does.
    """

    name: str
    source: dict[str, Patterns]
    target: dict[str, Patterns]
    equal: tuple[str, ...] = ()


class Inhibitor(NamedTuple):
    """A rule ready for use."""

    name: str
    source: Matchers
    target: Matchers
    equal: tuple[str, ...]

    @classmethod
    def of(cls, rule: Inhibition) -> Inhibitor:
        """The rule with its matchers parsed."""
        return cls(rule.name, matchers_of(rule.source), matchers_of(rule.target), rule.equal)


def inhibited(
    rules: Sequence[Inhibitor], alerts: Mapping[str, Mapping[str, str]], firing: Sequence[str]
) -> dict[str, list[str]]:
    """By id of a muted alert the ids of those that mute it, one per rule at most.

    `alerts` maps ids to labels; those in `firing` can mute others.
    """
    muted: dict[str, list[str]] = {}
    for rule in rules:
        sources: dict[tuple[str, ...], list[str]] = {}
        two_sided = set()
        for alert in firing:
            if matches(rule.source, labels := alerts[alert]):
                sources.setdefault(_values(rule, labels), []).append(alert)
                if matches(rule.target, labels):
                    two_sided.add(alert)
        if not sources:
            continue
        for alert, labels in alerts.items():
            if not matches(rule.target, labels):
                continue
            both = matches(rule.source, labels)
            by = (
                source
                for source in sources.get(_values(rule, labels), ())
                if source != alert and not (both and source in two_sided)
            )
            source = next(by, None)
            if source is not None and source not in muted.setdefault(alert, []):
                muted[alert].append(source)
    return muted


def _values(rule: Inhibitor, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in rule.equal)
