"""A new model takes over between two batches, and a bad one leaves the old in service."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle, BundleError, Task
from models.model_set import ModelSet
from models.predictor import Predictor
from models.serving import ModelService
from models.shadow import Shadow, ShadowQueue
from tests.models.tiny_bundle import TASKS, write_tiny_bundle


def make(bundle: Bundle) -> Predictor:
    return Predictor(bundle, threads=1)


def alone(bundle: Bundle) -> ModelSet:
    return ModelSet([make(bundle)])


def at(path: Path) -> tuple[ModelSet, Shadow | None]:
    return alone(Bundle.load(path)), None


def test_a_swap_changes_the_model_and_its_version(tiny: Bundle, tmp_path: Path) -> None:
    service = ModelService(alone(tiny))
    successor = write_tiny_bundle(tmp_path / "next", version="2", seed=1)
    assert service.predict(["profit"]).version_id == tiny.version_id
    assert service.swap(lambda: at(successor.path)) == successor.version_id
    after = service.predict(["profit"])
    assert after.version_id == successor.version_id
    assert np.array_equal(after.probabilities["topic"], make(successor).predict(["profit"]).probabilities["topic"])


@pytest.mark.parametrize("damage", ["model.onnx", "tokenizer.json", "bundle.json"])
def test_a_damaged_bundle_leaves_the_old_model(tiny: Bundle, bundle_dir: Path, damage: str) -> None:
    service = ModelService(alone(tiny))
    (bundle_dir / damage).write_bytes(b"no")
    with pytest.raises(BundleError, match=damage):
        service.swap(lambda: at(bundle_dir))
    assert service.predict(["profit"]).version_id == tiny.version_id


def test_a_model_with_other_labels_leaves_the_old_model(tiny: Bundle, tmp_path: Path) -> None:
    service = ModelService(alone(tiny))
    other = write_tiny_bundle(tmp_path / "b", tasks=(TASKS[0], Task("topic", ("X", "Y", "Z"), "topic")))
    with pytest.raises(BundleError, match="restart the worker"):
        service.swap(lambda: at(other.path))
    assert service.models.version_id == tiny.version_id


def test_every_batch_is_scored_once_by_one_model_while_models_change(tiny: Bundle, tmp_path: Path) -> None:
    bundles = {b.version_id: b for b in (tiny, write_tiny_bundle(tmp_path / "b", version="2", seed=1))}
    texts = ["profit in court", "fraud", "market today"]
    expected = {version: make(bundle).predict(texts).probabilities for version, bundle in bundles.items()}
    service = ModelService(alone(tiny))
    started = threading.Barrier(4)

    def score() -> list[str]:
        started.wait()
        versions = []
        for _ in range(60):
            answer = service.predict(texts)
            for task, table in expected[answer.version_id].items():
                assert np.array_equal(answer.probabilities[task], table)
            versions.append(answer.version_id)
        return versions

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(score) for _ in range(3)]
        started.wait()
        for bundle in [*bundles.values(), *bundles.values()]:
            service.swap(lambda path=bundle.path: at(path))  # type: ignore[misc]
        assert [len(run.result()) for run in running] == [60] * 3


def test_a_shadow_counts_how_far_it_agrees(tiny: Bundle, tmp_path: Path) -> None:
    served = make(tiny)
    shadow = Shadow(make(write_tiny_bundle(tmp_path / "b", seed=3)), served.labels)
    texts = ["record profit", "fraud lawsuit", "market"]
    shadow.observe(texts, served.predict(texts).probabilities)
    shadow.observe(texts[:2], served.predict(texts[:2]).probabilities)
    totals = shadow.agreement["sentiment"]
    assert totals.texts == 5
    assert 4 <= totals.agreed <= 5
    assert 0 < totals.difference_sum < 5


def test_a_shadow_that_is_the_same_model_agrees_fully(tiny: Bundle) -> None:
    served = make(tiny)
    shadow = Shadow(make(tiny), served.labels)
    shadow.observe(["profit"], served.predict(["profit"]).probabilities)
    assert shadow.agreement["topic"].agreed == 1
    assert shadow.agreement["topic"].difference_sum == 0


def test_a_shadow_with_other_labels_is_refused(tiny: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "b", tasks=(TASKS[0], Task("topic", ("X", "Y", "Z"), "topic")))
    with pytest.raises(ValueError, match="topic"):
        Shadow(make(other), make(tiny).labels)


def test_a_shadow_scores_behind_the_service_and_changes_nothing(tiny: Bundle, tmp_path: Path) -> None:
    candidate = make(write_tiny_bundle(tmp_path / "b", seed=3))
    behind = ShadowQueue(Shadow(candidate, make(tiny).labels))
    service = ModelService(alone(tiny), behind)
    texts = ["record profit", "fraud lawsuit", "market"]
    answer = service.predict(texts)
    behind.close()
    assert np.array_equal(answer.probabilities["topic"], make(tiny).predict(texts).probabilities["topic"])
    assert behind.shadow.agreement["topic"].texts + behind.skipped == 3
    assert behind.skipped == 0


def test_a_shadow_that_fails_or_falls_behind_is_told_of_and_holds_nothing_back(
    tiny: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    candidate = make(tiny)
    shadow = Shadow(candidate, candidate.labels)
    held = threading.Event()
    original = candidate.predict

    def slow_then_broken(texts: list[str]) -> None:
        held.wait()
        original(texts)
        raise RuntimeError("out of memory")

    candidate.predict = slow_then_broken  # type: ignore[method-assign,assignment]
    behind = ShadowQueue(shadow, waiting=2)
    served = make(tiny).predict(["profit"]).probabilities
    for _ in range(10):
        behind.offer(["profit"], served)
    held.set()
    behind.close()
    assert behind.failure == "RuntimeError: out of memory"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and candidate.version_id in told[0] and "RuntimeError: out of memory" in told[0]
    assert behind.skipped == 10
    assert shadow.agreement["topic"].texts == 0


def flooded_shadow(tiny: Bundle, waiting: int) -> tuple[ShadowQueue, threading.Event]:
    """A shadow that stands still in its first batch until the event is set, and that was offered `waiting` more."""
    candidate = make(tiny)
    held, begun = threading.Event(), threading.Event()
    original = candidate.predict

    def slow(texts: list[str]) -> object:
        begun.set()
        held.wait()
        return original(texts)

    candidate.predict = slow  # type: ignore[method-assign,assignment]
    behind = ShadowQueue(Shadow(candidate, candidate.labels), waiting=2)
    served = make(tiny).predict(["profit"]).probabilities
    behind.offer(["profit"], served)
    begun.wait()
    for _ in range(waiting):
        behind.offer(["profit"], served)
    return behind, held


def test_texts_that_a_slow_shadow_leaves_out_while_it_compares_others_are_all_counted(tiny: Bundle) -> None:
    behind, held = flooded_shadow(tiny, 9)
    assert behind.skipped == 7
    held.set()
    behind.close()
    assert behind.shadow.agreement["topic"].texts == 3
    assert behind.skipped == 7


def test_texts_go_to_the_model_of_their_language(tiny: Bundle, tmp_path: Path) -> None:
    topics = (TASKS[0], Task("topic", ("Markets", "Courts", "Earnings"), "topic"))
    other = write_tiny_bundle(tmp_path / "b", version="2", seed=5, tasks=topics)
    both = ModelSet([make(tiny), make(other)])
    texts = ["profit in court", "fraud", "market today", "profit"]
    answer = both.predict(texts, np.array([0, 1, 0, 1], np.int32))
    labels = both.labels["topic"]
    assert labels == tuple(dict.fromkeys([*make(tiny).labels["topic"], "Markets", "Courts", "Earnings"]))
    assert answer.versions == (tiny.version_id, other.version_id)
    for row, predictor in enumerate([make(tiny), make(other)] * 2):
        own = predictor.predict([texts[row]]).probabilities
        assert np.array_equal(answer.probabilities["sentiment"][row], own["sentiment"][0])
        known = [labels.index(label) for label in predictor.labels["topic"]]
        assert np.array_equal(answer.probabilities["topic"][row, known], own["topic"][0])
        assert answer.probabilities["topic"][row].sum() == pytest.approx(1.0, abs=1e-5)


class Meeting:
    """Counts the runs that go on at one time; the first of them wait a while for more than `bound`."""

    def __init__(self, bound: int) -> None:
        self._lock = threading.Lock()
        self._too_many = threading.Barrier(bound + 1)
        self._running = self.most = 0

    def attended(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def attending(*given: Any) -> Any:
            with self._lock:
                self._running += 1
                self.most = max(self.most, self._running)
            with contextlib.suppress(threading.BrokenBarrierError):
                self._too_many.wait(timeout=0.5)
            found = run(*given)
            with self._lock:
                self._running -= 1
            return found

        return attending


def test_models_side_by_side_take_no_more_threads_than_one(tiny: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "b", version="2", seed=5)
    both = ModelSet([Predictor(bundle, threads=2, cache_entries=0, max_batch_tokens=8) for bundle in (tiny, other)])
    meeting = Meeting(bound=2)
    texts = ["profit in court", "fraud", "market today", "profit"] * 5
    routes = [np.full(len(texts), route, np.int32) for route in (0, 1)]
    expected = [both.predict(texts, each) for each in routes]
    for predictor in both.predictors:
        predictor._session.run = meeting.attended(predictor._session.run)  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as calls:
        found = list(calls.map(lambda each: both.predict(texts, each), routes))
    assert meeting.most == 2
    for said, wanted in zip(found, expected, strict=True):
        assert said.words == wanted.words
        assert all(np.array_equal(said.probabilities[task], wanted.probabilities[task]) for task in both.labels)


def test_a_model_scores_on_when_the_one_whose_threads_it_shares_is_gone(tiny: Bundle) -> None:
    left, expected = make(tiny), make(tiny).predict(["court"]).probabilities["topic"]
    ModelSet([make(tiny), left]).predict(["profit", "fraud"], np.array([0, 1], np.int32))
    gc.collect()
    assert np.array_equal(left.predict(["court"]).probabilities["topic"], expected)


@pytest.mark.parametrize("route", [0, 1])
def test_a_shadow_sees_the_texts_and_labels_of_the_route_it_stands_behind(
    tiny: Bundle, tmp_path: Path, route: int
) -> None:
    topics = (TASKS[0], Task("topic", ("Markets", "Courts", "Earnings"), "topic"))
    other = write_tiny_bundle(tmp_path / "b", version="2", seed=5, tasks=topics)
    both = ModelSet([make(tiny), make(other)])
    same = make([tiny, other][route])
    service = ModelService(both, ShadowQueue(Shadow(same, both.predictors[route].labels, route)))
    texts = ["profit in court", "fraud", "market today", "profit", "court"]
    service.predict(texts, np.array([0, 1, 0, 1, 1], np.int32))
    assert service.shadow is not None
    service.shadow.close()
    topic = service.shadow.shadow.agreement["topic"]
    assert (topic.texts, topic.agreed, topic.difference_sum) == ((2, 2, 0.0), (3, 3, 0.0))[route]


def test_a_shadow_that_is_taken_away_ends_though_batches_wait_for_it(tiny: Bundle) -> None:
    behind, held = flooded_shadow(tiny, 5)
    behind.end()
    held.set()
    behind._thread.join(30)
    assert not behind._thread.is_alive()
    assert behind.shadow.agreement["topic"].texts == 1


def test_models_side_by_side_need_the_same_tasks(tiny: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "b", tasks=(TASKS[0],))
    with pytest.raises(BundleError, match="the same tasks"):
        ModelSet([make(tiny), make(other)])
