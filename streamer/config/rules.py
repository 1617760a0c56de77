"""The alert rules of a book, from wherever its configuration keeps them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from alerts.desk import Desk
from alerts.rules import RulesError, RuleSet
from alerts.silences import Silence
from streamer.config.settings import BookSettings, Config
from streamer.config.sink_settings import SinksSettings


def book_rules(book: BookSettings) -> RuleSet:
    """The book's rules: given inline, in a file, or the defaults. Raises `alerts.rules.RulesError`."""
    if book.rules is None:
        return RuleSet()
    if isinstance(book.rules, str):
        return RuleSet.load(Path(book.rules))
    return RuleSet.written(book.rules)


def book_desk(config: Config, book: BookSettings, rules: RuleSet, silences: Iterable[Silence] = ()) -> Desk:
    """An empty desk of the book under `rules`. Raises RulesError where they do not fit the book."""
    return Desk(
        rules,
        book=book.name,
        pane_ms=config.time.pane_ms,
        windows_ms=book.windows_ms,
        silences=silences,
        sectors=book.sector_of,
    )


def rule_problems(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong with the rules of the books, each as (dotted key, what is wrong and what to do)."""
    for index, book in enumerate(config.books):
        wrong: list[str] = []
        try:
            rules = book_rules(book)
            wrong += unknown_receivers(rules, config.sinks)
            book_desk(config, book, rules)
        except RulesError as error:
            wrong += error.problems
        for what in wrong:
            yield f"books.{index}.rules", what


def rule_notes(config: Config) -> Iterator[tuple[str, str]]:
    """What is odd about the rules of the books without being wrong, each as (dotted key, what it is)."""
    if config.sinks.all():
        return
    for index, book in enumerate(config.books):
        try:
            rules = book_rules(book)
        except RulesError:
            continue
        for where, route in rules.route.walk():
            for name in route.receivers or ():
                if name != "*":
                    yield f"books.{index}.rules", f"{where}.receivers: no sinks are configured, so none serves {name!r}"


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
