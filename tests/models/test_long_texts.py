"""A text over the limit is read in chunks that overlap, each word in one at least, and counts by their length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle import TOKENIZER, Bundle
from models.encoding import CHUNK_OVERLAP, Encoder, TokenRows
from models.predictor import _combine_chunks
from tests.models.tiny_bundle import vocabulary

words = st.lists(st.sampled_from([word for word in vocabulary() if word.isalpha()]), max_size=150)


@given(words)
def test_chunks_cover_a_text_in_order_and_overlap_by_a_quarter(tiny: Bundle, text: list[str]) -> None:
    encoder = Encoder(tiny.read(TOKENIZER), max_tokens=tiny.max_tokens, long_texts="chunks")
    rows = encoder.encode([" ".join(text)])
    first, *later = (
        rows.ids[at + 1 : at + count - 1].tolist() for at, count in zip(rows.starts, rows.counts, strict=True)
    )
    assert (rows.counts <= tiny.max_tokens).all()
    overlap = int((tiny.max_tokens - 2) * CHUNK_OVERLAP)
    read = first
    for chunk in later:
        assert chunk[:overlap] == read[-overlap:]
        read += chunk[overlap:]
    assert read == [vocabulary()[word] for word in text]


@given(words, st.sampled_from([" ", ", ", "公"]))
def test_the_words_of_a_chunk_are_those_of_its_tokens(tiny: Bundle, text: list[str], between: str) -> None:
    encoder = Encoder(tiny.read(TOKENIZER), max_tokens=tiny.max_tokens, long_texts="chunks")
    joined = between.join(text)
    rows = encoder.encode([joined])
    for chunk, (at, count) in enumerate(zip(rows.starts.tolist(), rows.counts.tolist(), strict=True)):
        ids = rows.ids[at : at + count].tolist()
        found = encoder.words(joined, chunk)
        said = [(joined[start:end], [ids[place] for place in places]) for start, end, places in found]
        assert all(tokens == [vocabulary().get(word, vocabulary()["[UNK]"])] for word, tokens in said)
        signs = {vocabulary()[sign] for sign in ("[CLS]", "[SEP]", ",")}
        assert len(found) == sum(token not in signs for token in ids)


def test_a_text_of_several_chunks_gets_their_mean_by_number_of_tokens() -> None:
    counts = np.array([24, 8, 24, 24, 12], dtype=np.int64)
    rows = TokenRows(np.zeros(92, np.int64), np.cumsum(counts) - counts, counts, np.array([0, 1, 2, 2, 2]))
    scores = np.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    combined = _combine_chunks(scores, rows)
    assert combined[:2] == pytest.approx(scores[:2])
    assert combined[2] == pytest.approx([36 / 60, 24 / 60])
