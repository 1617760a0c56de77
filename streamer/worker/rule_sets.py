"""The rule sets that the books should go by now, read again when their files change or on request."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from alerts.desk import Desk
from alerts.rules import RulesError, RuleSet
from streamer.config.rules import book_desk, book_rules, unknown_receivers
from streamer.config.settings import BookSettings, Config
from streamer.worker.status import WorkerStatus

log = logging.getLogger(__name__)


class RuleSets:
    """The rule set of every book by its name. Raises RulesError where one is not usable at the start."""

    def __init__(self, config: Config, status: WorkerStatus) -> None:
        self._config = config
        self._status = status
        self._seen = {book.name: _stamp(book) for book in config.books}
        self._rules = {book.name: self._read(book) for book in config.books}

    def of(self, book: str) -> RuleSet:
        """The rule set that a book should go by."""
        return self._rules[book]

    def desk(self, index: int) -> Desk:
        """An empty desk of a book by its number."""
        book = self._config.books[index]
        return book_desk(self._config, book, self.of(book.name))

    def look(self) -> None:
        """Read the files again that have changed since."""
        for book in self._config.books:
            if _stamp(book) != self._seen[book.name]:
                self._reload(book)

    def reload(self, config: Config) -> None:
        """Take the books' rules from `config`, the configuration as it is now, and read every file again.

        Nothing else of `config` is taken over; a book that is not in it, or whose rules are refused, keeps its own.
        """
        given = {book.name: book.rules for book in config.books}
        books = []
        for book in self._config.books:
            now = msgspec.structs.replace(book, rules=given.get(book.name, book.rules))
            if isinstance(now.rules, str) or now.rules != book.rules:
                book = now if self._reload(now) else book
            books.append(book)
        self._config = msgspec.structs.replace(self._config, books=tuple(books))

    def _reload(self, book: BookSettings) -> bool:
        self._seen[book.name] = _stamp(book)
        known = self._rules[book.name]
        try:
            rules = self._read(book)
        except RulesError as error:
            self._status.rule_reloads["refused"] += 1
            log.error(
                "book %s keeps the rules %s, the new ones are refused: %s",
                book.name,
                known.version_id,
                error.in_one_line,
            )
            return False
        self._status.rule_reloads["accepted"] += 1
        if rules != known:
            log.info("book %s: rules %s take the place of %s", book.name, rules.version_id, known.version_id)
        self._rules[book.name] = rules
        return True

    def _read(self, book: BookSettings) -> RuleSet:
        rules = book_rules(book)
        book_desk(self._config, book, rules)
        for what in unknown_receivers(rules, self._config.sinks):
            log.warning("book %s: %s", book.name, what)
        return rules


def _stamp(book: BookSettings) -> tuple[int, int] | None:
    """What tells one state of the book's rules file from another; None where it has none, or none can be seen."""
    if not isinstance(book.rules, str):
        return None
    try:
        stat = Path(book.rules).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
