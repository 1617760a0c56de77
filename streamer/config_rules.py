"""The alert rules of a book, from wherever its configuration keeps them."""

from __future__ import annotations

from pathlib import Path

from alerts.rules import RuleSet
from streamer.config import BookSettings


def book_rules(book: BookSettings) -> RuleSet:
    """The book's rules: given inline, in a file, or the defaults. Raises `alerts.rules.RulesError`."""
    if book.rules is None:
        return RuleSet()
    if isinstance(book.rules, str):
        return RuleSet.load(Path(book.rules))
    return RuleSet.from_mapping(book.rules)
