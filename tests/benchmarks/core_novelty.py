"""Recall and precision of the novelty fold: `python -m tests.benchmarks.core_novelty FILE.jsonl.gz`.

Three truths. What people did: a text that begins with "RT @user:" is a copy of every text within the horizon before it
that says the same behind such a beginning, or begins so where one of both was cut off; nothing of the rule is in that.
The rule itself without hashing: a document is a copy if the Jaccard similarity of its words and word pairs to
an earlier one within the horizon is at least the configured similarity. Copies of sampled texts that are edited on
purpose: it is counted how many fold.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import process_time
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from scipy import sparse

from streamer.core.novelty.fingerprints import MIN_WORDS, fingerprint, normalised_words
from streamer.core.novelty.index import SLOTS, NoveltyIndex
from streamer.timestamps import parse_rfc3339

HORIZON_MS = 86_400_000
SIMILARITY = 0.5

EDITS: dict[str, Callable[[list[str], np.random.Generator], list[str]]] = {
    "retweeted": lambda words, _: ["RT", "@someone:", *words],
    "link added": lambda words, _: [*words, "https://example.invalid/q"],
    "one word put before": lambda words, _: ["BREAKING:", *words],
    "one word changed": lambda words, random: _with(words, int(random.integers(len(words))), "otherwise"),
    "one word left out": lambda words, random: _without(words, int(random.integers(len(words)))),
    "cut at three quarters": lambda words, _: [*words[: max(4, len(words) * 3 // 4)], "cutoff..."],
    "two words changed": lambda words, random: _with(_with(words, int(random.integers(len(words))), "x1"), 0, "x2"),
}


_RETWEET = re.compile(r"(?:RT @\w+:\s*)+")
_BEGINNING = 25
"""Characters that are compared first; a retweet of a shorter text is left out."""


def _with(words: list[str], at: int, word: str) -> list[str]:
    return [*words[:at], word, *words[at + 1 :]]


def _without(words: list[str], at: int) -> list[str]:
    return [*words[:at], *words[at + 1 :]]


def folded(texts: Sequence[str], times_ms: NDArray[np.int64], similarity: float) -> NDArray[np.int64]:
    """int64[n]: each text's story, in order of time."""
    index = NoveltyIndex(similarity)
    made = fingerprint(texts)
    slots = times_ms // (HORIZON_MS // SLOTS)
    stories = np.empty(len(texts), dtype=np.int64)
    for rows in np.split(np.arange(len(texts)), np.flatnonzero(np.diff(slots)) + 1):
        part = index.fold(int(slots[rows[0]]), rows.astype(np.uint64), made.text_hash[rows], made.minima[rows])
        stories[rows] = part.story
    return stories


def pair_similarity(texts: Sequence[str]) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """The sets of word pairs as rows of a binary matrix, and their sizes."""
    columns: dict[tuple[str, ...], int] = {}
    indices, edges = [], [0]
    for text in texts:
        words = normalised_words(text)
        pairs = {*pairwise(words), *((word, "") for word in words)} if len(words) >= MIN_WORDS else {(" ".join(words),)}
        indices += [columns.setdefault(pair, len(columns)) for pair in pairs]
        edges.append(len(indices))
    matrix = sparse.csr_matrix((np.ones(len(indices), np.int32), indices, edges), (len(texts), len(columns)))
    return matrix, np.diff(edges)


def report_retweets(texts: Sequence[str], times_ms: NDArray[np.int64], stories: NDArray[np.int64]) -> None:
    """Print how many retweets folded into the story of what they repeat, and how many folded that repeat nothing."""
    said = [_RETWEET.sub("", text) for text in texts]
    alike: dict[str, list[int]] = defaultdict(list)
    found = caught = astray = 0
    for row, text in enumerate(said):
        near = [at for at in alike[text[:_BEGINNING]] if times_ms[row] - times_ms[at] <= HORIZON_MS]
        if len(text) >= _BEGINNING and _RETWEET.match(texts[row]):
            repeated = [at for at in near if _says_the_same(said[at], text)]
            found += bool(repeated)
            caught += any(stories[at] == stories[row] for at in repeated)
            begun = stories[:row] == stories[row]
            astray += not repeated and bool(begun.any())
        alike[text[:_BEGINNING]] = [*near, row]
    print(f"{found} retweets of a text within the horizon: {caught / found:.4f} fold into the story of one")
    print(f"{astray} others fold though nothing within it says the same: {astray / (caught + astray):.4f} of both")


def _says_the_same(one: str, other: str) -> bool:
    """Whether two texts are equal, or one is the beginning of the other that was cut off."""
    begun = [text.removesuffix("\N{HORIZONTAL ELLIPSIS}").rstrip() for text in (one, other)]
    cut = [text.endswith("\N{HORIZONTAL ELLIPSIS}") for text in (one, other)]
    return one == other or (cut[0] and begun[1].startswith(begun[0])) or (cut[1] and begun[0].startswith(begun[1]))


def report_peer(
    peer: Callable[[Sequence[Sequence[str]], float], Sequence[int]],
    texts: Sequence[str],
    times_ms: NDArray[np.int64],
    similarity: float,
) -> None:
    """Print how fast a library folds the same word pairs, and what it finds; and how fast we are at that."""
    begun = process_time()
    pairs = [_pairs(text) for text in texts]
    split = process_time() - begun
    try:
        begun = process_time()
        stories = np.array(peer(pairs, similarity))
        taken = process_time() - begun + split
    except ImportError as error:
        print(f"{peer.__name__}: not installed ({error})")
        return
    begun = process_time()
    folded(texts, times_ms, similarity)
    ours = process_time() - begun
    print(
        f"{peer.__name__}, nothing forgotten: {len(texts) / taken:,.0f} texts/s, ours {len(texts) / ours:,.0f}; of it:"
    )
    report_retweets(texts, times_ms, stories)


def _pairs(text: str) -> list[str]:
    """What the rule compares of a text: its words and word pairs."""
    words = normalised_words(text)
    return [*{*map(" ".join, pairwise(words)), *words}] if len(words) >= MIN_WORDS else [" ".join(words)]


def by_datasketch(pairs: Sequence[Sequence[str]], similarity: float) -> Sequence[int]:
    """Stories by datasketch's MinHash and MinHashLSH (128 permutations): that of the most similar text before."""
    from datasketch import MinHash, MinHashLSH

    empty = MinHash(128)
    return _stories(
        [empty.copy() for _ in pairs],
        lambda made, at: made.update_batch([pair.encode() for pair in pairs[at]]),
        MinHashLSH(similarity, 128),
        similarity,
    )


def by_rensa(pairs: Sequence[Sequence[str]], similarity: float) -> Sequence[int]:
    """The same by rensa's RMinHash and RMinHashLSH (128 permutations, 32 bands), which are written in Rust."""
    from rensa import RMinHash, RMinHashLSH

    return _stories(
        [RMinHash(128, 42) for _ in pairs],
        lambda made, at: made.update(list(pairs[at])),
        RMinHashLSH(similarity, 128, 32),
        similarity,
    )


def _stories(made: Sequence[Any], update: Callable[[Any, int], object], index: Any, similarity: float) -> Sequence[int]:
    stories: list[int] = []
    for at, own in enumerate(made):
        update(own, at)
        near = [(float(own.jaccard(made[other])), -other) for other in index.query(own)]
        best, other = max(near, default=(0.0, 0))
        stories.append(stories[-other] if best >= similarity else at)
        index.insert(at, own)
    return stories


def main(path: str, similarity: float = SIMILARITY) -> None:
    """Print the figures."""
    with gzip.open(path) as lines:
        documents = [orjson.loads(line) for line in lines]
    documents.sort(key=lambda document: (parse_rfc3339(document["published_at"]), document["id"]))
    texts = [document["text"] for document in documents]
    times = np.array([parse_rfc3339(document["published_at"]) for document in documents])
    stories = folded(texts, times, similarity)
    first: dict[int, int] = {}
    for row, story in enumerate(stories.tolist()):
        first.setdefault(story, row)
    copy = np.array([first[story] != row for row, story in enumerate(stories.tolist())])

    report_retweets(texts, times, stories)
    for peer in (by_datasketch, by_rensa):
        report_peer(peer, texts, times, similarity)
    matrix, sizes = pair_similarity(texts)
    true = np.zeros(len(texts), dtype=np.bool_)
    loose = np.zeros(len(texts), dtype=np.bool_)
    for row in range(1, len(texts)):
        start = int(np.searchsorted(times, times[row] - HORIZON_MS))
        shared = (matrix[start:row] @ matrix[row].T).toarray()[:, 0]
        jaccard = shared / (sizes[start:row] + sizes[row] - shared)
        true[row] = (jaccard >= similarity).any()
        loose[row] = (jaccard >= similarity - 0.2).any()
    print(f"{len(texts)} documents, {true.sum()} copies by exact similarity, {copy.sum()} folded")
    print(f"recall {(copy & true).sum() / true.sum():.4f}, precision {(copy & true).sum() / copy.sum():.4f}")
    print(f"folded although less similar than {similarity - 0.2:.1f}: {(copy & ~loose).sum() / copy.sum():.4f}")

    random = np.random.default_rng(11)
    originals = [t for t in random.permutation(texts).tolist() if len(normalised_words(t)) >= 6][:2000]
    for name, edit in EDITS.items():
        edited = [" ".join(edit(text.split(), random)) for text in originals]
        both = folded([*originals, *edited], np.zeros(2 * len(originals), dtype=np.int64), similarity)
        before, after = both[: len(originals)], both[len(originals) :]
        first_at = np.unique(both, return_index=True)[1]
        astray = (after != before) & ~np.isin(np.arange(len(originals), len(both)), first_at)
        right = after == before
        print(
            f"{name}: {right.mean():.3f} fold into their original, {astray.sum()} into another story "
            f"(precision {right.sum() / (right | astray).sum():.4f})"
        )


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
