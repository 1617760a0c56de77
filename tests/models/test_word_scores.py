"""The words that are named for nothing are those that the label hangs on."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle import Bundle, BundleError, write_manifest
from models.explain import erased
from models.model_set import ModelSet
from models.predictor import Predictor
from models.word_scores import LEAST_SHARE, WORDS, heaviest_words
from models.word_scores_fit import is_better
from tests.models.tiny_bundle import NEGATIVE, write_tiny_bundle

OWN = Path(__file__).parents[2] / "models" / "data"

written = st.sampled_from(["fraud", "Fraud", "the", "loss", "99", "record", "亏", "probe"])


@given(st.lists(st.tuples(written, st.floats(-5, 5, width=32))))
def test_heaviest_first_each_once_and_none_that_is_light_or_speaks_against(words: list[tuple[str, float]]) -> None:
    spans, text = [], ""
    for place, (word, _) in enumerate(words):
        spans.append((len(text), len(text) + len(word), [place]))
        text += f"{word} "
    named = heaviest_words(text, spans, np.array([weight for _, weight in words], np.float32))
    best: dict[str, float] = {}
    for word, weight in words:
        best[word.casefold()] = max(weight, best.get(word.casefold(), -9.0))
    weights = [best[word.casefold()] for word in named]
    assert weights == sorted(weights, reverse=True)
    assert len({word.casefold() for word in named}) == len(named) <= WORDS
    assert not {"the", "99"} & set(named)
    assert all(weight > 0 and weight >= LEAST_SHARE * max(weight for _, weight in words) - 1e-6 for weight in weights)


def test_tickers_users_and_tokens_beyond_the_limit_are_not_named() -> None:
    text = "$TLYB @someone fraud beyond"
    spans = [(1, 5, [0]), (7, 14, [1]), (15, 20, [2]), (21, 27, [3])]
    assert heaviest_words(text, spans, np.array([9, 9, 9], np.float32)) == ("fraud",)


@pytest.mark.parametrize(
    ("named", "others"), [(0.0, 0.0), (-0.01, -0.02), (-0.2, -0.11), (0.1, 0.06), (0.0007, -0.0001)]
)
def test_words_that_cost_nothing_or_hardly_more_than_others_are_not_worth_naming(named: float, others: float) -> None:
    assert not is_better(named, others)
    assert is_better(0.3, max(others, 0.05))


def test_only_negative_texts_have_words_and_they_are_the_grim_ones(predictor: Predictor) -> None:
    found = predictor.predict(["The company reports fraud and a lawsuit", "record profit", "", "fraud"]).words
    assert set(found[0]) == {"fraud", "lawsuit"}
    assert found[1:] == [(), (), ("fraud",)]


def test_models_side_by_side_give_each_text_the_words_of_its_own(tmp_path: Path) -> None:
    first = Predictor(write_tiny_bundle(tmp_path / "one"), threads=1)
    other = Predictor(write_tiny_bundle(tmp_path / "two", seed=5, languages=("zh",)), threads=1)
    texts = [f"{word} today" for word in NEGATIVE]
    routes = np.array([0, 1, 0, 1, 1], np.int32)
    together = ModelSet([first, other]).predict(texts, routes)
    of = (first, other)
    alone = [of[route].predict([text]).words[0] for text, route in zip(texts, routes.tolist(), strict=True)]
    assert list(together.words) == alone
    assert together.part(1, 3).words == together.words[1:3]


def test_a_bundle_without_word_scores_names_none(tiny: Bundle, tmp_path: Path) -> None:
    plain = write_tiny_bundle(tmp_path / "plain")
    plain = write_manifest(plain.path, msgspec.structs.replace(plain.manifest, word_scores=None))
    assert Predictor(plain, threads=1).predict(["fraud"]).words == [()]
    assert plain.version_id != tiny.version_id


@pytest.mark.parametrize(
    ("change", "says"),
    [({"output": "elsewhere"}, "elsewhere"), ({"label": "angry"}, "angry"), ({"task": "mood"}, "mood")],
)
def test_word_scores_that_do_not_fit_are_refused_by_name(bundle_dir: Path, change: dict[str, str], says: str) -> None:
    manifest = Bundle.load(bundle_dir).manifest
    assert manifest.word_scores is not None
    changed = msgspec.structs.replace(manifest.word_scores, **change)
    with pytest.raises(BundleError, match=says):
        Predictor(write_manifest(bundle_dir, msgspec.structs.replace(manifest, word_scores=changed)))


def test_taking_out_the_words_it_names_changes_the_shipped_model_far_more_than_others(
    shipped_predictors: tuple[Predictor, Predictor],
) -> None:
    wide, narrow = shipped_predictors
    lines = (line for file in sorted(OWN.glob("own-*.jsonl")) for line in file.read_text(encoding="utf-8").splitlines())
    rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows if row["label"] == "negative"][::12]
    whole = wide.predict(texts)
    assert narrow.predict(texts[::-1]).words[::-1] == whole.words
    rng = np.random.default_rng(3)
    without_named, without_others, before = [], [], []
    for text, words, row in zip(texts, whole.words, whole.probabilities["sentiment"], strict=True):
        spans = wide.word_spans(text)
        named = [span for span in spans if text[slice(*span)] in words]
        others = [span for span in spans if span not in named]
        if not named or len(others) < len(named):
            continue
        before.append(float(row[0]))
        without_named.append(erased(text, named))
        chosen = sorted(rng.permutation(len(others))[: len(named)].tolist())
        without_others.append(erased(text, [others[place] for place in chosen]))
    assert len(before) > 60
    said = wide.predict([*without_named, *without_others]).probabilities["sentiment"][:, 0]
    lost_named, lost_others = np.mean(before) - said[: len(before)].mean(), np.mean(before) - said[len(before) :].mean()
    assert lost_named > 0.3
    assert lost_named > 2.5 * lost_others
