"""Which words drove an answer, at the price of one pass: cheap enough for every text of an alert.

A linear head on the mean of the token vectors gives logits that are an exact sum over tokens (direct logit
attribution; Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). A word weighs what its tokens
add to the label's logit, less what they add on average to the other labels'. Where `explain` asks the model again
without each word, this reads what the model has worked out already: it counts what stands at a word's place, not
what the word does to the vectors of its neighbours. A graph without token outputs is explained by erasure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.explain import WordWeight, explain_many, strongest
from models.predictor import Predictor


def driving_words(
    predictor: Predictor, texts: Sequence[str], task: str, label: str, count: int = 5
) -> list[list[WordWeight]]:
    """Per text the at most `count` words that speak most for `label`, heaviest first.

    Weights are in nats of the logit before calibration. Raises ValueError for a task or label there is not.
    """
    if task not in predictor.labels:
        raise ValueError(f"no task {task!r}; the model has {', '.join(predictor.labels)}")
    labels = predictor.labels[task]
    if label not in labels:
        raise ValueError(f"no label {label!r} in task {task!r}; it has {', '.join(labels)}")
    if not predictor.gives_tokens(task):
        return [strongest(weights, count) for weights in explain_many(predictor, texts, task, label)]
    column = labels.index(label)
    found = []
    for text, parts in zip(texts, predictor.token_logits(texts, task), strict=True):
        others = (parts.sum(axis=1, dtype=np.float64) - parts[:, column]) / (len(labels) - 1)
        margin = parts[:, column] - others
        words = [
            WordWeight(text[start:end], start, end, round(float(margin[places].sum()), 4))
            for start, end, places in predictor.words_with_tokens(text)
        ]
        found.append(strongest(words, count))
    return found
