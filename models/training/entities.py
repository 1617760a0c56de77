"""Who a text is about, found without a model, to be swapped for others: what is said should count, not of whom.

An entity is a cashtag, or two to four capitalised words in a row. Texts that capitalise most of their words, as
headlines may, have no names that could be told apart; only their cashtags count. So do those of scripts without
capitals, such as Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from numpy.random import Generator

from models.training.tokenisation import TAG_END

_CASHTAG = re.compile(rf"\$[A-Z][A-Z.]{{0,9}}{TAG_END}")
_NAME = re.compile(r"\b[A-Z][a-z]+(?: [A-Z][a-z]+){1,3}\b")
_WORD = re.compile(r"[^\W\d_]+")


class Entities(NamedTuple):
    """Cashtags and names that may stand for each other, sorted."""

    cashtags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def find_entities(texts: Iterable[str]) -> Entities:
    """Every entity that `texts` speak of, each once."""
    cashtags: set[str] = set()
    names: set[str] = set()
    for text in texts:
        cashtags.update(_CASHTAG.findall(text))
        if not _title_case(text):
            names.update(_NAME.findall(text))
    return Entities(tuple(sorted(cashtags)), tuple(sorted(names)))


def swap_entities(text: str, pool: Entities, rng: Generator) -> str:
    """The text with each of its entities replaced by one of `pool`, the same one wherever it stands."""
    replaced: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        found = match.group()
        kind = pool.cashtags if found.startswith("$") else pool.names
        if found not in replaced:
            replaced[found] = kind[int(rng.integers(len(kind)))] if kind else found
        return replaced[found]

    text = _CASHTAG.sub(other, text)
    return text if _title_case(text) else _NAME.sub(other, text)


def _title_case(text: str) -> bool:
    words = _WORD.findall(_CASHTAG.sub(" ", text))
    capitalised = sum(1 for word in words if word[0].isupper())
    return capitalised * 2 > len(words)
