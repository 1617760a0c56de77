"""A text's probabilities depend on the text and the bundle alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.bundle import Bundle, BundleError, Task
from models.encoding import LongTexts, TokenRows
from models.predictor import Predictions, Predictor
from models.probabilities import softmax
from tests.models.tiny_bundle import TASKS, vocabulary, write_tiny_bundle

words = st.sampled_from([word for word in vocabulary() if not word.startswith("[")])
sentences = st.lists(words | st.text(max_size=6), max_size=60).map(" ".join)
batches = st.lists(sentences, max_size=30)


def same(one: Predictions, other: Predictions) -> bool:
    return one.words == other.words and all(
        np.array_equal(one.probabilities[task], other.probabilities[task]) for task in one.probabilities
    )


def rows_of(predictions: Predictions, rows: list[int]) -> Predictions:
    return Predictions(
        {task: table[rows] for task, table in predictions.probabilities.items()},
        [predictions.words[row] for row in rows],
    )


@cache
def plain(bundle: Bundle, *, threads: int = 1, budget: int = 512, long_texts: LongTexts = "truncate") -> Predictor:
    """A predictor without a cache, made once per setting."""
    return Predictor(bundle, threads=threads, max_batch_tokens=budget, cache_entries=0, long_texts=long_texts)


@given(batches, st.sampled_from([1, 30, 64, 200]), st.randoms(use_true_random=False))
def test_a_text_scores_bit_identically_alone_and_in_any_batch_and_order(
    tiny: Bundle, texts: list[str], budget: int, shuffle: random.Random
) -> None:
    reference = plain(tiny).predict(texts)
    predictor = plain(tiny, threads=3, budget=budget)
    order = list(range(len(texts)))
    shuffle.shuffle(order)
    assert same(predictor.predict([texts[row] for row in order]), rows_of(reference, order))
    for row in order[:3]:
        assert same(predictor.predict([texts[row]]), rows_of(reference, [row]))


@settings(max_examples=20)
@given(st.lists(batches, max_size=4), st.integers(1, 20))
def test_the_cache_changes_nothing(tiny: Bundle, calls: list[list[str]], entries: int) -> None:
    caching = Predictor(tiny, threads=1, cache_entries=entries)
    for texts in [*calls, *calls]:
        assert same(plain(tiny).predict(texts), caching.predict(texts))


def test_copies_are_scored_once(tiny: Bundle) -> None:
    predictor = Predictor(tiny, threads=1)
    predictor.predict(["record profit", "court", "record profit"])
    predictor.predict(["court", "new product"])
    assert (predictor.stats.cache_hits, predictor.stats.cache_misses) == (2, 3)
    assert predictor.stats.tokens == 4 + 3 + 4


def test_no_texts_give_tables_without_rows(predictor: Predictor) -> None:
    tables = predictor.predict([]).probabilities
    assert {task: table.shape for task, table in tables.items()} == {"sentiment": (0, 3), "topic": (0, 3)}


def test_probabilities_are_float32_rows_that_sum_to_one(predictor: Predictor) -> None:
    tables = predictor.predict(["", "record profit", "lawsuit " * 500, "公司"]).probabilities
    for table in tables.values():
        assert table.dtype == np.float32
        assert table.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_the_words_decide(predictor: Predictor) -> None:
    tables = predictor.predict(["company wins record profit", "fraud lawsuit", "the market today"]).probabilities
    labels = predictor.labels["sentiment"]
    assert [labels[at] for at in tables["sentiment"].argmax(axis=1)][:2] == ["positive", "negative"]
    assert predictor.labels["topic"][int(tables["topic"][1].argmax())] == "Legal"


def test_it_computes_softmax_of_logits_over_temperature(tiny: Bundle) -> None:
    predictor = plain(tiny)
    words = vocabulary()
    ids = np.array([[words[w] for w in ("[CLS]", "record", "profit", "[SEP]")]])
    session = ort.InferenceSession(tiny.read("model.onnx"))
    (logits,) = session.run(["topic"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    powers = np.exp(logits[0].astype(float) / 0.8)
    found = predictor.predict(["Record profit"]).probabilities["topic"][0]
    assert found == pytest.approx(powers / powers.sum(), rel=1e-5)


@given(st.integers(1, 5), st.integers(2, 25), st.sampled_from((1.0, 0.6, 1.7)), st.integers(0, 2**32 - 1))
def test_softmax_works_row_by_row_and_keeps_the_order_of_labels(
    rows: int, labels: int, exponent: float, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(0, 30, (rows, labels)).astype(np.float32)
    together = softmax(logits, 0.7, exponent)
    for row in range(rows):
        assert np.array_equal(softmax(logits[row : row + 1], 0.7, exponent)[0], together[row])
        assert (np.diff(together[row][np.argsort(logits[row])]) >= 0).all()
        assert together[row].sum() == pytest.approx(1.0)


def test_many_threads_may_predict_at_once(tiny: Bundle) -> None:
    predictor = Predictor(tiny, threads=3, cache_entries=16)
    rng = random.Random(5)
    pool = [" ".join(rng.choices(list(vocabulary()), k=rng.randint(0, 30))) for _ in range(60)]
    expected = plain(tiny).predict(pool)
    picks = [rng.sample(range(len(pool)), 25) for _ in range(40)]
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda pick: predictor.predict([pool[row] for row in pick]), picks))
    assert all(same(found, rows_of(expected, pick)) for found, pick in zip(answers, picks, strict=True))
    assert predictor.stats.cache_hits + predictor.stats.cache_misses == 40 * 25


def test_many_texts_are_scored_slab_by_slab_in_order(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'profit ' * (at % 7)} lawsuit" for at in range(50)]
    expected = plain(tiny).predict(texts)
    monkeypatch.setattr("models.predictor.SLAB_TEXTS", 8)
    assert same(Predictor(tiny, threads=2, cache_entries=0).predict(texts), expected)


@pytest.mark.parametrize("most_characters", [1, 60, 10_000])
def test_slabs_are_cut_by_characters_too_and_change_no_bit(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, most_characters: int
) -> None:
    texts = [f"{'profit ' * (at % 7)} lawsuit {'market ' * 40 * (at % 11 == 0)}" for at in range(50)]
    expected = plain(tiny, long_texts="chunks").predict(texts)
    monkeypatch.setattr("models.predictor.SLAB_CHARACTERS", most_characters)
    predictor = Predictor(tiny, threads=2, cache_entries=0, long_texts="chunks")
    encode, slabs = predictor._encoder.encode, list[list[int]]()

    def recorded(slab: Sequence[str]) -> TokenRows:
        slabs.append([len(text) for text in slab])
        return encode(slab)

    monkeypatch.setattr(predictor._encoder, "encode", recorded)
    assert same(predictor.predict(texts), expected)
    assert [length for slab in slabs for length in slab] == [len(text) for text in texts]
    assert all(sum(slab) <= most_characters or len(slab) == 1 for slab in slabs)
    assert all(sum(one) + other[0] > most_characters for one, other in pairwise(slabs))


def test_a_long_text_is_cut_at_the_limit(tiny: Bundle) -> None:
    predictor = Predictor(tiny, threads=1)
    limit = tiny.max_tokens - 2
    long = "market " * limit + "lawsuit fraud " * 100
    assert same(predictor.predict([long]), predictor.predict(["market " * limit]))


def test_a_long_text_in_chunks_is_read_to_its_end(tiny: Bundle) -> None:
    predictor = Predictor(tiny, threads=1, long_texts="chunks")
    calm, bad = "market " * 40, "market " * 40 + "lawsuit fraud " * 10
    tables = predictor.predict([calm, bad, "market"]).probabilities["sentiment"]
    assert tables[1, 0] > tables[0, 0]
    assert tables.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert same(predictor.predict(["market"]), Predictor(tiny, threads=1).predict(["market"]))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("market " * 24 + "lawsuit fraud " * 20, {"lawsuit", "fraud"}),
        ("lawsuit fraud " * 10 + "market " * 20, {"lawsuit", "fraud"}),
        ("loss record " * 9 + "market " * 20 + "plunges " * 20, {"plunges"}),
        ("loss market market " * 6 + "market " * 6 + "loss fraud market " * 6, {"loss", "fraud"}),
    ],
)
def test_the_words_of_a_long_text_are_those_of_the_chunk_that_is_surest(
    tiny: Bundle, text: str, named: set[str]
) -> None:
    said = plain(tiny, long_texts="chunks").predict([text])
    assert said.probabilities["sentiment"][0].argmax() == 0
    assert set(said.words[0]) == named


def test_of_chunks_that_are_equally_sure_the_first_has_the_words(tiny: Bundle) -> None:
    predictor = plain(tiny, long_texts="chunks")
    chunks: list[int] = []
    words = predictor._encoder.words
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor._encoder, "words", lambda text, chunk: chunks.append(chunk) or words(text, chunk))
        predictor.predict(["fraud " * 60, "fraud"])
    assert chunks == [0, 0]


@settings(max_examples=40)
@given(batches)
def test_chunked_texts_score_alone_as_in_a_batch(tiny: Bundle, texts: list[str]) -> None:
    predictor = plain(tiny, threads=2, long_texts="chunks")
    together = predictor.predict(texts)
    for row, text in enumerate(texts[:4]):
        assert same(predictor.predict([text]), rows_of(together, [row]))


def test_it_counts_tokens_and_padding(tiny: Bundle) -> None:
    predictor = Predictor(tiny, threads=1)
    predictor.predict(["market today the"])
    assert (predictor.stats.tokens, predictor.stats.padded_tokens, predictor.stats.batches) == (5, 6, 1)


def test_warming_up_leaves_scores_as_they_were(tiny: Bundle) -> None:
    predictor = Predictor(tiny, threads=2)
    before = predictor.predict(["record profit"])
    counted = replace(predictor.stats)
    predictor.warm_up()
    assert predictor.stats == counted
    assert same(predictor.predict(["record profit"]), before)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task(name="mood", labels=("a", "b", "c"), output="mood"), r"no output 'mood' for task 'mood'"),
        (Task(name="topic", labels=("a", "b"), output="topic"), r"task 'topic' has 2 labels"),
    ],
)
def test_a_graph_that_does_not_answer_the_tasks_is_refused(tmp_path: Path, task: Task, message: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "odd", tasks=(TASKS[0], task))
    with pytest.raises(BundleError, match=message):
        Predictor(bundle)


def test_a_tokenizer_that_is_not_one_is_refused(bundle_dir: Path) -> None:
    from tests.models.test_bundle import seal

    (bundle_dir / "tokenizer.json").write_text('{"model": 1}')
    seal(bundle_dir, "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a tokenizer"):
        Predictor(Bundle.load(bundle_dir))


def test_a_model_that_onnxruntime_cannot_load_is_refused(bundle_dir: Path) -> None:
    import onnx

    from tests.models.test_bundle import seal

    empty = onnx.helper.make_model(
        onnx.helper.make_graph([onnx.helper.make_node("Nonsense", ["x"], ["y"])], "g", [], [])
    )
    (bundle_dir / "model.onnx").write_bytes(empty.SerializeToString())
    seal(bundle_dir, "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded"):
        Predictor(Bundle.load(bundle_dir))


STREET = """shares fell rose after the quarter results beat missed guidance lawsuit $ACME Acme Corp. profit warning
12% dividend cut central bank raises rates oil drops analyst upgrades to buy merger talks CEO resigns ! ?"""
ONE_TOKEN_EACH = STREET.split()[:10]
plausible = st.lists(st.sampled_from(STREET.split()) | st.text(max_size=8), max_size=50).map(" ".join)


@settings(max_examples=15)
@given(st.lists(plausible, min_size=1, max_size=16), st.randoms(use_true_random=False))
def test_the_shipped_bundle_is_batch_invariant(
    shipped_predictors: tuple[Predictor, Predictor], texts: list[str], shuffle: random.Random
) -> None:
    together, narrow = shipped_predictors
    expected = together.predict(texts)
    order = list(range(len(texts)))
    shuffle.shuffle(order)
    assert same(narrow.predict([texts[row] for row in order]), rows_of(expected, order))
    assert same(together.predict([texts[order[0]]]), rows_of(expected, [order[0]]))


@settings(max_examples=4)
@example(words=6, seed=0)
@given(words=st.integers(2, 60), seed=st.integers(0, 2**32 - 1))
def test_the_shipped_bundle_is_batch_invariant_in_full_batches(
    shipped_predictors: tuple[Predictor, Predictor], words: int, seed: int
) -> None:
    together, narrow = shipped_predictors
    rng = random.Random(seed)
    count = 2 * together.threads * together.max_batch_tokens // (words + 2)
    texts = [" ".join(rng.choices(ONE_TOKEN_EACH, k=words + rng.randint(0, 1))) for _ in range(count)]
    runs, tokens = together.stats.batches, together.stats.padded_tokens
    expected = together.predict(texts)
    runs, tokens = together.stats.batches - runs, together.stats.padded_tokens - tokens
    assert tokens / runs > together.max_batch_tokens / 2
    order = rng.sample(range(count), min(count, 160))
    assert same(narrow.predict([texts[row] for row in order]), rows_of(expected, order))
    for row in order[:5]:
        assert same(together.predict([texts[row]]), rows_of(expected, [row]))
