"""What the past of every series explains: documents per season day and the share of them that is negative.

Gamma-Poisson for the rate and beta-binomial for the share, forgotten exponentially in event time. State is decayed in
closed form and only when a series is touched, so a quiet series costs nothing. What a series said in a block of six
hours is taken in when the block is over, winsorised at what its own past and spread make likely (a surge teaches
little), and replaced by what was expected while an alert is firing (an alert teaches nothing). A new series leans on
its kind's average rate and on its parent's share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alerts.durations import HOUR_MS
from alerts.packing import StateError
from alerts.season import Season, keep_over
from alerts.series_keys import kind_of, parents_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_MS = 6 * HOUR_MS
KINDS = ("all", "topic", "company", "company|topic", "sector")
ACTIVITY_CLASSES = 9

_RATE_SHAPE = 0.7
_SPREAD_DAYS = 1.0
_DRIFT_MEMORY_BLOCKS = 12.0
_PRIOR_SHARE = 0.2
_PRIOR_POSITIVE_SHARE = 0.3
_PRIOR_SHARE_DOCUMENTS = 20.0
_PARENT_DOCUMENTS = 12.0
_WINSOR_SD = 3.0
_DRIFT_SHARE_ODDS = 2.0
_DRIFT_COUNT_RATIO = 1.5
_DRIFT_CAP = 2.0

FLOAT_COLUMNS = (
    "documents",
    "negative",
    "block_documents",
    "positive",
    "block_negative",
    "block_positive",
    "rate",
    "share",
    "positive_share",
    "known_documents",
    "drift_share",
    "drift_count",
)
INT_COLUMNS = ("block", "kind", "parent", "activity")


class Baselines:
    """Arrays by series id. `rate` (documents per season day) and `share` are valid once a series was touched.

    `sectors` maps companies to their sectors; a new company leans on its sector.
    """

    def __init__(self, season: Season, memory_ms: int, sectors: Mapping[str, str] | None = None) -> None:
        self.sectors = sectors or {}
        self.kinds = KINDS if self.sectors else KINDS[:-1]
        self.season = season
        self.memory_ms = memory_ms
        self.keep_block = keep_over(memory_ms, BLOCK_MS)
        self.block = -1
        self.first_block = -1
        self.exposure_days = 0.0
        self.day_spread = 0.5
        self.kind_documents = np.zeros(len(self.kinds))
        self.kind_negative = np.zeros(len(self.kinds))
        self.kind_positive = np.zeros(len(self.kinds))
        self.kind_series = np.zeros(len(self.kinds))
        self.spread_sums = np.zeros(2)
        self.correlation_sums = np.zeros(2)
        self.columns: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
        self.size = 0
        self._ids: dict[str, int] = {}
        self._grow(64)

    def _grow(self, size: int) -> None:
        for name in (*FLOAT_COLUMNS, *INT_COLUMNS):
            dtype = np.float64 if name in FLOAT_COLUMNS else np.int64
            grown: NDArray[Any] = np.zeros(size, dtype) if name in FLOAT_COLUMNS else np.full(size, -1, dtype)
            old = self.columns.get(name)
            if old is not None:
                grown[: len(old)] = old
            self.columns[name] = grown
            setattr(self, name if name != "block" else "block_of", grown)
        self.size = size

    documents: Floats
    negative: Floats
    block_documents: Floats
    positive: Floats
    block_negative: Floats
    block_positive: Floats
    rate: Floats
    share: Floats
    positive_share: Floats
    known_documents: Floats
    drift_share: Floats
    drift_count: Floats
    block_of: Ints
    kind: Ints
    parent: Ints
    activity: Ints

    def advance(self, now_ms: int) -> bool:
        """Move to the block of `now_ms`; true when a block ended. The season must have been advanced before."""
        block = now_ms // BLOCK_MS
        if self.block < 0:
            self.block = self.first_block = block
        gap = block - self.block
        if gap <= 0:
            return False
        keep = self.keep_block**gap
        for sums in (
            self.kind_documents,
            self.kind_negative,
            self.kind_positive,
            self.spread_sums,
            self.correlation_sums,
        ):
            sums *= keep
        self.block = block
        self.exposure_days = self.season.exposure_days
        return True

    def add(
        self, ids: Ints, keys: Sequence[str], documents: Floats, negative: Floats, positive: Floats,
        taught: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Count one pane of these series; `taught` is false where a firing alert keeps the series from learning."""
        if len(ids) and int(ids[-1]) >= self.size:
            self._grow(max(2 * self.size, int(ids[-1]) + 1))
        new = ids[self.block_of[ids] < 0]
        if len(new):
            self._meet(new, keys)
        self.fold(ids, taught)
        self.block_documents[ids] += documents
        self.block_negative[ids] += negative
        self.block_positive[ids] += positive

    def _meet(self, new: Ints, keys: Sequence[str]) -> None:
        for series in new.tolist():
            self._ids[keys[series]] = series
        for series in new.tolist():
            key = keys[series]
            self.kind[series] = self.kinds.index(kind_of(key))
            parents = (self._ids.get(parent, -1) for parent in parents_of(key, self.sectors))
            self.parent[series] = next((parent for parent in parents if parent >= 0), -1)
        self.kind_series += np.bincount(self.kind[new], minlength=len(self.kinds))
        self.block_of[new] = self.block
        for name in FLOAT_COLUMNS:
            self.columns[name][new] = 0.0
        self._estimate(new)

    def fold(self, ids: Ints, taught: NDArray[np.bool_]) -> None:
        """Take in the ended blocks of these series."""
        stale = self.block_of[ids] < self.block
        if not stale.any():
            return
        ids, taught = ids[stale], taught[stale]
        gap = (self.block - self.block_of[ids]).astype(np.float64)
        documents, negative = self.block_documents[ids], self.block_negative[ids]
        mean = self._block_mean(ids)
        share = self.share[ids]
        sd = np.sqrt(mean + mean**2 * (self.day_spread + self._rate_variance(ids)))
        kept = np.where(taught, np.minimum(documents, mean + _WINSOR_SD * sd + 1.0), np.minimum(documents, mean))
        scale = kept / np.maximum(documents, 1e-9)
        odd = share + _WINSOR_SD * np.sqrt(share * (1 - share) * (1 / np.maximum(kept, 1.0) + self.correlation))
        kept_negative = np.where(taught, np.minimum(negative * scale, kept * odd + 0.5), kept * share)
        kept_positive = kept * np.where(
            taught, self.block_positive[ids] / np.maximum(documents, 1e-9), self.positive_share[ids]
        )
        self._drift(ids, documents, negative, mean, share, gap)
        self._learn_spread(kept, kept_negative, mean, share, gap, sd)
        keep = self.keep_block**gap
        self.documents[ids] = (self.documents[ids] + kept) * keep
        self.negative[ids] = (self.negative[ids] + kept_negative) * keep
        self.positive[ids] = (self.positive[ids] + kept_positive) * keep
        kinds = self.kind[ids]
        self.kind_positive += np.bincount(kinds, weights=kept_positive * keep, minlength=len(self.kinds))
        self.kind_documents += np.bincount(kinds, weights=kept * keep, minlength=len(self.kinds))
        self.kind_negative += np.bincount(kinds, weights=kept_negative * keep, minlength=len(self.kinds))
        self.block_documents[ids] = 0.0
        self.block_negative[ids] = 0.0
        self.block_positive[ids] = 0.0
        self.block_of[ids] = self.block
        self._estimate(ids)

    def _block_mean(self, ids: Ints) -> Floats:
        starts = self.block_of[ids] * BLOCK_MS
        return np.asarray(self.rate[ids] * self.season.days_between(starts, starts + BLOCK_MS))

    def _rate_variance(self, ids: Ints) -> Floats:
        """Relative variance of what is known of the rate: texts seen so far, and days, since days differ."""
        return np.asarray(
            1 / (self.documents[ids] + _RATE_SHAPE) + self.day_spread / (self.exposure_days + _SPREAD_DAYS)
        )

    def rate_variance(self, ids: Ints) -> Floats:
        """Relative variance of `rate`, from how little has been seen."""
        return self._rate_variance(ids)

    def share_correlation(self, ids: Ints) -> Floats:
        """What not knowing the share exactly adds to the correlation of two texts."""
        return np.asarray(1.0 / (1.0 + self.known_documents[ids]))

    @property
    def correlation(self) -> float:
        """Intra-class correlation of the texts of one block."""
        excess, possible = self.correlation_sums
        return float(np.clip((excess + 0.05 * 50.0) / (possible + 50.0), 0.0, 0.5))

    def _kind_rate(self, kinds: Ints) -> Floats:
        rates = self.kind_documents / (np.maximum(self.kind_series, 1.0) * max(self.exposure_days, 0.25))
        return np.asarray(np.maximum(rates, 0.05)[kinds])

    def _estimate(self, ids: Ints) -> None:
        kinds, parents = self.kind[ids], self.parent[ids]
        prior_days = _RATE_SHAPE / self._kind_rate(kinds)
        self.rate[ids] = (self.documents[ids] + _RATE_SHAPE) / (self.exposure_days + prior_days)
        known = (parents >= 0) & (self.share[np.maximum(parents, 0)] > 0.0)
        for shares, label, kind_label, first in (
            (self.share, self.negative, self.kind_negative, _PRIOR_SHARE),
            (self.positive_share, self.positive, self.kind_positive, _PRIOR_POSITIVE_SHARE),
        ):
            book = kind_label.sum() + first * _PRIOR_SHARE_DOCUMENTS
            book /= self.kind_documents.sum() + _PRIOR_SHARE_DOCUMENTS
            prior = np.where(known, shares[np.maximum(parents, 0)], book)
            shares[ids] = (label[ids] + _PARENT_DOCUMENTS * prior) / (self.documents[ids] + _PARENT_DOCUMENTS)
            shares[ids] = np.clip(shares[ids], 0.01, 0.95)
        self.known_documents[ids] = self.documents[ids] + _PARENT_DOCUMENTS
        level = np.log(np.maximum(self.rate[ids] * self.share[ids], 1e-6) * 16.0) / np.log(4.0)
        self.activity[ids] = np.clip(level.astype(np.int64) + (level > 0), 0, ACTIVITY_CLASSES - 1)

    def _drift(self, ids: Ints, documents: Floats, negative: Floats, mean: Floats, share: Floats, gap: Floats) -> None:
        """Wald log-likelihood ratios of a doubled odds of negative, and of half as many negatives again (Page 1954)."""
        spread = 1.0 + np.maximum(documents - 1.0, 0.0) * self.correlation
        worse = _DRIFT_SHARE_ODDS * share / (1.0 - share + _DRIFT_SHARE_ODDS * share)
        by_share = (
            negative * np.log(worse / share) + (documents - negative) * np.log((1 - worse) / (1 - share))
        ) / spread
        expected = mean * share
        wide = 1.0 + expected * (self.day_spread + self._rate_variance(ids))
        by_count = (negative * np.log(_DRIFT_COUNT_RATIO) - expected * (_DRIFT_COUNT_RATIO - 1.0)) / wide
        quiet = (gap - 1.0) * expected * (_DRIFT_COUNT_RATIO - 1.0) / wide
        keep = 0.5 ** (gap / _DRIFT_MEMORY_BLOCKS)
        self.drift_share[ids] = keep * np.maximum(self.drift_share[ids] + np.minimum(by_share, _DRIFT_CAP), 0.0)
        self.drift_count[ids] = keep * np.maximum(self.drift_count[ids] + np.minimum(by_count, _DRIFT_CAP) - quiet, 0.0)

    def _learn_spread(
        self, documents: Floats, negative: Floats, mean: Floats, share: Floats, gap: Floats, sd: Floats
    ) -> None:
        """Moments: how much blocks differ beyond Poisson, and how much texts of a block are alike beyond binomial."""
        empty = (gap - 1.0) * (mean**2 - mean)
        self.spread_sums += ((documents - mean) ** 2 - mean + empty).sum(), (gap * mean**2).sum()
        self.day_spread = float(np.clip((self.spread_sums[0] + 0.5 * 20.0) / (self.spread_sums[1] + 20.0), 0.05, 5.0))
        pairs = np.maximum(documents - 1.0, 0.0)
        variance = share * (1.0 - share)
        excess = (negative - documents * share) ** 2 - documents * variance
        usable = documents >= 2.0
        self.correlation_sums += (
            (excess / np.maximum(documents, 1.0))[usable].sum(),
            (variance * pairs)[usable].sum(),
        )

    def drop(self, ids: Ints) -> None:
        """Forget these series."""
        ids = ids[ids < self.size]
        ids = ids[self.block_of[ids] >= 0]
        self.kind_series -= np.bincount(self.kind[ids], minlength=len(self.kinds))
        gone = set(ids.tolist())
        self._ids = {key: series for key, series in self._ids.items() if series not in gone}
        self.parent[np.isin(self.parent, ids)] = -1
        for name in FLOAT_COLUMNS:
            self.columns[name][ids] = 0.0
        for name in INT_COLUMNS:
            self.columns[name][ids] = -1

    @property
    def watched_ms(self) -> int:
        """Event time of whole blocks since the first pane, less what the season takes for a time without a stream."""
        return max((self.block - self.first_block) * BLOCK_MS - self.season.unwatched_hours * HOUR_MS, 0)

    def dump(self) -> dict[str, object]:
        """What is not per series, as plain values."""
        return {
            "numbers": [self.block, self.first_block, self.exposure_days, self.day_spread],
            "kind_documents": self.kind_documents.tolist(),
            "kind_negative": self.kind_negative.tolist(),
            "kind_positive": self.kind_positive.tolist(),
            "kind_series": self.kind_series.tolist(),
            "spread_sums": self.spread_sums.tolist(),
            "correlation_sums": self.correlation_sums.tolist(),
            "ids": self._ids,
        }

    def load(self, state: Mapping[str, object], columns: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]) -> None:
        """Take over a state from `dump` and the columns. Raises StateError."""
        numbers = state["numbers"]
        assert isinstance(numbers, list)
        if len(np.array(state["kind_series"])) != len(self.kinds):
            raise StateError("alert state: it was learned with sectors, or without, and the book is now the other way")
        self.block, self.first_block = int(numbers[0]), int(numbers[1])
        self.exposure_days, self.day_spread = float(numbers[2]), float(numbers[3])
        for name in (
            "kind_documents",
            "kind_negative",
            "kind_positive",
            "kind_series",
            "spread_sums",
            "correlation_sums",
        ):
            setattr(self, name, np.array(state[name]))
        ids = state["ids"]
        assert isinstance(ids, dict)
        self._ids = dict(ids)
        self._grow(max(len(columns["rate"]), 64))
        for name, values in columns.items():
            self.columns[name][: len(values)] = values
