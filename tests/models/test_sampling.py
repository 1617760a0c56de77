"""Tasks of different sizes share an epoch as the recipe says, and no text is starved."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.tiny_model import write_tokenizer
from tests.models.training import needs_training

needs_training()
pytestmark = pytest.mark.train

sizes = st.lists(st.integers(1, 500), min_size=1, max_size=4)


@given(sizes, st.floats(0, 1))
def test_an_epoch_is_as_long_whatever_the_shares(texts: list[int], exponent: float) -> None:
    from models.training.batches import draws_per_task

    drawn = draws_per_task(texts, exponent)
    assert abs(sum(drawn) - sum(texts)) <= len(texts)
    assert all(count >= 1 for count in drawn)
    order = np.argsort(texts, kind="stable")
    assert (np.diff(np.array(drawn)[order]) >= 0).all(), "a larger task never has fewer draws"


@pytest.mark.parametrize(("exponent", "drawn"), [(1.0, [900, 100]), (0.5, [750, 250]), (0.0, [500, 500])])
def test_the_exponent_moves_from_sizes_to_equal_shares(exponent: float, drawn: list[int]) -> None:
    from models.training.batches import draws_per_task

    assert draws_per_task([900, 100], exponent) == drawn


@given(st.integers(1, 50), st.integers(1, 200), st.integers(0, 99))
def test_no_text_is_drawn_twice_more_often_than_another(size: int, wanted: int, seed: int) -> None:
    from models.training.batches import draw

    times = Counter(draw(size, wanted, np.random.default_rng(seed)).tolist())
    assert sum(times.values()) == wanted
    assert max(times.values()) - min(times[at] for at in range(size)) <= 1


def test_a_source_that_repeats_is_drawn_that_many_times(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from models.training.batches import epoch_batches
    from models.training.recipe import Augmentation, Source
    from models.training.sources import Example

    write_tokenizer(tmp_path, ["profit", "rose"])
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    often, once = Source(path="a.csv", repeat=3), Source(path="b.csv")
    batches = epoch_batches(
        [[Example("profit rose", 0, often), Example("profit", 1, once)]],
        tokenizer,
        noise=Augmentation(),
        exponent=1.0,
        batch=8,
        max_tokens=8,
        pad_id=0,
        rng=np.random.default_rng(1),
        losses=np.full(2, np.nan, dtype=np.float32),
        thinning=0.0,
    )
    assert Counter(label for batch in batches for label in batch.label.tolist()) == {0: 3, 1: 1}
