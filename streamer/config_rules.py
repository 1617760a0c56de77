"""The alert rules of a book, from wherever its configuration keeps them."""

from __future__ import annotations

import difflib
from pathlib import Path

from alerts.rules import RuleSet
from streamer.config import BookSettings
from streamer.sink_settings import SinksSettings


def book_rules(book: BookSettings) -> RuleSet:
    """The book's rules: given inline, in a file, or the defaults. Raises `alerts.rules.RulesError`."""
    if book.rules is None:
        return RuleSet()
    if isinstance(book.rules, str):
        return RuleSet.load(Path(book.rules))
    return RuleSet.from_mapping(book.rules)


def unknown_receivers(rules: RuleSet, sinks: SinksSettings) -> list[str]:
    """What is wrong with receivers that routes name and no sink serves.

    Where no sinks are configured, names are for whoever reads the notifications topic, and nothing is wrong.
    """
    served = {"*", *(name for sink in sinks.all() for name in (sink.receivers or (sink.name,)))}
    if len(served) == 1:
        return []
    said = []
    for where, route in rules.route.walk():
        for name in route.receivers or ():
            if name not in served:
                near = difflib.get_close_matches(name, served - {"*"}, n=1, cutoff=0.0)[0]
                said.append(f"{where}.receivers: no sink serves {name!r}; did you mean {near!r}?")
    return said
