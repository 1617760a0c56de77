"""Which texts a training step sees: drawn fairly between tasks, noised anew per epoch, batched by length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.training.augmentation import NOBODY, augment
from models.training.entities import find_entities
from models.training.recipe import Augmentation
from models.training.sources import Example

NO_TASK = -1


class Batch(NamedTuple):
    """`ids` and `mask` int64[n, seq]; `task`, `label` and `text` int64[n], the numbers of each text's task, of
    its label, and of itself among all texts to train on; `weight` float32[n]. The task of a text without label is
    NO_TASK."""

    ids: Tensor
    mask: Tensor
    task: Tensor
    label: Tensor
    text: Tensor
    weight: Tensor


def draws_per_task(sizes: Sequence[int], exponent: float) -> list[int]:
    """How many texts an epoch draws from each task: proportional to size ** exponent, the same sum in all."""
    weights = np.array(sizes, dtype=np.float64) ** exponent
    shares = weights / weights.sum() * sum(sizes)
    return [max(1, round(float(share))) for share in shares]


def draw(size: int, wanted: int, rng: Generator) -> NDArray[np.int64]:
    """`wanted` positions below `size`: whole shuffled rounds, then a part of one. No text is starved."""
    rounds = [rng.permutation(size) for _ in range(-(-wanted // size))]
    return np.concatenate(rounds)[:wanted]


def epoch_batches(
    tasks: Sequence[Sequence[Example]],
    tokenizer: Tokenizer,
    *,
    noise: Augmentation,
    exponent: float,
    batch: int,
    max_tokens: int,
    pad_id: int,
    rng: Generator,
    losses: NDArray[np.float32],
    thinning: float,
    unlabelled: Sequence[str] = (),
) -> list[Batch]:
    """One epoch of batches in training order. Depends on the arguments and the state of `rng` alone.

    Every epoch holds all texts that are `unlabelled`; their numbers follow those of the tasks' texts.
    `losses` float32[texts of all tasks and unlabelled] is what each text's loss was when last seen, NaN where never.
    """
    sizes = [sum(e.source.repeat for e in examples) for examples in tasks]
    texts: list[str] = []
    labels: list[tuple[int, int, int]] = []
    weights: list[float] = []
    easy = losses < np.nanmean(losses) if thinning and not np.isnan(losses).all() else np.zeros(len(losses), bool)
    pool = find_entities(e.text for examples in tasks for e in examples) if noise.entities else NOBODY
    first = 0
    for number, (examples, wanted) in enumerate(zip(tasks, draws_per_task(sizes, exponent), strict=True)):
        places = [at for at, e in enumerate(examples) for _ in range(e.source.repeat)]
        for position in draw(len(places), wanted, rng):
            at = places[position]
            if easy[first + at] and rng.random() < thinning:
                continue
            texts.append(augment(examples[at].text, noise, rng, pool))
            labels.append((number, examples[at].label, first + at))
            weights.append(1.0 / (1.0 - thinning) if easy[first + at] else 1.0)
        first += len(examples)
    for at, text in enumerate(unlabelled, first):
        if not easy[at] or rng.random() >= thinning:
            texts.append(text)
            labels.append((NO_TASK, 0, at))
            weights.append(1.0 / (1.0 - thinning) if easy[at] else 1.0)
    rows = token_rows(tokenizer, texts, max_tokens)
    lengths = np.array([len(row) for row in rows])
    order = np.lexsort((rng.random(len(rows)), lengths))
    groups = [order[at : at + batch] for at in range(0, len(order), batch)]
    batches = []
    for group in (groups[at] for at in rng.permutation(len(groups))):
        ids, mask = pad([rows[at] for at in group], pad_id)
        numbers = torch.tensor([labels[at] for at in group])
        weight = torch.tensor([weights[at] for at in group])
        batches.append(Batch(ids, mask, numbers[:, 0], numbers[:, 1], numbers[:, 2], weight))
    return batches


def token_rows(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids per text, cut to `max_tokens`, special tokens included."""
    tokenizer.enable_truncation(max_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """`ids` and `mask`, int64[len(rows), longest]."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token; 0 where there is none."""
    for token in ("[PAD]", "<pad>", "<|pad|>"):
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    return 0
