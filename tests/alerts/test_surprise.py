"""Surprises are the tail probabilities that they say they are, and a series' scores do not depend on its neighbours."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import betaincc

from alerts.baseline import BLOCK_MS, Baselines
from alerts.detect import Detector, Scores
from alerts.panes import DOCUMENTS, FIELDS, NEGATIVE, POSITIVE
from alerts.places import present
from alerts.season import Season
from alerts.surprise import share_surprise

HOUR_MS = 3_600_000
WINDOWS_MS = (HOUR_MS, 24 * HOUR_MS)
END_MS = 20 * 24 * HOUR_MS
SERIES = 40

seeds = st.integers(0, 2**32 - 1)


@given(
    documents=st.integers(1, 5000),
    part=st.floats(0.0, 1.0),
    share=st.floats(0.01, 0.95),
    correlation=st.floats(0.0, 0.9),
)
def test_a_share_is_as_surprising_as_the_upper_tail_of_its_beta_distribution(
    documents: int, part: float, share: float, correlation: float
) -> None:
    negative = round(documents * part)
    strength = max(documents / (1 + (documents - 1) * correlation) - 1, 0.25)
    level = max((negative - 0.5) / documents, 0.0)
    tail = betaincc(strength * share, strength * (1 - share), level)
    surprise = share_surprise(*(np.array([value], np.float64) for value in (negative, documents, share, correlation)))
    np.testing.assert_allclose(surprise, -np.log10(max(tail, 1e-60)), rtol=1e-8, atol=1e-12)


@given(ids=st.lists(st.integers(0, 60), unique=True).map(sorted), series=st.lists(st.integers(0, 60), unique=True))
def test_series_are_found_among_ids(ids: list[int], series: list[int]) -> None:
    places, found = present(np.array(ids, np.int64), series)
    assert places.tolist() == [ids.index(each) for each in series if each in ids]
    assert found.tolist() == [each in ids for each in series]


def learned(random: np.random.Generator) -> Baselines:
    """Baselines of `SERIES` series, quiet and busy ones, after six days of texts."""
    base = Baselines(Season(30 * 24 * HOUR_MS), 30 * 24 * HOUR_MS)
    keys = ["all", *(f"company:S{number}" for number in range(1, SERIES))]
    rates, shares = random.lognormal(0.0, 1.5, SERIES), random.beta(2.0, 6.0, SERIES)
    for at_ms in range(END_MS - 24 * BLOCK_MS, END_MS, BLOCK_MS):
        base.season.advance(at_ms)
        base.advance(at_ms)
        documents = 1 + random.poisson(rates)
        negative = random.binomial(documents, shares)
        positive = random.binomial(documents - negative, 0.4)
        told = (counts.astype(np.float64) for counts in (documents, negative, positive))
        base.season.add(float(documents.max()))
        base.add(np.arange(SERIES), keys, *told, np.ones(SERIES, np.bool_))
    return base


def held(random: np.random.Generator) -> NDArray[np.int64]:
    """What the windows hold, int64[windows, series, fields]: nothing much, or a surge."""
    windows = np.zeros((len(WINDOWS_MS), SERIES, len(FIELDS)), np.int64)
    for number, mean in enumerate((2.0, 10.0)):
        windows[number, :, DOCUMENTS] = random.poisson(mean * random.choice([1.0, 6.0], SERIES))
        windows[number, :, NEGATIVE] = random.binomial(windows[number, :, DOCUMENTS], random.beta(1.0, 2.0, SERIES))
        rest = windows[number, :, DOCUMENTS] - windows[number, :, NEGATIVE]
        windows[number, :, POSITIVE] = random.binomial(rest, 0.3)
    return windows


@given(seed=seeds, muted=arrays(np.bool_, SERIES), slow=st.booleans())
def test_a_series_scores_the_same_alone_as_among_others(seed: int, muted: NDArray[np.bool_], slow: bool) -> None:
    random = np.random.default_rng(seed)
    base, windows = learned(random), held(random)
    detector = Detector(WINDOWS_MS, (0, 1), slow=slow, min_negative=2, rest_ms=HOUR_MS)
    ended = {series: END_MS - int(random.integers(30 * HOUR_MS)) for series in np.flatnonzero(muted).tolist()}
    ids = np.flatnonzero(random.random(SERIES) < 0.8)
    together = detector.score(ids, windows, END_MS, base, ended)
    for place, series in enumerate(ids.tolist()):
        alone = detector.score(np.array([series]), windows, END_MS, base, ended)
        for name in Scores._fields:
            np.testing.assert_array_equal(getattr(together.of(np.array([place])), name), getattr(alone, name))
        for number, window_ms in enumerate(WINDOWS_MS):
            if series in ended and END_MS - window_ms < ended[series]:
                assert alone.surprise[number, 0] == 0.0
            assert alone.negative[number, 0] == windows[number, series, NEGATIVE]


def test_some_of_the_made_up_series_are_surprising() -> None:
    random = np.random.default_rng(0)
    base, windows = learned(random), held(random)
    detector = Detector(WINDOWS_MS, (0, 1), slow=True, min_negative=2, rest_ms=HOUR_MS)
    surprise = detector.score(np.arange(SERIES), windows, END_MS, base, {}).surprise
    assert ((surprise > 0.0).any(axis=1)).all()


def test_a_book_that_has_forgotten_every_series_still_knows_what_is_rare() -> None:
    detector = Detector(WINDOWS_MS, (0, 1), slow=True, min_negative=2, rest_ms=HOUR_MS)
    with np.errstate(all="raise"):
        detector.forget(0.5, 0.0)
    assert all(np.isfinite(tails.curves).all() for tails in (*detector.tails, detector.together))
