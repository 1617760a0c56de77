"""Is a loaded model fit to serve: finite answers, and the same bits for a text whatever it is batched with."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np

from models.predictor import Predictor

WORDS = ("shares", "fell", "sharply", "after", "the", "quarter", "lawsuit", ",", "targets", "cut", "12%", "$ACME")
LENGTHS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 600)
GPU_TOLERANCE = 5e-3


def probe_texts() -> list[str]:
    """Texts of many lengths, from none to beyond any limit, that differ from each other."""
    return [" ".join(islice(cycle(WORDS[shift:] + WORDS[:shift]), length)) for shift in range(3) for length in LENGTHS]


def verify_predictor(predictor: Predictor, *, apart: bool = True) -> list[str]:
    """What is wrong, in plain words; empty where all is in order. Goes past the cache.

    On the CPU a text must get the same bits in every batch; on a GPU probabilities may differ by 0.005. With `apart`
    False it may depend on its batch.
    """
    texts = probe_texts()
    together, words = predictor.predict(texts, cached=False)
    backwards, words_backwards = predictor.predict(texts[::-1], cached=False)
    each = [predictor.predict([text], cached=False) for text in texts]
    alone = [said.probabilities for said in each]
    tolerance = 0.0 if predictor.provider_in_use == "cpu" else GPU_TOLERANCE
    problems = []
    for task, table in together.items():
        if not np.isfinite(table).all():
            problems.append(f"task {task!r} gives probabilities that are not numbers")
            continue
        if not apart:
            continue
        single = np.concatenate([rows[task] for rows in alone])
        gap = max(np.abs(table - single).max(), np.abs(table - backwards[task][::-1]).max())
        if gap > tolerance:
            problems.append(
                f"task {task!r} scores a text differently in another batch (by up to {gap:.2g}); export with a "
                "precision and a pooling that do not look across texts"
            )
    if apart and tolerance == 0.0 and (words != words_backwards[::-1] or words != [said.words[0] for said in each]):
        problems.append("it names other words of a text in another batch; export without word scores")
    return problems
