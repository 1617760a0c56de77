"""Tasks of different sizes share an epoch as the recipe says, no text is starved, and noise is put on all of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.training.recipe import Augmentation, Source
from models.training.sources import Example
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


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, ["profit", "rose"])
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


SOURCE = Source(path="a.csv")


def epoch(tokenizer: Tokenizer, *tasks: list[Example], **changes: Any) -> Any:
    """The batches of an epoch over `tasks`."""
    from models.training.batches import epoch_batches

    texts = sum(map(len, tasks))
    options = {
        "noise": Augmentation(),
        "exponent": 1.0,
        "batch": 8,
        "max_tokens": 64,
        "pad_id": 0,
        "rng": np.random.default_rng(1),
        "losses": np.full(texts, np.nan, dtype=np.float32),
        "thinning": 0.0,
    }
    return epoch_batches(tasks, tokenizer, **{**options, **changes})


def test_a_source_that_repeats_is_drawn_that_many_times(tokenizer: Tokenizer) -> None:
    often, once = Source(path="a.csv", repeat=3), Source(path="b.csv")
    batches = epoch(tokenizer, [Example("profit rose", 0, often), Example("profit", 1, once)])
    assert Counter(label for batch in batches for label in batch.label.tolist()) == {0: 3, 1: 1}


@pytest.mark.parametrize(("exponent", "drawn"), [(1.0, {0: 30, 1: 10}), (0.0, {0: 20, 1: 20})])
def test_an_epoch_draws_from_its_tasks_by_the_exponent(
    exponent: float, drawn: dict[int, int], tokenizer: Tokenizer
) -> None:
    thrice = Source(path="b.csv", repeat=3)
    for larger in ([Example("profit rose", 0, SOURCE)] * 30, [Example("profit rose", 0, thrice)] * 10):
        batches = epoch(tokenizer, larger, [Example("profit", 1, SOURCE)] * 10, exponent=exponent)
        assert Counter(task for batch in batches for task in batch.task.tolist()) == drawn


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("typos", "operating profit rose further"),
        ("punctuation", "profit rose, it said."),
        ("numbers", "profit rose 12345 67890"),
        ("entities", "shares of Halvorsen Marine rose and $HLVM too"),
    ],
)
def test_the_noise_that_is_asked_for_is_put_on_every_text_of_an_epoch(
    kind: str, text: str, tokenizer: Tokenizer
) -> None:
    """Of three names one is drawn in place of a text's own, so one text in three keeps it."""
    others = [f"shares of {name} rose" for name in ("Castellan Pumps", "Ostrava Glass")]
    examples = [*(Example(text, 0, SOURCE) for _ in range(60)), *(Example(other, 1, SOURCE) for other in others)]
    plain = tokenizer.encode(text).ids
    noise = Augmentation(**{kind: 1.0}, typo_words=1.0)
    for settings, share in ((Augmentation(typo_words=1.0), 0.0), (noise, 0.5 if kind == "entities" else 0.95)):
        batches = epoch(tokenizer, examples, noise=settings)
        rows = [
            ids[mask.bool()].tolist()
            for batch in batches
            for ids, mask, label in zip(batch.ids, batch.mask, batch.label, strict=True)
            if label == 0
        ]
        changed = [row for row in rows if row != plain]
        assert len(rows) == 60
        assert len(changed) >= share * 60 if share else not changed


def test_texts_with_a_loss_below_the_mean_are_thinned_and_those_that_stay_weigh_more(tokenizer: Tokenizer) -> None:
    examples = [Example("profit rose", 0, SOURCE)] * 400
    losses = np.array([0.1] * 300 + [9.0] * 100, dtype=np.float32)
    batches = epoch(tokenizer, examples, losses=losses, thinning=0.75)
    weights = {int(text): float(weight) for b in batches for text, weight in zip(b.text, b.weight, strict=True)}
    easy = [text for text in weights if text < 300]
    assert len(weights) - len(easy) == 100
    assert 50 < len(easy) < 100
    assert {(text < 300, weight) for text, weight in weights.items()} == {(True, 4.0), (False, 1.0)}
