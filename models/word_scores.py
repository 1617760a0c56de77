"""Which words made a text negative, for nothing: the graph scores its tokens in the same pass as the text.

A bundle may have an output that gives every token of a text its share in one label's log-odds: a linear reading of
the encoder's last hidden states, fitted once (`word_scores_fit`) to what taking the words out one at a time does.
Here those numbers become words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 5
"""At most so many words of a text are named."""

LEAST_SHARE = 0.3
"""A word is named where it weighs this share, at least, of the heaviest one."""

MAX_CHARACTERS = 40
MAX_WORDS_BYTES = 4 * WORDS * (MAX_CHARACTERS + 1)

FUNCTION_WORDS = frozenset(
    word
    for line in (
        "a about after all also an and any are as at be been before being between both but by can could did do does",
        "for from had has have having he her here him his how i if in into is it its just me my of on or our over",
        "said say says she so than that the their them then there these they this those to today upon was we were",
        "what when where which while who whose will with would you your",
    )
    for word in line.split()
)
"""English words that tell nothing alone; negations and words such as "down" and "off" are not among them."""

Words = tuple[str, ...]


def heaviest_words(
    text: str, words: Sequence[tuple[int, int, list[int]]], tokens: NDArray[np.float32], count: int = WORDS
) -> Words:
    """The words of `text` that speak most for the label, heaviest first, each once however it is written.

    `words` are (start, end, places of its tokens), as `Encoder.words` gives them; `tokens` float32[n] the score of
    each token. A word weighs the sum of its tokens. What names nothing is left out: words without a letter, function
    words, tickers ($...) and users (@...).

    >>> heaviest_words("bad, bad loss", [(0, 3, [0]), (5, 8, [1]), (9, 13, [2])], np.array([1, 2, 4], np.float32))
    ('loss', 'bad')
    """
    weighed = sorted(
        (-sum(float(tokens[place]) for place in places), start, text[start:end])
        for start, end, places in words
        if all(place < len(tokens) for place in places) and text[max(start - 1, 0)] not in "$@"
    )
    found: dict[str, str] = {}
    for weight, _, word in weighed:
        if weight >= 0 or weight > LEAST_SHARE * weighed[0][0] or len(found) == count:
            break
        folded = word.casefold()
        if len(word) <= MAX_CHARACTERS and folded not in FUNCTION_WORDS and any(map(str.isalpha, word)):
            found.setdefault(folded, word)
    return tuple(found.values())
