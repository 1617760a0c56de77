"""Batches cover every text once, within the budget, and a text's padding depends on that text alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batching import batch_rows, length_buckets, plan_batches

MAX_TOKENS = 256
BUCKETS = length_buckets(MAX_TOKENS)
lengths = st.lists(st.integers(0, MAX_TOKENS), max_size=200).map(lambda n: np.array(n, dtype=np.int64))


@given(lengths, st.integers(1, 4096))
def test_every_text_is_in_exactly_one_batch(counts: np.ndarray, budget: int) -> None:
    rows = [row for batch in plan_batches(counts, BUCKETS, budget) for row in batch.rows.tolist()]
    assert sorted(rows) == list(range(len(counts)))


@given(lengths, st.integers(1, 4096))
def test_padded_cost_stays_within_the_budget(counts: np.ndarray, budget: int) -> None:
    for batch in plan_batches(counts, BUCKETS, budget):
        assert len(batch.rows) * batch.length <= budget or len(batch.rows) == 1


@given(lengths, st.integers(1, 4096), st.integers(1, 50))
def test_no_batch_has_more_rows_than_it_may_whatever_their_length(
    counts: np.ndarray, budget: int, most_rows: int
) -> None:
    batches = plan_batches(counts, BUCKETS, budget, most_rows)
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(len(counts)))
    for batch in batches:
        assert len(batch.rows) <= batch_rows(batch.length, budget, most_rows) <= most_rows


@given(lengths, st.integers(1, 4096))
def test_a_text_is_padded_as_if_it_were_alone(counts: np.ndarray, budget: int) -> None:
    for batch in plan_batches(counts, BUCKETS, budget):
        for row in batch.rows:
            (alone,) = plan_batches(counts[row : row + 1], BUCKETS, budget)
            assert alone.length == batch.length >= counts[row]


def test_a_text_beyond_the_last_bucket_is_an_error_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="257 tokens, more than the longest bucket of 256"):
        plan_batches(np.array([3, MAX_TOKENS + 1]), BUCKETS, 512)


@given(lengths)
def test_long_batches_come_first(counts: np.ndarray) -> None:
    order = [batch.length for batch in plan_batches(counts, BUCKETS, 512)]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("max_tokens", [4, 5, 31, 64, 100, 256, 512, 4000])
def test_buckets_end_at_the_limit_and_waste_at_most_an_eighth(max_tokens: int) -> None:
    buckets = length_buckets(max_tokens)
    assert buckets[-1] == max_tokens
    assert (np.diff(buckets) > 0).all()
    counts = np.arange(16, max_tokens + 1)
    padded = buckets[np.searchsorted(buckets, counts)]
    assert (padded - counts <= counts / 8).all()
