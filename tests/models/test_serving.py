"""A new model takes over between two batches, and a bad one leaves the old in service."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, BundleError, Task
from models.predictor import Predictor
from models.serving import ModelService
from models.shadow import Shadow
from tests.models.tiny_bundle import TASKS, write_tiny_bundle


def make(bundle: Bundle) -> Predictor:
    return Predictor(bundle, threads=1)


def test_a_swap_changes_the_model_and_its_version(tiny: Bundle, tmp_path: Path) -> None:
    service = ModelService(tiny, make)
    successor = write_tiny_bundle(tmp_path / "next", version="2", seed=1)
    assert service.predict(["profit"]).version_id == tiny.version_id
    assert service.swap(successor.path) == successor.version_id
    after = service.predict(["profit"])
    assert after.version_id == successor.version_id
    assert np.array_equal(
        after.predictions.probabilities["topic"], make(successor).predict(["profit"]).probabilities["topic"]
    )


@pytest.mark.parametrize("damage", ["model.onnx", "tokenizer.json", "bundle.json"])
def test_a_damaged_bundle_leaves_the_old_model(tiny: Bundle, bundle_dir: Path, damage: str) -> None:
    service = ModelService(tiny, make)
    (bundle_dir / damage).write_bytes(b"no")
    with pytest.raises(BundleError, match=damage):
        service.swap(bundle_dir)
    assert service.predict(["profit"]).version_id == tiny.version_id


def test_a_model_with_other_labels_leaves_the_old_model(tiny: Bundle, tmp_path: Path) -> None:
    service = ModelService(tiny, make)
    other = write_tiny_bundle(tmp_path / "b", tasks=(TASKS[0], Task("topic", ("X", "Y", "Z"), "topic")))
    with pytest.raises(BundleError, match="restart the worker"):
        service.swap(other.path)
    assert service.predictor.version_id == tiny.version_id


def test_every_batch_is_scored_once_by_one_model_while_models_change(tiny: Bundle, tmp_path: Path) -> None:
    bundles = {b.version_id: b for b in (tiny, write_tiny_bundle(tmp_path / "b", version="2", seed=1))}
    texts = ["profit in court", "fraud", "market today"]
    expected = {version: make(bundle).predict(texts).probabilities for version, bundle in bundles.items()}
    service = ModelService(tiny, make)
    started = threading.Barrier(4)

    def score() -> list[str]:
        started.wait()
        versions = []
        for _ in range(60):
            predictions, version = service.predict(texts)
            for task, table in expected[version].items():
                assert np.array_equal(predictions.probabilities[task], table)
            versions.append(version)
        return versions

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(score) for _ in range(3)]
        started.wait()
        for bundle in [*bundles.values(), *bundles.values()]:
            service.swap(bundle.path)
        assert [len(run.result()) for run in running] == [60] * 3


def test_a_shadow_counts_how_far_it_agrees(tiny: Bundle, tmp_path: Path) -> None:
    served = make(tiny)
    shadow = Shadow(make(write_tiny_bundle(tmp_path / "b", seed=3)), served.labels)
    texts = ["record profit", "fraud lawsuit", "market"]
    shadow.observe(texts, served.predict(texts))
    shadow.observe(texts[:2], served.predict(texts[:2]))
    totals = shadow.agreement["sentiment"]
    assert totals.texts == 5
    assert 4 <= totals.agreed <= 5
    assert 0 < totals.difference_sum < 5


def test_a_shadow_that_is_the_same_model_agrees_fully(tiny: Bundle) -> None:
    served = make(tiny)
    shadow = Shadow(make(tiny), served.labels)
    shadow.observe(["profit"], served.predict(["profit"]))
    assert shadow.agreement["topic"].agreed == 1
    assert shadow.agreement["topic"].difference_sum == 0


def test_a_shadow_with_other_labels_is_refused(tiny: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "b", tasks=(TASKS[0], Task("topic", ("X", "Y", "Z"), "topic")))
    with pytest.raises(ValueError, match="topic"):
        Shadow(make(other), make(tiny).labels)
