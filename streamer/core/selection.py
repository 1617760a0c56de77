"""Which documents a book takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from streamer.core.documents import Document
from streamer.core.languages import names_of_language, wanted_language


@dataclass(frozen=True, slots=True)
class Selector:
    """A document passes if its topic, one of its symbols, its source and its language are in those lists not empty.

    Languages compare without case; `en` also admits `en-GB`, `en_GB` and `eng`, and `zh` also `yue`.
    """

    topics: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        topics: Collection[str] = (),
        symbols: Collection[str] = (),
        sources: Collection[str] = (),
        languages: Collection[str] = (),
    ) -> Selector:
        """The selector of these lists, as they stand in the configuration."""
        return cls(
            frozenset(topics),
            frozenset(symbol.removeprefix("$").upper() for symbol in symbols),
            frozenset(sources),
            frozenset(map(wanted_language, languages)),
        )

    def admits(self, document: Document, topic: str | None) -> bool:
        """Whether a document whose text is about `topic` passes."""
        if self.topics and topic not in self.topics:
            return False
        if self.symbols and self.symbols.isdisjoint(document.symbols):
            return False
        if self.sources and document.source not in self.sources:
            return False
        return not self.languages or not self.languages.isdisjoint(names_of_language(document.lang))


@dataclass(frozen=True, slots=True)
class BookSelection:
    """What the scorer knows of a book: its name and what it takes."""

    name: str
    select: Selector = Selector()
