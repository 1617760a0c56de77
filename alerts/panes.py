"""What the detection sees of the stream: closed panes of aggregated series, and the texts behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIELDS: tuple[str, ...] = (
    "documents",
    "copies",
    "negative",
    "neutral",
    "positive",
    "weight_micro",
    "negative_micro",
    "neutral_micro",
    "positive_micro",
    "sentiment_sq_micro",
)
"""Columns of every count array.

`documents` are stories after novelty and `copies` the folded copies; `negative`, `neutral` and `positive` count
stories by their most likely label; `*_micro` are sums of weight x probability x 1e6 (int64, so sums are exact);
`sentiment_sq_micro` is the sum of weight x (p_positive - p_negative)^2 x 1e6.
"""

DOCUMENTS, COPIES, NEGATIVE, NEUTRAL, POSITIVE = range(5)
NEGATIVE_MICRO = FIELDS.index("negative_micro")
WEIGHT_MICRO = FIELDS.index("weight_micro")


@dataclass(frozen=True, slots=True)
class ClosedPane:
    """One closed pane `[start_ms, end_ms)` of a book (int64 milliseconds UTC).

    `ids` int64[n] are the series with at least one document in the pane, ascending; `counts` int64[n, F] their sums in
    this pane, columns as in `FIELDS`. `windows` int64[W, S, F] are the sums per window length over the windows that
    end at `end_ms`, for all S series ids. `keys` maps a series id to its key, for example `company:XOM|topic:Earnings`.
    """

    start_ms: int
    end_ms: int
    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    windows: NDArray[np.int64]
    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Linked:
    """How often a story was copied in a span that ends now (`12h`, `24h`, `3d`, `7d`), and by how many sources."""

    span: str
    copies: int
    sources: int


@dataclass(frozen=True, slots=True)
class EvidenceText:
    """One negative text: its first characters, where it came from, how many copies of it were folded in, and the words
    that made it negative, heaviest first."""

    id: str
    text: str
    source: str | None
    url: str | None
    published_at_ms: int
    negative: float
    copies: int
    linked: tuple[Linked, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """The texts behind an alert: how many independent sources, how many copies, the strongest texts first.

    `stories` are numbers of the newest negative stories, the same in every series of a book that holds them.
    """

    sources: int
    copies: int
    texts: tuple[EvidenceText, ...]
    stories: tuple[int, ...] = ()


NO_EVIDENCE = Evidence(sources=0, copies=0, texts=())

EvidenceOf = Callable[[int, int, int], Evidence]
"""`evidence(series id, start_ms, end_ms)`: what was said in that series in `[start_ms, end_ms)`."""
