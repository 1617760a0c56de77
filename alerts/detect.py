"""One rule's decision: how rare are this series' windows, all lengths taken together?

For every window length a surprise (see `surprise`): a spike needs more negative texts than expected *and* a shift of
the share towards negative, so the smaller of the two surprises counts (an intersection-union test: both must be
rejected). A slow channel adds the CUSUMs of the baseline. Each channel's surprise becomes a false-alarm rate through
its own measured tail, the rarest channel speaks for the series, and because channels overlap that value goes through a
measured tail of its own. What comes out is what a budget is stated in: false alarms per series and day.

Clustering is measured where it can be seen: given one negative text, how many more are in the window before it than the
baseline expects (the pair correlation of the point process). It sets the variance of counts and shares per window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alerts.baseline import ACTIVITY_CLASSES, Baselines, Floats, Ints
from alerts.durations import DAY_MS
from alerts.panes import DOCUMENTS, NEGATIVE, POSITIVE
from alerts.places import present
from alerts.surprise import count_surprise, drift_surprise, share_surprise
from alerts.tails import Tails

_TAIL_ARRAYS = ("counts", "censored", "exposure_days", "curves", "slopes")
ORDINARY = -9.0
"""The rarity of what is not surprising at all."""

_LEAST_SURPRISE = 1.0
_SHARE_FLOOR = 0.7
_SHARE_SCALE = 2.0
_EPISODE_FLOOR = 0.3
_EPISODE_CALM = 0.7
_PRIOR_BOOK_DAYS = 1.0
_MIN_GAP_MS = 3_600_000
_SPREAD_PRIOR = 20.0
_PAIR_PRIOR = 40.0


class Scores(NamedTuple):
    """Scores of n series.

    `surprise` and `channel_rarity` float64[channels, n]; `rarity` float64[n] is -log10 of false alarms per series day;
    `channel` int64[n] the rarest one. `expected` float64[windows, n] negative texts and `share` float64[n] are the
    baseline's; `negative` and `documents` float64[windows, n] are what the windows hold.
    """

    surprise: Floats
    channel_rarity: Floats
    rarity: Floats
    channel: Ints
    expected: Floats
    share: Floats
    negative: Floats
    documents: Floats

    def of(self, places: Ints) -> Scores:
        """The scores of some of the series."""
        return Scores(
            self.surprise[:, places],
            self.channel_rarity[:, places],
            self.rarity[places],
            self.channel[places],
            self.expected[:, places],
            self.share[places],
            self.negative[:, places],
            self.documents[:, places],
        )


class Detector:
    """Scores the windows `window_rows` (rows of `ClosedPane.windows`) of one rule, and learns how its scores run."""

    def __init__(
        self, windows_ms: Sequence[int], window_rows: Sequence[int], *, slow: bool, min_negative: int,
        rest_ms: int,
    ) -> None:  # fmt: skip
        self.windows_ms = np.array(windows_ms, np.int64)
        self.rows = np.array(window_rows, np.int64)
        self.slow = slow
        self.min_negative = min_negative
        self.channels = len(windows_ms) + int(slow)
        longest = int(self.windows_ms.max())
        lengths = self.lengths_ms = np.append(self.windows_ms, longest)[: self.channels]
        activity = 4.0 ** (np.arange(ACTIVITY_CLASSES) - 1.5)
        self.tails = [Tails(np.minimum(DAY_MS / length, activity)) for length in lengths.tolist()]
        self.together = Tails(np.full(ACTIVITY_CLASSES, 0.6 * self.channels), beyond=0.8, weight=0.4)
        self.gap_ms = np.append(np.maximum(lengths, _MIN_GAP_MS), rest_ms)
        shape = (ACTIVITY_CLASSES, len(windows_ms))
        self.spread_sums = np.zeros((2, *shape))
        self.pair_sums = np.zeros((2, *shape))
        self.spread_prior = np.clip(0.5 * (DAY_MS / self.windows_ms) ** 0.25, 0.1, 4.0)
        self.peak = np.zeros((64, self.channels + 1))
        self.last_ms = np.zeros((64, self.channels + 1), np.int64)
        self.fired = np.zeros((64, self.channels + 1), np.bool_)
        self.seen_ms = np.full(64, -1, np.int64)

    def score(
        self, ids: Ints, windows: NDArray[np.int64], end_ms: int, base: Baselines, muted: Mapping[int, int]
    ) -> Scores:
        """Score ascending series `ids` over `windows` int64[W, S, F]; `muted` maps a series to its last alert's end.

        A window that still contains a past alert says nothing new and counts as unsurprising.
        """
        negative, documents, positive = (
            windows[self.rows[:, None], ids, field].astype(np.float64) for field in (NEGATIVE, DOCUMENTS, POSITIVE)
        )
        share, rate = base.share[ids], base.rate[ids]
        days = base.season.days_between(end_ms - self.windows_ms, end_ms)[:, None]
        expected = rate * share * days
        surprise = np.zeros((self.channels, len(ids)))
        ready = (base.watched_ms >= self.windows_ms)[:, None]
        classes = base.activity[ids]
        spread = self.spread.T[:, classes] + base.rate_variance(ids)
        shift = negative - documents * share
        told = ready & (negative >= self.min_negative) & (negative > expected)
        told &= shift > self._cheer(positive, documents, base.positive_share[ids], rate * days, spread)
        places, found = present(ids, muted)
        until_ms = np.array(list(muted.values()), np.int64)[found]
        told[:, places] &= (end_ms - self.windows_ms)[:, None] >= until_ms
        if not told.any():
            rarities = np.full_like(surprise, ORDINARY)
            best = np.zeros(len(ids), np.int64)
            return Scores(surprise, rarities, rarities[0], best, expected, share, negative, documents)
        correlation = np.minimum(self.pair_correlation.T[:, classes] + base.share_correlation(ids), 0.9)
        wide = np.broadcast_to(share, told.shape)[told]
        counts = count_surprise(negative[told], expected[told], spread[told])
        shares = share_surprise(negative[told], documents[told], wide, correlation[told])
        both = np.where(shares >= _SHARE_FLOOR, np.minimum(counts, _SHARE_SCALE * shares), 0.0)
        surprise[: len(self.windows_ms)][told] = both
        if self.slow:
            drift = drift_surprise(base.drift_share[ids], base.drift_count[ids])
            surprise[-1] = np.where(told[-1], drift, 0.0)
        rarities = np.full_like(surprise, ORDINARY)
        for channel, tails in enumerate(self.tails):
            high = surprise[channel] >= _LEAST_SURPRISE
            rarities[channel, high] = -tails.log_rate(classes[high], surprise[channel, high])
        best = rarities.argmax(axis=0)
        highest = rarities.max(axis=0)
        high = highest >= _EPISODE_FLOOR
        rarity = np.full(len(ids), ORDINARY)
        rarity[high] = -self.together.log_rate(classes[high], highest[high])
        return Scores(surprise, rarities, rarity, best, expected, share, negative, documents)

    def _cheer(
        self, positive: Floats, documents: Floats, share: Floats, expected_documents: Floats, spread: Floats
    ) -> Floats:
        """How many positive texts too many are in a window, or clearly too many in a longer one; float64[windows, n].

        The few negative readings of a surge of good news come close together by chance: what counts is the surge.
        """
        expected = expected_documents * share
        by_count = positive - expected - 2.0 * np.sqrt(expected + spread * expected**2)
        cheer = positive - documents * share
        clearly = np.maximum(by_count, cheer - np.sqrt(documents * share * (1.0 - share)))
        longer = np.maximum.accumulate(clearly[::-1], axis=0)[::-1]
        return np.maximum(np.maximum(cheer, longer), 0.0)

    def learn(
        self, ids: Ints, scores: Scores, negative: Floats, end_ms: int, base: Baselines, cap: float,
        alerting: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Learn how scores run from series touched in this pane; `negative` float64[n] are the pane's own negatives.

        `cap` is the rarity that fires: scores are censored a little beyond it. What goes on while a series is
        `alerting` bool[n] is one episode, as it is one alert.
        """
        self._fit(int(ids[-1]) + 1)
        classes = base.activity[ids]
        self._learn_clusters(classes, scores, negative)
        first = self.seen_ms[ids] < 0
        days = np.where(first, 0.0, (end_ms - self.seen_ms[ids]) / DAY_MS)
        self.seen_ms[ids] = end_ms
        highest = np.maximum(scores.channel_rarity.max(axis=0), 0.0)
        fires = scores.rarity >= cap
        ready = [*(base.watched_ms >= self.lengths_ms).tolist(), True]
        for channel in range(self.channels + 1):
            together = channel == self.channels
            tails = self.together if together else self.tails[channel]
            values = highest if together else scores.surprise[channel]
            if ready[channel]:
                tails.watch(classes, days)
            bound = tails.level(-cap - tails.beyond)[classes] if fires.any() else values
            cut = fires & (values > bound)
            self._follow(ids, classes, np.where(cut, bound, values), channel, end_ms, tails, cut, alerting & together)

    def _follow(
        self, ids: Ints, classes: Ints, values: Floats, channel: int, end_ms: int, tails: Tails,
        cut: NDArray[np.bool_], alerting: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Runs declustering: an episode lasts while scores come back near its maximum before the gap has passed."""
        peak, fired = self.peak[ids, channel], self.fired[ids, channel]
        if not (peak.any() or (values >= _EPISODE_FLOOR).any()):
            return
        over = ((peak > 0.0) | fired) & (end_ms - self.last_ms[ids, channel] > self.gap_ms[channel]) & ~alerting
        if over.any():
            told = over & (peak >= _EPISODE_FLOOR)
            tails.record(classes[told], peak[told], fired[told])
            peak, fired = np.where(over, 0.0, peak), fired & ~over
        high = (values >= _EPISODE_FLOOR) & (values >= _EPISODE_CALM * peak)
        self.last_ms[ids, channel] = np.where(high, end_ms, self.last_ms[ids, channel])
        self.peak[ids, channel] = np.where(high, np.maximum(values, peak), peak)
        self.fired[ids, channel] = fired | (high & cut)

    def _learn_clusters(self, classes: Ints, scores: Scores, negative: Floats) -> None:
        """`scores` and `negative` float64[n] are of series that said something negative in this pane."""
        expected, share = scores.expected, scores.share
        others = np.maximum(scores.negative - negative, 0.0)
        spread = self.spread.T[:, classes]
        others = np.minimum(others, expected + 3.0 * np.sqrt(expected + spread * expected**2) + 1.0)
        around = np.maximum(scores.documents - negative, 0.0)
        pairs = np.minimum(others - around * share, 3.0 * np.sqrt(around * share * (1.0 - share)) + 1.0)
        for sums_of, top, bottom in (
            (self.spread_sums, negative * (others - expected), negative * expected),
            (self.pair_sums, negative * pairs, negative * around * (1.0 - share)),
        ):
            for window in range(len(self.windows_ms)):
                np.add.at(sums_of[0, :, window], classes, top[window])
                np.add.at(sums_of[1, :, window], classes, bottom[window])

    @property
    def spread(self) -> Floats:
        """Relative variance of counts beyond Poisson, float64[classes, windows]."""
        top, bottom = self.spread_sums
        return np.asarray(np.clip((top + _SPREAD_PRIOR * self.spread_prior) / (bottom + _SPREAD_PRIOR), 0.02, 100.0))

    @property
    def pair_correlation(self) -> Floats:
        """Correlation of the labels of two texts in one window, float64[classes, windows]."""
        top, bottom = self.pair_sums
        return np.asarray(np.clip((top + _PAIR_PRIOR * 0.05) / (bottom + _PAIR_PRIOR), 0.005, 0.5))

    def forget(self, keep: float, series: float) -> None:
        """Let all history count for `keep` of what it did, and rebuild the tails' curves of a book of `series`."""
        self.spread_sums *= keep
        self.pair_sums *= keep
        for tails in (*self.tails, self.together):
            tails.forget(keep)
            tails.refresh(_PRIOR_BOOK_DAYS * max(1.0, series))

    def drop(self, ids: Ints) -> None:
        """Forget these series."""
        ids = ids[ids < len(self.seen_ms)]
        self.peak[ids] = 0.0
        self.last_ms[ids] = 0
        self.fired[ids] = False
        self.seen_ms[ids] = -1

    def dump(self) -> dict[str, Floats]:
        """What is not per series: clusters and tails."""
        state = {"spread_sums": self.spread_sums, "pair_sums": self.pair_sums}
        for number, tails in enumerate((*self.tails, self.together)):
            state |= {f"tails/{number}/{name}": getattr(tails, name) for name in _TAIL_ARRAYS}
        return state

    def load(self, state: Mapping[str, Floats]) -> None:
        """Take over a state from `dump`."""
        self.spread_sums, self.pair_sums = state["spread_sums"], state["pair_sums"]
        for number, tails in enumerate((*self.tails, self.together)):
            for name in _TAIL_ARRAYS:
                setattr(tails, name, state[f"tails/{number}/{name}"])

    def _fit(self, size: int) -> None:
        old = len(self.seen_ms)
        if size <= old:
            return
        size = max(size, 2 * old)
        self.peak = np.concatenate((self.peak, np.zeros((size - old, self.channels + 1))))
        self.last_ms = np.concatenate((self.last_ms, np.zeros((size - old, self.channels + 1), np.int64)))
        self.fired = np.concatenate((self.fired, np.zeros((size - old, self.channels + 1), np.bool_)))
        self.seen_ms = np.concatenate((self.seen_ms, np.full(size - old, -1, np.int64)))
