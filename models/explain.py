"""Which words made the model say so.

Representation erasure (Li, Monroe & Jurafsky 2016, "Understanding Neural Networks through Representation
Erasure", arXiv:1612.08220; occlusion in Zeiler & Fergus 2014): a word weighs what the label's log-odds lose
when the word is taken out of the text. Log-odds, because near certainty a probability hardly moves. A word
may hide behind another that says the same, so each is also taken out together with its neighbour, and the
loss beyond the neighbour's own is averaged in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor

MAX_WORDS = 256
FLOOR = 1e-6


class WordWeight(NamedTuple):
    """A word at text[start:end] and its weight: log-odds (nats) that the label would lose without it."""

    word: str
    start: int
    end: int
    weight: float


def explain(predictor: Predictor, text: str, task: str, label: str | None = None) -> list[WordWeight]:
    """Weights of the words of `text`, in text order; without `label`, for the one the model chose.

    Words are the tokenizer's (single characters in Chinese); punctuation is left out, as is what lies beyond
    the model's limit or the first 256 words. A word that is taken out makes no room for it. Raises ValueError for a
    task or label the model does not have, BundleError where it has no numbers for the text or for what is left without
    a word.
    """
    (weights,) = explain_many(predictor, [text], task, label)
    return weights


def explain_many(
    predictor: Predictor, texts: Sequence[str], task: str, label: str | None = None
) -> list[list[WordWeight]]:
    """`explain` for several texts in one pass through the model."""
    if task not in predictor.labels:
        raise ValueError(f"no task {task!r}; the model has {', '.join(predictor.labels)}")
    labels = predictor.labels[task]
    if label is not None and label not in labels:
        raise ValueError(f"no label {label!r} in task {task!r}; it has {', '.join(labels)}")
    spans = [predictor.word_spans(text)[:MAX_WORDS] for text in texts]
    variants: list[str] = []
    for text, words in zip(map(predictor.seen, texts), spans, strict=True):
        variants.append(text)
        variants.extend(erased(text, [word]) for word in words)
        variants.extend(erased(text, pair) for pair in pairwise(words))
    table = predictor.predict(variants, cached=False).of_all(task)
    results = []
    at = 0
    for text, words in zip(texts, spans, strict=True):
        count = len(words)
        rows = table[at : at + 1 + count + max(0, count - 1)]
        at += len(rows)
        column = labels.index(label) if label is not None else int(rows[0].argmax())
        weights = _weights(_log_odds(rows[:, column]), count)
        results.append(
            [
                WordWeight(text[start:end], start, end, float(weight))
                for (start, end), weight in zip(words, weights, strict=True)
            ]
        )
    return results


def strongest(weights: Sequence[WordWeight], count: int = 5) -> list[WordWeight]:
    """The words that speak most for the label, heaviest first; only such as speak for it at all."""
    return sorted((word for word in weights if word.weight > 0), key=lambda word: (-word.weight, word.start))[:count]


def erased(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """`text` without the characters of `spans`, (start, end) in ascending order."""
    kept = []
    at = 0
    for start, end in spans:
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]])


def _log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    p = np.clip(probabilities.astype(np.float64), FLOOR, 1 - FLOOR)
    return np.log(p) - np.log1p(-p)


def _weights(odds: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """float64[count] of the log-odds of: the whole text, without word i (count), without words i, i+1."""
    whole, single, paired = odds[0], odds[1 : 1 + count], odds[1 + count :]
    alone = whole - single
    total, views = alone.copy(), np.ones(count)
    if count > 1:
        total[:-1] += single[1:] - paired
        total[1:] += single[:-1] - paired
        views[:-1] += 1
        views[1:] += 1
    result: NDArray[np.float64] = total / views
    return result
