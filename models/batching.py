"""Which texts go through the model together.

A text is padded to the length bucket that its own token count falls in, never to its batch mates, so its
score cannot depend on them. A batch holds texts of one bucket; what it costs is bucket length times count
(the padded cost of text-embeddings-inference's queue), and it is full when one more would pass the budget.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHORTEST = 4


class Batch(NamedTuple):
    """Texts to run together: `rows` int64[count] are positions in the token counts, all padded to `length`."""

    rows: NDArray[np.int64]
    length: int


def length_buckets(max_tokens: int) -> NDArray[np.int64]:
    """Padded lengths, ascending, int64[n]; the last is `max_tokens`.

    Steps grow with length (2 up to 32, 4 up to 64, 8 up to 128, then an eighth of the power of two below), so
    padding stays within an eighth of the text and short texts, the most frequent, waste next to nothing.
    """
    steps = [*range(SHORTEST, 32, 2), *range(32, 64, 4), *range(64, 128, 8)]
    size = 128
    while size < max_tokens:
        steps.extend(range(size, 2 * size, size // 8))
        size *= 2
    return np.array([step for step in steps if step < max_tokens] + [max_tokens], dtype=np.int64)


def batch_rows(length: int, max_batch_tokens: int, most_rows: int | None = None) -> int:
    """How many texts of a length go in a batch, at least one."""
    rows = max(1, max_batch_tokens // length)
    return rows if most_rows is None else min(rows, most_rows)


def plan_batches(
    token_counts: NDArray[np.int64], buckets: NDArray[np.int64], max_batch_tokens: int, most_rows: int | None = None
) -> list[Batch]:
    """Batches that cover every text once, longest first.

    `token_counts` is int64[n], each at most the last of `buckets`. A single text above the budget still
    gets a batch of its own. `most_rows` bounds a batch whatever the length of its texts. Within a bucket texts keep
    their order. Raises ValueError where a text is longer than the
    last bucket, since no batch could hold it.
    """
    if len(token_counts) == 0:
        return []
    if token_counts.max() > buckets[-1]:
        raise ValueError(f"a text has {token_counts.max()} tokens, more than the longest bucket of {buckets[-1]}")
    bucket_of = np.searchsorted(buckets, token_counts)
    order = np.argsort(bucket_of, kind="stable")
    starts = np.searchsorted(bucket_of[order], np.arange(len(buckets) + 1))
    batches: list[Batch] = []
    for bucket in range(len(buckets) - 1, -1, -1):
        length = int(buckets[bucket])
        capacity = batch_rows(length, max_batch_tokens, most_rows)
        first, last = int(starts[bucket]), int(starts[bucket + 1])
        cuts = range(first, last, capacity)
        batches.extend(Batch(order[at : min(at + capacity, last)], length) for at in cuts)
    return batches
