"""Texts made out of texts to train on, for a teacher to answer: what it says of them it has not learned by heart.

Of the texts that it was trained on a teacher mostly repeats the labels. Distillation gains by many more texts near them
(Jiao et al. 2020, "TinyBERT", arXiv:1909.10351, who replace words by a language model's); here a variant is the
beginning of one text and the end of another, or a text with some words left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.training.text_keys import keys_of

SPLICED = 0.5
LEFT_OUT = 0.2


def make_variants(texts: Sequence[str], number: int, seed: int) -> list[str]:
    """`number` variants of every text, in the order of the texts, again and again; the same for the same arguments.

    What is drawn for a text depends on it, `seed` and the variant's number alone, and the other text is the one whose
    hash comes next on a ring (Karger et al. 1997, "Consistent Hashing and Random Trees"). So a text that comes or goes
    changes few variants of others, and answers to them that were kept still fit.
    """
    words = [text.split() for text in texts]
    keys = keys_of(texts)
    order = np.argsort(keys, kind="stable")
    ring = keys[order]
    variants = []
    for again in range(number):
        for own, key in zip(words, keys.tolist(), strict=True):
            rng = np.random.default_rng((seed, again, key))
            if rng.random() < SPLICED:
                place = np.searchsorted(ring, rng.integers(2**64, dtype=np.uint64)) % len(ring)
                other = words[int(order[place])]
                cut, rest = (1.0 - rng.random(2) * 0.6) * (len(own), len(other))
                variant = own[: round(float(cut))] + other[len(other) - round(float(rest) / 2) :]
            else:
                variant = [word for word, chance in zip(own, rng.random(len(own)), strict=True) if chance >= LEFT_OUT]
            variants.append(" ".join(variant or own))
    return variants
