"""Texts to token ids: packed arrays out of the `tokenizers` library, which works in parallel without the GIL."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

LongTexts = Literal["truncate", "chunks"]
CHUNK_OVERLAP = 0.25

UNSPACED = (
    "\u0e00-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
)
"""Ranges of the letters and marks of scripts that put no space between words: Chinese, Japanese, Thai and others."""

_UNSPACED = re.compile(f"[{UNSPACED}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class EncoderError(ValueError):
    """The bytes are not a tokenizer of the `tokenizers` library, or one that does not work. The message says of
    "tokenizer.json" what is wrong with it."""


class TokenRows(NamedTuple):
    """Token rows packed one after another. A text has one row, or several where it was cut in chunks.

    `ids` int64[total], row r is `ids[starts[r] : starts[r] + counts[r]]`; `text_of` int64[rows] says whose row
    it is, ascending.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    text_of: NDArray[np.int64]

    def matrix(self, rows: NDArray[np.int64], length: int, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`input_ids` and `attention_mask`, both int64[len(rows), length], of rows that all fit in `length`."""
        columns = np.arange(length)
        mask = columns < self.counts[rows][:, None]
        ids = np.full((len(rows), length), pad_id, dtype=np.int64)
        ids[mask] = self.ids[(self.starts[rows][:, None] + columns)[mask]]
        return ids, mask.astype(np.int64)


class Encoder:
    """Turns texts into token rows of at most `max_tokens`, special tokens included.

    `long_texts` says what happens to a longer text: its end is cut off ("truncate"), or it becomes several
    rows that overlap by a quarter ("chunks").

    Raises EncoderError, here and for a text, where the tokenizer fails; here where it leaves no room for a text.
    """

    def __init__(self, tokenizer: bytes, *, max_tokens: int, long_texts: LongTexts = "truncate") -> None:
        self._tokenizer = _parse(tokenizer)
        self._chunks = long_texts == "chunks"
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        with _failures("fails on an empty text"):
            special = len(self._tokenizer.encode(""))
        if special >= max_tokens:
            raise EncoderError(f"adds {special} tokens to every text, which leaves none for it out of {max_tokens}")
        stride = int((max_tokens - special) * CHUNK_OVERLAP) if self._chunks else 0
        with _failures("cannot be given a limit"):
            self._tokenizer.enable_truncation(max_tokens, stride=stride)
        self.pad_id = self._find_pad_id()

    def encode(self, texts: Sequence[str]) -> TokenRows:
        """Tokenise texts; any number, none included. A lone surrogate counts as U+FFFD."""
        with _failures("fails on a text"):
            try:
                encodings = self._tokenizer.encode_batch_fast(list(texts))
            except TypeError:
                encodings = self._tokenizer.encode_batch_fast([_without_surrogates(text) for text in texts])
        if self._chunks:
            parts = [[encoding, *encoding.overflowing] for encoding in encodings]
            text_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            encodings = list(chain.from_iterable(parts))
        else:
            text_of = np.arange(len(encodings))
        ids = [encoding.ids for encoding in encodings]
        counts = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(counts.sum()))
        return TokenRows(flat, np.cumsum(counts) - counts, counts, text_of)

    def word_spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) in characters of every word of `text` within the limit that has a letter or digit.

        Where a script puts no space between words, every token is a word: a character of Chinese to most models, a
        run of characters to those with longer pieces.
        """
        return [(start, end) for start, end, _ in self.words(text)]

    def words(self, text: str, chunk: int = 0) -> list[tuple[int, int, list[int]]]:
        """`word_spans` of one of the text's rows, and with each word the places of its tokens there."""
        with _failures("fails on a text"):
            encoding = self._tokenizer.encode(_without_surrogates(text))
        encoding = encoding.overflowing[chunk - 1] if chunk else encoding
        found: list[tuple[int, int, list[int]]] = []
        covered, current = 0, None
        for place, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word is None or start == end:
                continue
            if start < covered or (word == current and not _UNSPACED.search(text[covered - 1] + text[start])):
                begin, _, places = found[-1]
                found[-1] = (begin, max(end, covered), [*places, place])
            else:
                found.append((_begin(text, start, covered), end, [place]))
            covered, current = found[-1][1], word
        words = [(*_trimmed(text, start, end), places) for start, end, places in found]
        return [word for word in words if any(letter.isalnum() for letter in text[word[0] : word[1]])]

    def seen(self, text: str) -> str:
        """The beginning of `text` up to the last token within the limit; all of it where nothing is cut off, as from
        chunks."""
        with _failures("fails on a text"):
            encoding = self._tokenizer.encode(_without_surrogates(text))
        if self._chunks or not encoding.overflowing:
            return text
        return text[: max((end for _, end in encoding.offsets), default=0)]

    @property
    def highest_id(self) -> int:
        """The largest number that a token can have."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=self.pad_id)

    def _find_pad_id(self) -> int:
        for token in ("[PAD]", "<pad>", "<|pad|>"):
            found = self._tokenizer.token_to_id(token)
            if found is not None:
                return int(found)
        return 0


def _without_surrogates(text: str) -> str:
    """The text with U+FFFD in the place of each lone surrogate, which is no character and which no tokenizer takes."""
    return _SURROGATE.sub("\ufffd", text)


def _begin(text: str, start: int, covered: int) -> int:
    """Where the word of a token begins that the tokenizer places at `start`: what a normaliser put in the place of a
    word (of a cashtag, say) lies at the word's last letter, and the letters before belong to no token. Those of a word
    that began in the chunk before belong to none here."""
    while covered < start and (pair := text[start - 1 : start + 1]).isalnum() and not _UNSPACED.search(pair):
        start -= 1
    return start


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without spaces, punctuation and symbols at its ends."""
    while start < end and unicodedata.category(text[start])[0] in "ZPSC":
        start += 1
    while end > start and unicodedata.category(text[end - 1])[0] in "ZPSC":
        end -= 1
    return start, end


def _parse(tokenizer: bytes) -> Tokenizer:
    with _failures("is not a tokenizer"):
        return Tokenizer.from_str(tokenizer.decode("utf-8"))


@contextmanager
def _failures(wrong: str) -> Iterator[None]:
    """Turn what the library raises into EncoderError: bare Exception, or what a panic of its Rust code becomes, which
    is a BaseException of a module that cannot be imported."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise EncoderError(f"{wrong}: {error}") from error
