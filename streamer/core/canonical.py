"""The order in which the documents of a pane are worked on, whatever order they came in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.core.blocks import DigestBlock
from streamer.core.runs import run_numbers, run_sizes, run_starts


def canonical_order(
    time_ms: NDArray[np.int64],
    blocks: Sequence[DigestBlock],
    place: NDArray[np.int64],
    row: NDArray[np.int64],
    content_hash: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """int64[n]: the documents by (time, id, content hash). Document i is row `row[i]` of `blocks[place[i]]`.

    Ids compare as UTF-8 bytes, eight at a time, and only among documents that are equal in what came before.
    """
    order = np.argsort(time_ms, kind="stable")
    tied, group = _tied(np.arange(len(order)), time_ms[order])
    longest = max((int(block.id.lengths.max(initial=0)) for block in blocks), default=0)
    for at in range(0, longest, 8):
        if not len(tied):
            return order
        words = _id_words(blocks, place[order[tied]], row[order[tied]], at)
        tied, group = _refined(order, tied, group, words)
    _refined(order, tied, group, content_hash[order[tied]])
    return order


def _refined(
    order: NDArray[np.int64], tied: NDArray[np.int64], group: NDArray[np.int64], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort each group of the places `tied` of `order` by `keys`, in place; the places still tied, and their groups."""
    finer = np.lexsort((keys, group))
    order[tied] = order[tied[finer]]
    keys = keys[finer]
    same = np.zeros(len(tied), dtype=np.bool_)
    same[1:] = (group[1:] == group[:-1]) & (keys[1:] == keys[:-1])
    return _tied(tied, np.cumsum(~same))


def _tied(places: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of `places` whose value in sorted `values` is not alone, and the number of their run of equals."""
    sizes = run_sizes(run_starts(values), len(values))
    run = run_numbers(values)
    shared = sizes[run] > 1
    return places[shared], run[shared]


def _id_words(
    blocks: Sequence[DigestBlock], place: NDArray[np.int64], row: NDArray[np.int64], at: int
) -> NDArray[np.uint64]:
    """uint64[n]: bytes `at` to `at + 8` of each id as a big-endian number, zero where the id has ended."""
    words = np.zeros(len(row), dtype=np.uint64)
    for number in np.unique(place).tolist():
        ids = blocks[number].id
        here = np.flatnonzero(place == number)
        begin, end = ids.offsets[row[here]] + at, ids.offsets[row[here] + 1]
        here, begin, end = here[begin < end], begin[begin < end], end[begin < end]
        padded = np.concatenate((ids.values, np.zeros(8, dtype=np.uint8)))
        eight = np.lib.stride_tricks.sliding_window_view(padded, 8)[begin]
        word = np.ascontiguousarray(eight).view(">u8")[:, 0].astype(np.uint64)
        beyond = (8 * np.maximum(0, 8 - (end - begin))).astype(np.uint64)
        words[here] = (word >> beyond) << beyond
    return words
