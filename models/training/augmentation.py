"""Noise for training texts: what people and scrapers do to them, so that the model learns to look past it."""

from __future__ import annotations

import re

from numpy.random import Generator

from models.encoding import UNSPACED
from models.training.entities import Entities, swap_entities
from models.training.recipe import Augmentation

NOBODY = Entities()
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: (row[at - 1] if at else "") + row[at + 1 : at + 2] for row in _ROWS for at, letter in enumerate(row)
}
_PUNCTUATION = re.compile(r"[^\w\s$%]")
_DIGIT = re.compile(r"\d")
_SCRIPTS = re.compile(f"[{UNSPACED}]+|[^{UNSPACED}]+")
_UNSPACED = re.compile(f"[{UNSPACED}]")


def augment(text: str, settings: Augmentation, rng: Generator, pool: Entities = NOBODY) -> str:
    """The text with noise as `settings` ask, or unchanged. The same state of `rng` gives the same text.

    `pool` holds who may stand in for the companies and people of a text.
    """
    typos, punctuation, case, numbers = rng.random(4)
    if settings.entities and rng.random() < settings.entities:
        text = swap_entities(text, pool, rng)
    if typos < settings.typos:
        text = misspell(text, settings.typo_words, rng)
    if punctuation < settings.punctuation:
        text = _PUNCTUATION.sub(" ", text)
    if case < settings.case:
        text = text.upper() if case < settings.case / 2 else text.lower()
    if numbers < settings.numbers:
        text = _DIGIT.sub(lambda _: str(rng.integers(10)), text)
    return text


def misspell(text: str, share: float, rng: Generator) -> str:
    """A typo in about `share` of the words of four characters or more: swapped, dropped, doubled, a key beside.

    In scripts that put no space between words, such as Chinese, every letter counts as a word, without the key beside.
    """
    words = text.split(" ")
    for place, word in enumerate(words):
        words[place] = "".join(_misspelt(part, share, rng) for part in _SCRIPTS.findall(word))
    return " ".join(words)


def _misspelt(part: str, share: float, rng: Generator) -> str:
    """`part` of a word, in one script, with typos."""
    if _UNSPACED.match(part):
        return _misspelt_letters(part, share, rng)
    if len(part) >= 4 and not part.startswith("http") and rng.random() < share:
        return _typo(part, rng)
    return part


def _misspelt_letters(part: str, share: float, rng: Generator) -> str:
    letters = list(part)
    for at, letter in enumerate(part):
        if not letter.isalpha() or rng.random() >= share:
            continue
        kind = rng.integers(3)
        if kind == 0 and at + 1 < len(part):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind == 1:
            letters[at] = ""
        else:
            letters[at] *= 2
    return "".join(letters) or part


def _typo(word: str, rng: Generator) -> str:
    at = int(rng.integers(1, len(word) - 1))
    kind = rng.integers(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    near = _NEIGHBOURS.get(word[at].lower(), "")
    return word[:at] + (near[int(rng.integers(len(near)))] if near else word[at]) + word[at + 1 :]
