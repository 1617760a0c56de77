"""`bearwire models calibrate`: probabilities of a finished bundle that match how often they are right."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from models.bundle import SENTIMENT_LABELS, Bundle, Metric, Task, write_manifest
from models.calibrate import fit
from models.cli import models
from models.labelled import Labelled
from models.predictor import Predictor
from models.probabilities import softmax
from tests.models.tiny_bundle import TASKS, vocabulary, write_tiny_bundle

PLAIN = (Task(name="sentiment", labels=SENTIMENT_LABELS, output="sentiment"), TASKS[1])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle as from Hugging Face: without a calibration."""
    return write_tiny_bundle(tmp_path / "old", tasks=PLAIN)


def labelled(bundle: Bundle, texts: int, temperature: float, *, seed: int = 2) -> Labelled:
    """Texts whose labels are drawn as often as the model would say under a temperature."""
    rng = np.random.default_rng(seed)
    words = [word for word in vocabulary() if word.isalpha()]
    drawn = [" ".join(rng.choice(words, size=rng.integers(3, 9))) for _ in range(texts)]
    said = Predictor(bundle, threads=1).predict(drawn).probabilities["sentiment"].astype(np.float64)
    odds = softmax(np.log(np.maximum(said, 1e-30)), temperature)
    return Labelled(drawn, np.array([rng.choice(3, p=row) for row in odds], dtype=np.int64))


def write(file: Path, rows: Labelled) -> Path:
    names = ("bad", "none", "good")
    lines = [f"{names[at]},{text}" for text, at in zip(rows.texts, rows.truth.tolist(), strict=True)]
    file.write_text("\n".join(["mood,headline", *lines]), encoding="utf-8")
    return file


COLUMNS = ("--text-column", "headline", "--label-column", "mood")
NAMES = (*COLUMNS, "--label", "bad=negative", "--label", "none=neutral", "--label", "good=positive")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(models, ["calibrate", *map(str, arguments)])


def test_the_temperature_that_made_the_labels_is_found_and_written(bundle: Bundle, tmp_path: Path) -> None:
    data = write(tmp_path / "desk.csv", labelled(bundle, 1500, 5.0))
    result = run(bundle.path, "--data", data, "-o", tmp_path / "new", *NAMES, "--version", "2")
    assert result.exit_code == 0, result.output
    new = Bundle.load(tmp_path / "new")
    assert new.version == "2" and new.version_id.partition("+")[2] != bundle.version_id.partition("+")[2]
    assert new.task("sentiment").temperature == pytest.approx(5.0, rel=0.15)
    assert new.task("topic") == bundle.task("topic")
    found = new.manifest.metrics[-1]
    assert (found.task, found.data, found.rows) == ("sentiment", "desk.csv (calibrated on, by halves)", 1500)
    assert found.ece is not None and f"{found.ece:.4f} after" in result.output
    assert found.ece < 0.06
    assert [(entry.name, entry.use) for entry in new.manifest.data][-1] == ("desk.csv", "validation")
    assert json.loads(run_evaluate(tmp_path / "new", data).output)["ece"] < 0.06
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new", "desk.csv"}


@pytest.mark.parametrize(("texts", "has_one"), [(300, False), (900, True)])
def test_an_exponent_is_written_only_where_the_halves_have_measured_one(
    bundle: Bundle, texts: int, has_one: bool
) -> None:
    assert (fit(bundle, labelled(bundle, texts, 5.0), "sentiment").calibration.exponent != 1.0) == has_one


def run_evaluate(bundle: Path, data: Path) -> Result:
    return CliRunner().invoke(models, ["evaluate", str(bundle), "--data", str(data), *NAMES, "--json"])


def test_what_is_said_to_be_reached_was_not_fitted_on(bundle: Bundle) -> None:
    """With few texts the halves are further from calibrated than the texts that the calibration itself was fitted on:
    the figure must be that of the halves."""
    rows = labelled(bundle, 60, 5.0)
    fitted = fit(bundle, rows, "sentiment")
    said = Predictor(bundle, threads=1).predict(rows.texts).probabilities["sentiment"].astype(np.float64)
    logits = np.log(np.maximum(said, 1e-30))
    seen = softmax(logits, *fitted.calibration)[np.arange(60), rows.truth]
    assert fitted.surprise_after > -np.log(seen).mean()


def test_calibration_errors_of_before_are_taken_out(bundle: Bundle, tmp_path: Path) -> None:
    old = [
        Metric(task=task, data="held back", rows=9, accuracy=0.5, macro_f1=0.5, ece=0.4)
        for task in ("sentiment", "topic")
    ]
    write_manifest(bundle.path, msgspec.structs.replace(bundle.manifest, metrics=tuple(old)))
    data = write(tmp_path / "desk.csv", labelled(bundle, 300, 5.0))
    result = run(bundle.path, "--data", data, "-o", tmp_path / "new", *NAMES)
    assert result.exit_code == 0, result.output
    metrics = Bundle.load(tmp_path / "new").manifest.metrics
    assert [(metric.task, metric.ece) for metric in metrics[:2]] == [("sentiment", None), ("topic", 0.4)]


def test_what_cannot_be_fitted_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    right = Predictor(bundle, threads=1)
    many = labelled(bundle, 80, 1.0)
    sure = right.predict(many.texts).probabilities["sentiment"].argmax(axis=1).astype(np.int64)
    for rows, said in (
        (labelled(bundle, 39, 5.0), "39 different texts are too few, 40 are needed"),
        (Labelled(["profit falls"] * 50, np.zeros(50, dtype=np.int64)), "1 different texts are too few"),
        (Labelled(many.texts, sure), "the model is right about every text"),
    ):
        result = run(bundle.path, "--data", write(tmp_path / "desk.csv", rows), "-o", tmp_path / "new", *NAMES)
        assert result.exit_code == 1 and f"no bundle was written: {said}" in result.output, result.output
        assert not (tmp_path / "new").exists()


def test_a_calibration_that_helps_nothing_is_not_written(bundle: Bundle, tmp_path: Path) -> None:
    data = write(tmp_path / "desk.csv", labelled(bundle, 1500, 5.0))
    assert run(bundle.path, "--data", data, "-o", tmp_path / "new", *NAMES).exit_code == 0
    again = run(tmp_path / "new", "--data", data, "-o", tmp_path / "newer", *NAMES)
    assert again.exit_code == 1 and "states the truth of the other half no better" in again.output
    assert not (tmp_path / "newer").exists()


@pytest.mark.parametrize("version", ["1.0 beta", "../2", "", "2\n"])
def test_a_version_that_is_none_is_found_before_anything_else(bundle: Bundle, tmp_path: Path, version: str) -> None:
    data = write(tmp_path / "desk.csv", labelled(bundle, 39, 5.0))
    result = run(bundle.path, "--data", data, "-o", tmp_path / "new", *NAMES, "--version", version)
    assert result.exit_code == 1
    assert f"no bundle was written: --version {version!r} is no name for it; use letters" in result.output


def test_what_lies_there_is_kept(bundle: Bundle, tmp_path: Path) -> None:
    data = write(tmp_path / "desk.csv", labelled(bundle, 60, 5.0))
    result = run(bundle.path, "--data", data, "-o", tmp_path, *NAMES)
    assert result.exit_code == 1 and "exists; choose another directory" in result.output
