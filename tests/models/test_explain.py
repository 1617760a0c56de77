"""An explanation points at the words that the probability hangs on."""

from __future__ import annotations

import numpy as np
import pytest

from models.bundle import Bundle
from models.explain import WordWeight, explain, explain_many, strongest
from models.predictor import Predictor
from models.word_scores_fit import add_word_scores

TEXT = "The company says fraud, in the market today."


def test_the_deciding_word_weighs_most(predictor: Predictor) -> None:
    weights = explain(predictor, TEXT, "sentiment", "negative")
    assert strongest(weights, 1)[0].word == "fraud"


def test_words_lie_where_they_say_and_punctuation_is_left_out(predictor: Predictor) -> None:
    weights = explain(predictor, TEXT, "sentiment", "negative")
    assert [word.word for word in weights] == ["The", "company", "says", "fraud", "in", "the", "market", "today"]
    assert all(TEXT[word.start : word.end] == word.word for word in weights)


def test_two_words_that_say_the_same_both_count(predictor: Predictor) -> None:
    weights = explain(predictor, "market fraud lawsuit today", "sentiment", "negative")
    assert {word.word for word in strongest(weights, 2)} == {"fraud", "lawsuit"}


def test_without_a_label_it_explains_what_the_model_chose(predictor: Predictor) -> None:
    assert explain(predictor, "record profit", "sentiment") == explain(
        predictor, "record profit", "sentiment", "positive"
    )


def test_several_texts_in_one_pass_get_what_each_gets_alone(predictor: Predictor) -> None:
    texts = [TEXT, "", "profit", "公司 profit", "!!!"]
    assert explain_many(predictor, texts, "topic") == [explain(predictor, text, "topic") for text in texts]


def test_what_the_model_does_not_see_weighs_on_no_word(predictor: Predictor) -> None:
    seen = "record profit, " + "the company says " * 6 + "today"
    unseen = " fraud lawsuit fraud lawsuit"
    assert explain(predictor, seen + unseen, "sentiment") == explain(predictor, seen, "sentiment")
    assert explain(predictor, seen[: -len("today")] + unseen, "sentiment") != explain(predictor, seen, "sentiment")


def test_words_are_fitted_to_what_the_model_sees_of_texts(
    predictor: Predictor, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: list[str] = []

    def stop(predictor: Predictor, texts: list[str], task: str, label: str) -> None:
        explained.extend(texts)
        raise InterruptedError

    monkeypatch.setattr("models.word_scores_fit._last_hidden", lambda *_: "hidden")
    monkeypatch.setattr("models.word_scores_fit.explain_many", stop)
    seen = "fraud, " + "the company says " * 6 + "today in"
    with pytest.raises(InterruptedError):
        add_word_scores(tiny, [seen + " record profit"] * 40, task="sentiment", label="negative", say=str)
    assert set(explained) == {seen}


def test_chinese_characters_are_words_of_their_own(predictor: Predictor) -> None:
    words = [word.word for word in explain(predictor, "公司 profit", "sentiment", "positive")]
    assert words == ["公", "司", "profit"]


def test_explaining_leaves_the_cache_alone(predictor: Predictor) -> None:
    before = (predictor.stats.cache_hits, predictor.stats.cache_misses)
    explain(predictor, "a text that nobody else sends", "sentiment")
    assert (predictor.stats.cache_hits, predictor.stats.cache_misses) == before


def test_only_words_that_speak_for_the_label_are_strongest() -> None:
    words = [WordWeight("a", 0, 1, -1.0), WordWeight("b", 2, 3, 0.5), WordWeight("c", 4, 5, 2.0)]
    assert [word.word for word in strongest(words)] == ["c", "b"]


@pytest.mark.parametrize(("task", "label"), [("mood", None), ("sentiment", "angry")])
def test_unknown_tasks_and_labels_are_refused(predictor: Predictor, task: str, label: str | None) -> None:
    with pytest.raises(ValueError, match=r"no (task|label)"):
        explain(predictor, TEXT, task, label)


def without(text: str, words: list[WordWeight]) -> str:
    for word in sorted(words, key=lambda word: -word.start):
        text = text[: word.start] + text[word.end :]
    return text


NEWS = [
    "Halvorsen Marine cut its full-year guidance after a weak second quarter and warned of further job losses.",
    "Shares of Brightmoor Foods jumped after the company beat earnings estimates and raised its dividend.",
    "Regulators opened an investigation into Castellan Bank over alleged accounting fraud, sources said.",
    "Orrin Solar wins a record order worth 400 million from a utility in Spain, its largest ever.",
    "Talvex Pharma plunges as its lead drug fails a late-stage trial; analysts slash their price targets.",
    "Norwick Steel reported higher profit and better margins thanks to strong demand from carmakers.",
    "Delmore Airlines files for bankruptcy protection after fuel costs soar and bookings collapse.",
    "Quillon Software upgraded to buy at a large broker on strong cloud growth and improving cash flow.",
    "Harrow Logistics said on Tuesday that it missed its revenue target for the third quarter of this year.",
    "Bellwick Energy said after a meeting of its board that it would raise its dividend by a tenth from May.",
    "A court in the north of the country has fined Stanmore Chemicals over a spill in the river two years ago.",
    "Ferrant Motors told its dealers in a letter on Friday that it recalls one of its vans from last year.",
    "In a statement to the exchange this morning Ostrava Mills said that it will close two plants in the north.",
    "Pinecrest Software, which sells to schools and hospitals, beat forecasts with its results for the year.",
    "Lindqvist Foods told investors at its meeting in the capital that sales in its home market fell in June.",
    "Marlow Retail said that it has won approval from the authorities for the shops that it plans in the south.",
]


def test_removing_the_top_words_moves_the_shipped_model_more_than_random_words(
    shipped_predictors: tuple[Predictor, Predictor],
) -> None:
    predictor = shipped_predictors[0]
    rng = np.random.default_rng(7)
    table = predictor.predict(NEWS).probabilities["sentiment"]
    labels = table.argmax(axis=1)
    top_drop, random_drop = [], []
    for row, (text, words) in enumerate(zip(NEWS, explain_many(predictor, NEWS, "sentiment"), strict=True)):
        picks = [[words[at] for at in rng.choice(len(words), 3, replace=False)] for _ in range(10)]
        variants = [without(text, strongest(words, 3)), *(without(text, pick) for pick in picks)]
        left = predictor.predict(variants).probabilities["sentiment"][:, labels[row]]
        top_drop.append(table[row, labels[row]] - left[0])
        random_drop.append(float((table[row, labels[row]] - left[1:]).mean()))
    assert np.mean(top_drop) > 2 * np.mean(random_drop) + 0.05
    assert np.mean(np.array(top_drop) > np.array(random_drop)) >= 0.75
