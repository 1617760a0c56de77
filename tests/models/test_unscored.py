"""A text that the model overflows on is reported as such, and spoils nothing for the texts beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, BundleError
from models.calibrate import fit
from models.compare import compare
from models.explain import explain
from models.labelled import Labelled
from models.model_set import ModelSet
from models.predictor import Predictor
from models.probabilities import not_finite, softmax
from models.shadow import Agreement, Shadow, ShadowQueue
from models.verify import verify_predictor
from tests.models.tiny_bundle import TASKS, write_tiny_bundle
from tests.shell.commands import bearwire

GOOD = ["record profit", "the company settles a lawsuit", "", "loss", "earnings beats guidance, shares soars!"]
BAD = "fraud in court"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("odd") / "tiny", version="odd", overflowing="court")


@pytest.mark.parametrize("entries", [0, 100])
@pytest.mark.parametrize("length", [3, 60])
def test_it_is_reported_alone_and_among_others_which_get_what_they_get_without_it(
    odd: Bundle, tiny: Bundle, entries: int, length: int
) -> None:
    bad = " ".join([BAD] * length)
    predictor = Predictor(odd, threads=1, cache_entries=entries, long_texts="chunks")
    expected = Predictor(tiny, cache_entries=0).predict(GOOD)
    for _ in range(2):
        alone = predictor.predict([bad])
        assert (alone.unscored.tolist(), alone.words) == ([True], [()])
        found = predictor.predict([bad, *GOOD, BAD])
        assert found.unscored.tolist() == [True, *[False] * len(GOOD), True]
        assert found.words == [(), *expected.words, ()]
        for task, table in expected.probabilities.items():
            assert np.array_equal(found.probabilities[task][1:-1], table)
    assert predictor.predict(GOOD).unscored.tolist() == [False] * len(GOOD)
    assert predictor.predict([]).unscored.tolist() == []


def test_a_set_of_models_reports_it_for_whichever_model_it_was(odd: Bundle, tiny: Bundle) -> None:
    models = ModelSet([Predictor(tiny, threads=1), Predictor(odd, threads=1)])
    answer = models.predict([BAD, BAD, "profit"], np.array([0, 1, 1], np.int32))
    assert answer.unscored.tolist() == [False, True, False]
    assert answer.part(1, 3).unscored.tolist() == [True, False]
    left = answer.only(np.array([0, 2]))
    assert not left.unscored.any()
    assert np.array_equal(left.probabilities["topic"], answer.probabilities["topic"][[0, 2]])


def test_one_task_without_numbers_is_enough() -> None:
    tables = [np.zeros((3, 2), np.float32), np.array([[0, 1, 0], [0, np.nan, 1], [0, 0, 0]], np.float32)]
    assert not_finite(tables).tolist() == [False, True, False]


@pytest.mark.filterwarnings("error")
def test_infinite_logits_are_no_probabilities_and_no_warning() -> None:
    rows = softmax(np.array([[np.inf, 0, 0], [np.nan, 0, 0], [0, -np.inf, 0]], np.float32), 1.5, 1.2)
    assert np.isfinite(rows).all(axis=1).tolist() == [False, False, True]


def test_whoever_needs_every_text_is_told_which_has_none(odd: Bundle, tiny: Bundle) -> None:
    predictor = Predictor(odd, cache_entries=0)
    rows = Labelled(["profit", BAD], np.array([2, 0]))
    told = "1 of 2 texts .* not numbers, first text 2; export it in a higher precision"
    with pytest.raises(BundleError, match=told):
        compare(Predictor(tiny, cache_entries=0), predictor, rows, "sentiment")
    many = Labelled([*(f"profit {number}" for number in range(40)), BAD], np.array([2] * 40 + [0]))
    with pytest.raises(BundleError, match="1 of 41 texts"):
        fit(odd, many, "sentiment")
    with pytest.raises(BundleError, match="not numbers"):
        explain(predictor, BAD, "sentiment")


def test_the_commands_say_so_in_one_line(odd: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(f'{{"text":"profit","label":"positive"}}\n{{"text":"{BAD}","label":"negative"}}\n')
    for arguments in (("evaluate", str(odd.path), "--data", str(data)), ("explain", BAD, "--bundle", str(odd.path))):
        result = bearwire("models", *arguments)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("bearwire: the model gives ")


def test_a_bundle_that_overflows_on_words_that_are_tried_does_not_verify(tmp_path: Path) -> None:
    problems = verify_predictor(Predictor(write_tiny_bundle(tmp_path / "tiny", overflowing="the"), threads=1))
    assert problems == [f"task {task.name!r} gives probabilities that are not numbers" for task in TASKS]


@pytest.mark.parametrize("odd_serves", [False, True])
def test_a_shadow_is_compared_on_the_other_texts(odd: Bundle, tiny: Bundle, odd_serves: bool) -> None:
    served, candidate = (odd, tiny) if odd_serves else (tiny, odd)
    queue = ShadowQueue(Shadow(Predictor(candidate, threads=1), Predictor(served, threads=1).labels))
    texts = [BAD, *GOOD]
    queue.offer(texts, Predictor(served, threads=1).predict(texts).probabilities)
    queue.close()
    assert queue.shadow.agreement == dict.fromkeys(("sentiment", "topic"), Agreement(len(GOOD), len(GOOD), 0.0))
    assert (queue.skipped, queue.failure) == (1, None)
