"""What makes two texts copies of one story: a fingerprint that light edits barely change.

A text is normalised (case, links, "RT @user:", mentions, cashtag and hashtag marks, punctuation), taken as the set
of its words and pairs of neighbouring words, and reduced to the minima of `FINGERPRINT_SIZE` hash functions (MinHash:
Broder 1997, "On the resemblance and containment of documents"), of which 16 bits each are kept (b-bit minwise
hashing: Li and König 2010). The share of equal minima estimates the Jaccard similarity of the two sets. A text too
short for that has a fingerprint made of its whole normalised text, so that it folds only where that is equal.

No library fits: datasketch and rensa hold an index that depends on the order of arrival, forgets nothing and can be
written down by pickle alone. Here the index (`streamer.core.novelty.index`) gives the same stories in any order,
forgets what lies behind the horizon, and is part of a snapshot. docs/benchmarks.md has their speed and what they fold.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.records import hash64

FINGERPRINT_SIZE: Final = 32
MIN_WORDS: Final = 4
"""A text of fewer words folds only with texts that are equal once normalised."""

_MAX_CHARACTERS: Final = 20_000
_MAX_WORDS: Final = 2_000

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LINK: Final = re.compile(r"(?:https?:/|www\.|pic\.twitter\.com/|t\.co/)\S*")
_MENTION: Final = re.compile(r"(?:\b(?:rt|via|mt)\s+)?@\w+")
_LONG_RUN: Final = re.compile(r"(?<!\S)\S{513,}")
_MOST_MARKS: Final = 30
_WORD: Final = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


class Fingerprints(NamedTuple):
    """`minima` uint16[n, FINGERPRINT_SIZE]; `text_hash` uint64[n]: equal where the normalised texts are equal."""

    minima: NDArray[np.uint16]
    text_hash: NDArray[np.uint64]


def normalised_words(text: str) -> list[str]:
    """The words of a text that a copy of it would share: a CJK character counts as a word."""
    text = text[:_MAX_CHARACTERS]
    if not text.isascii():
        text = _LONG_RUN.sub(_few_marks, text)
    text = unicodedata.normalize("NFKC", text).casefold()
    if "/" in text or "www." in text:
        text = _LINK.sub(" ", text)
    if "@" in text:
        text = _MENTION.sub(" ", text)
    if "..." in text:  # NFKC spells the ellipsis character as three dots
        text = _without_cut_word(text)
    return _WORD.findall(text)[:_MAX_WORDS]


def _without_cut_word(text: str) -> str:
    """`text` without its last word where that ends in three dots. In time linear in the text, as no pattern is."""
    text = text.rstrip()
    if not text.endswith("..."):
        return text
    words = text.rsplit(maxsplit=1)
    return words[0] if len(words) == 2 else ""


def _few_marks(run: re.Match[str]) -> str:
    """A long word with no more than `_MOST_MARKS` combining marks in a row, as Unicode's Stream-Safe Text Format has
    it (UAX 15): normalisation sorts them in quadratic time."""
    kept, marks = [], 0
    for character in run[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def fingerprint(texts: Sequence[str]) -> Fingerprints:
    """The fingerprints of `texts`, row by row. Each depends on its own text alone."""
    words = [normalised_words(text) for text in texts]
    text_hash = np.fromiter(
        (
            hash64(" ".join(row).encode("utf-8", "replace")) if row else hash64(b"\0" + text.encode("utf-8", "replace"))
            for row, text in zip(words, texts, strict=True)
        ),
        dtype=np.uint64,
        count=len(texts),
    )
    minima = _mixed(text_hash[:, None] + _SEEDS).astype(np.uint16)
    long_rows = np.flatnonzero(np.fromiter(map(len, words), dtype=np.int64, count=len(words)) >= MIN_WORDS)
    if len(long_rows):
        shingles, starts = _shingles([words[row] for row in long_rows])
        for column in range(FINGERPRINT_SIZE):
            hashed = (shingles * _FACTORS[column] + _SEEDS[column]) >> np.uint64(32)
            minima[long_rows, column] = np.minimum.reduceat(hashed, starts).astype(np.uint16)
    return Fingerprints(minima, text_hash)


def _shingles(rows: Sequence[Sequence[str]]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of each row's words and pairs of neighbours (uint64), all rows in one array, and where each row begins."""
    counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    word_hash = _word_hashes([word for row in rows for word in row])
    hashes = np.empty(2 * len(word_hash), dtype=np.uint64)
    hashes[0::2] = word_hash
    hashes[1:-1:2] = _mixed(word_hash[:-1] * _PAIR_FACTOR + word_hash[1:])
    ends = np.cumsum(counts)
    inside = np.ones(len(hashes), dtype=np.bool_)
    inside[2 * ends - 1] = False
    return hashes[inside], 2 * (ends - counts) - np.arange(len(rows))


def _word_hashes(words: Sequence[str]) -> NDArray[np.uint64]:
    """A polynomial hash of each word's bytes modulo 2^64, by differences of one running sum over all of them."""
    data = np.frombuffer("\0".join(words).encode("utf-8", "replace") + b"\0", dtype=np.uint8)
    breaks = np.flatnonzero(data == 0)
    starts = np.concatenate(([0], breaks[:-1] + 1))
    position = np.arange(len(data)) - np.repeat(starts, breaks - starts + 1)
    powers = np.multiply.accumulate(np.full(int(position.max()) + 2, _BYTE_FACTOR))
    terms = data.astype(np.uint64) * powers[position]
    return _mixed(np.add.reduceat(terms, starts))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_BYTE_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_PAIR_FACTOR: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_SEEDS: Final[NDArray[np.uint64]] = _mixed(np.arange(1, FINGERPRINT_SIZE + 1, dtype=np.uint64) * _BYTE_FACTOR)
_FACTORS: Final[NDArray[np.uint64]] = _mixed(_SEEDS) | np.uint64(1)
