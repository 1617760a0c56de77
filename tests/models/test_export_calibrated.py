"""The calibration error that a card states is of texts that the calibration was not fitted on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from tests.models.training import needs_training

needs_training()

from models import calibrate
from models.bundle import write_manifest
from models.calibration import fit_calibration
from models.export import _calibrated
from models.labelled import Labelled
from models.predictor import Predictor
from models.probabilities import Calibration, expected_calibration_error
from models.robustness import typos
from models.training.run import HeldBack
from tests.models.tiny_bundle import NEGATIVE, PLAIN, POSITIVE, TASKS, write_tiny_bundle

pytestmark = pytest.mark.train


class Held(NamedTuple):
    """What of a run decides about calibration."""

    held_back: tuple[HeldBack, ...]
    recipe: Any = None


def test_validation_texts_are_stated_by_halves_and_the_bundle_is_calibrated_on_all(tmp_path: Path) -> None:
    plain = tuple(msgspec.structs.replace(task, **Calibration()._asdict()) for task in TASKS)
    bundle = write_tiny_bundle(tmp_path / "tiny", tasks=plain)
    rng = np.random.default_rng(4)
    texts = [" ".join(rng.choice([*NEGATIVE, *POSITIVE, *PLAIN], 6)) for _ in range(150)]
    said = Predictor(bundle).predict(texts).of_all("sentiment").argmax(axis=1)
    truth = np.where(rng.random(150) < 0.6, said, rng.integers(0, 3, 150))
    rows = [
        HeldBack("sentiment", source, "validation", label, text)
        for source, part in (("one", slice(50)), ("two", slice(50, None)))
        for text, label in zip(texts[part], truth[part].tolist(), strict=True)
    ]
    model: Any = Held((*rows, HeldBack("sentiment", "three", "measuring", 0, "fraud")))
    found = _calibrated(bundle.manifest, bundle.path, model)
    wanted = calibrate.fit(bundle, Labelled(texts, truth), "sentiment")
    assert found.tasks[0].calibration == pytest.approx(wanted.calibration, rel=1e-3)
    assert [metric.data for metric in found.metrics] == [
        "one (held back; calibrated on, by halves)",
        "two (held back; calibrated on, by halves)",
        "three (never trained on)",
    ]
    whole: Any = Held(tuple(msgspec.structs.replace(row, source="all") for row in rows))
    (metric,) = _calibrated(bundle.manifest, bundle.path, whole).metrics
    assert metric.ece == pytest.approx(wanted.after.ece, abs=1e-3)
    written = write_manifest(bundle.path, msgspec.structs.replace(bundle.manifest, tasks=found.tasks))
    stated = Predictor(written).predict(texts).of_all("sentiment")
    assert metric.ece != pytest.approx(expected_calibration_error(stated, truth), abs=1e-3)


def test_a_calibration_with_typos_is_fitted_on_texts_with_and_without(tmp_path: Path) -> None:
    plain = tuple(msgspec.structs.replace(task, **Calibration()._asdict()) for task in TASKS)
    bundle = write_tiny_bundle(tmp_path / "tiny", tasks=plain)
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice([*NEGATIVE, *POSITIVE, *PLAIN], 12)) for _ in range(300)]
    predictor = Predictor(bundle)
    said = predictor.predict(texts).of_all("sentiment")
    truth = np.where(rng.random(300) < 0.8, said.argmax(axis=1), rng.integers(0, 3, 300))
    rows = [
        HeldBack("sentiment", "all", "validation", label, text)
        for text, label in zip(texts, truth.tolist(), strict=True)
    ]
    settings = SimpleNamespace(calibration_typos=0.3, tasks=())
    model: Any = Held(tuple(rows), settings)
    manifest = _calibrated(bundle.manifest, bundle.path, model)
    found = manifest.tasks[0].calibration
    noisy = [*texts, *(typos(text, share=0.3) for text in texts)]
    logits, answers = np.log(predictor.predict(noisy).of_all("sentiment")), np.tile(truth, 2)
    wanted = fit_calibration(logits, answers, exponent_texts=400)
    assert found == pytest.approx(wanted, rel=1e-3)
    second = calibrate.second_half(texts)  # a copy stays in the half of its text
    apart = calibrate.by_halves(logits, answers, np.tile(second, 2), exponent_texts=0)[:300]
    assert manifest.metrics[0].ece == pytest.approx(expected_calibration_error(apart, truth), abs=1e-3)
    few: Any = Held(tuple(rows[:150]), settings)
    assert _calibrated(bundle.manifest, bundle.path, few).tasks[0].exponent == 1.0
    assert found != pytest.approx(fit_calibration(np.log(said), truth), rel=1e-2)
