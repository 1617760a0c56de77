"""How much of a model's accuracy is left when texts come as people and scrapers write them.

Three kinds of noise, each put on every text: typos in a tenth of the words, upper case, missing punctuation.
Web addresses and cashtags stay as they are, since nobody types them. The noise of a text follows from the seed
and the text alone, not from its neighbours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from models.evaluate import Evaluation, evaluate
from models.labelled import Labelled

TYPO_SHARE = 0.1
_KEPT = re.compile(r"((?:https?://|www\.)\S+|\$[A-Za-z][\w.-]*)")
_WORD = re.compile(r"[^\W\d_]{3,}")
_ANY_WORD = re.compile(r"\w+")
_PUNCTUATION = re.compile(
    r"(?<!\d)[.,:](?!\d)|(?<=\d)[.,:](?!\d)|(?<!\d)[.,:](?=\d)|[;!?'\"()\[\]…“”‘’«»，。！？；：、（）《》]"
)


class Noisy(Struct, frozen=True, kw_only=True):
    """What is reached on texts with one kind of noise; `lost` is accuracy in points (hundredths) against plain."""

    accuracy: float
    macro_f1: float
    lost: float


def typos(text: str, seed: int = 0, *, share: float = TYPO_SHARE) -> str:
    """A typo in a `share` of the words, at least in one: of words of three letters or more, as far as there are such.

    A typo swaps two letters, drops one, doubles one, or puts another in its place; other words stay untouched.
    """
    rng = _rng(text, seed)
    kept = [match.span() for match in _KEPT.finditer(text)]
    inside = [m for m in _WORD.finditer(text) if not any(a <= m.start() < b for a, b in kept)]
    words = sum(1 for m in _ANY_WORD.finditer(text) if not any(a <= m.start() < b for a, b in kept))
    wanted = min(len(inside), max(1, round(share * words)))
    chosen = sorted(rng.permutation(len(inside))[:wanted])
    parts, at = [], 0
    for number in chosen:
        match = inside[number]
        parts += [text[at : match.start()], _typo(match.group(), rng)]
        at = match.end()
    return "".join([*parts, text[at:]])


def upper_case(text: str, seed: int = 0) -> str:
    """The text in capitals."""
    return "".join(part if number % 2 else part.upper() for number, part in enumerate(_KEPT.split(text)))


def no_punctuation(text: str, seed: int = 0) -> str:
    """The text without punctuation marks; signs, currencies, percent, hyphens and points inside numbers stay."""
    parts = _KEPT.split(text)
    return "".join(part if number % 2 else _PUNCTUATION.sub("", part) for number, part in enumerate(parts))


NOISE: dict[str, Callable[[str, int], str]] = {
    "typos": typos,
    "upper_case": upper_case,
    "no_punctuation": no_punctuation,
}


def robustness(
    predict: Callable[[Sequence[str]], NDArray[np.float32]], data: Labelled, plain: Evaluation, *, seed: int = 0
) -> dict[str, Noisy]:
    """What a model reaches under each kind of noise, beside what it reached on the texts as they are (`plain`).

    `predict` gives probabilities float32[n, labels] of texts.
    """
    found = {}
    for name, noise in NOISE.items():
        probabilities = predict([noise(text, seed) for text in data.texts])
        result = evaluate(probabilities, data.truth, task=plain.task, labels=plain.labels)
        found[name] = Noisy(
            accuracy=result.accuracy, macro_f1=result.macro_f1, lost=100 * (plain.accuracy - result.accuracy)
        )
    return found


def robustness_table(plain: Evaluation, found: dict[str, Noisy]) -> str:
    """The figures as text, a line per kind of noise."""
    lines = [
        f"{'':22}accuracy  macro F1  points lost",
        f"{'as they are':22}{plain.accuracy:8.4f}  {plain.macro_f1:8.4f}",
    ]
    names = {"typos": "typos in 10 % of words", "upper_case": "upper case", "no_punctuation": "no punctuation"}
    for name, noisy in found.items():
        lines.append(f"{names[name]:22}{noisy.accuracy:8.4f}  {noisy.macro_f1:8.4f}  {noisy.lost:11.2f}")
    return "\n".join(lines)


def _rng(text: str, seed: int) -> Generator:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng((seed, int.from_bytes(digest, "big")))


def _typo(word: str, rng: Generator) -> str:
    """`word` (two letters or more) with one typo; never the word itself."""
    for kind in rng.permutation(4):
        at = int(rng.integers(len(word) - 1))
        if kind == 0 and word[at] != word[at + 1]:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if kind == 1:
            return word[:at] + word[at + 1 :]
        if kind == 2:
            return word[: at + 1] + word[at:]
        letters = "abcdefghijklmnopqrstuvwxyz".replace(word[at].lower(), "")
        if kind == 3:
            other = letters[int(rng.integers(len(letters)))]
            return word[:at] + (other.upper() if word[at].isupper() else other) + word[at + 1 :]
    raise AssertionError("dropping a letter always works")
