"""Is a loaded model fit to serve: finite answers, and the same bits for a text whatever it is batched with."""

from __future__ import annotations

from itertools import cycle, islice, permutations

import numpy as np

from models.predictor import SLAB_TEXTS, Predictor
from models.probes import WORDS, probe_texts

CROWD_WORDS = 6
ALONE_OF_CROWD = 16
GPU_TOLERANCE = 5e-3


def crowd_texts(predictor: Predictor) -> list[str]:
    """Texts of one length, so many that all runs that go on at once are full, and so long that they are one slab."""
    tokens = predictor.threads * predictor.max_batch_tokens
    length = max(CROWD_WORDS + 2, -(-tokens // SLAB_TEXTS))  # two tokens begin and end a text
    rest = " ".join(islice(cycle(WORDS), length - CROWD_WORDS - 2))
    orders = islice(cycle(permutations(WORDS[:CROWD_WORDS])), max(ALONE_OF_CROWD, tokens // length))
    return [" ".join([*words, rest]).rstrip() for words in orders]


def batch_tolerance(predictor: Predictor) -> float | None:
    """By how much a text's probabilities may differ from batch to batch: not at all on the CPU, 0.005 on a GPU. None
    where nothing is promised: fp16 on the CPU, which computes it in other ways for other batches."""
    if predictor.provider_in_use != "cpu":
        return GPU_TOLERANCE
    return None if predictor.bundle.precision == "fp16" else 0.0


def verify_predictor(predictor: Predictor) -> list[str]:
    """What is wrong, in plain words; empty where all is in order. Goes past the cache.

    A text must get the same in every batch, within `batch_tolerance`.
    """
    texts, crowd = probe_texts(), crowd_texts(predictor)
    together, words = predictor.predict(texts, cached=False)
    backwards, words_backwards = predictor.predict(texts[::-1], cached=False)
    crowded, words_crowded = predictor.predict(crowd, cached=False)
    few = slice(None, None, len(crowd) // ALONE_OF_CROWD)
    each = [predictor.predict([text], cached=False) for text in (*texts, *crowd[few])]
    alone = [said.probabilities for said in each]
    tolerance = batch_tolerance(predictor)
    problems = []
    for task, table in together.items():
        if not np.isfinite(table).all() or not np.isfinite(crowded[task]).all():
            problems.append(f"task {task!r} gives probabilities that are not numbers")
            continue
        if tolerance is None:
            continue
        single = np.concatenate([rows[task] for rows in alone])
        batched = np.concatenate([table, crowded[task][few]])
        gap = max(np.abs(batched - single).max(), np.abs(table - backwards[task][::-1]).max())
        if gap > tolerance:
            problems.append(
                f"task {task!r} scores a text differently in another batch (by up to {gap:.2g}); export with a "
                "precision and a pooling that do not look across texts"
            )
    named_alone = [said.words[0] for said in each]
    if tolerance == 0.0 and (words != words_backwards[::-1] or words + words_crowded[few] != named_alone):
        problems.append("it names other words of a text in another batch; export without word scores")
    return problems
