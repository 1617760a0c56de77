"""What routes, silences and inhibition see of an alert: labels, and matchers on them.

A matcher is a label's name and shell patterns, one of which must fit; patterns that begin with `!` must not fit. The
labels of an alert are those of its rule, and `book`, `rule`, `series`, `severity`, `kind`, `company`, `topic`, `group`,
and `sector` where its book knows the sector.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from functools import lru_cache

from alerts.records import AlertRecord
from alerts.series_keys import parts_of

BUILT_IN = ("book", "rule", "series", "severity", "kind", "company", "topic", "group")

Matchers = Mapping[str, tuple[str, ...]]
Patterns = str | tuple[str, ...]
"""How patterns are written: one, or a list of which one must fit."""


def matchers_of(written: Mapping[str, Patterns]) -> dict[str, tuple[str, ...]]:
    """Matchers as they are used, of matchers as they are written."""
    return {name: (given,) if isinstance(given, str) else given for name, given in written.items()}


def labels_of(record: AlertRecord) -> dict[str, str]:
    """The labels of an alert; one that it does not have is absent."""
    labels = dict(record.labels)
    labels |= {"book": record.book, "rule": record.rule, "series": record.series, "severity": record.severity}
    labels |= {"kind": record.kind, **dict(parts_of(record.series))}
    if record.group is not None:
        labels["group"] = record.group
    return labels


def matches(matchers: Matchers, labels: Mapping[str, str]) -> bool:
    """Whether the labels fit every matcher; an absent label counts as the empty string."""
    return all(_fits(patterns, labels.get(name, "")) for name, patterns in matchers.items())


def shared_labels(records: list[AlertRecord]) -> dict[str, str]:
    """The labels that all records have with the same value, but for those with a field of their own."""
    shared = labels_of(records[0])
    for record in records[1:]:
        other = labels_of(record)
        shared = {name: value for name, value in shared.items() if other.get(name) == value}
    return {name: value for name, value in shared.items() if name not in ("book", "series", "severity", "group")}


@lru_cache(maxsize=65_536)
def _fits(patterns: tuple[str, ...], value: str) -> bool:
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    refused = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return (not wanted or _any(wanted, value)) and not _any(refused, value)


def _any(patterns: list[str], value: str) -> bool:
    return any(value == pattern or fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
