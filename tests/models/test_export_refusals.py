"""A Hugging Face directory that would make a wrong bundle makes none, and the reason is said in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny_model import write_classifier, write_encoder
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

TEXTS = ["Brennholt Steel cuts its guidance", "Orders at Castellan Pumps rise", "the annual meeting is on Tuesday"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("classifier")
    write_classifier(directory, TEXTS, ["up", "down", "flat"])
    return directory


def exported(source: Path, destination: Path, *more: str) -> Any:
    texts = destination.with_name("texts.txt")
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    return bearwire("models", "export", str(source), "-o", str(destination), "--texts", str(texts), *more)


def edit(directory: Path, **changes: object) -> None:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")


def cut(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def hide_code(directory: Path) -> None:
    (directory / "evil.py").write_text("raise SystemExit('code of a model ran')", encoding="utf-8")
    code = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
    edit(directory, model_type="strange", auto_map=code)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "cannot be loaded.*SafetensorError"),
        (hide_code, "cannot be loaded.*no code of its own"),
        (lambda directory: edit(directory, problem_type="multi_label_classification"), "multi_label_classification"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "has no tokenizer.json"),
    ],
    ids=["truncated", "code of its own", "several labels at once", "no tokenizer"],
)
def test_what_cannot_be_a_bundle_says_why(
    damage: Callable[[Path], object], reason: str, classifier: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(classifier, source)
    damage(source)
    assert_refused(exported(source, tmp_path / "bundle"), reason, tmp_path)


def test_an_encoder_without_a_trained_head_is_not_given_a_random_one(tmp_path: Path) -> None:
    write_encoder(tmp_path / "source", TEXTS)
    assert_refused(exported(tmp_path / "source", tmp_path / "bundle"), "no weights for .*classifier", tmp_path)


def test_a_model_of_one_number_is_no_classifier(tmp_path: Path) -> None:
    write_classifier(tmp_path / "source", TEXTS, ["score"])
    assert_refused(exported(tmp_path / "source", tmp_path / "bundle"), "a model of 1 label and", tmp_path)


def test_a_task_needs_a_name_without_spaces(classifier: Path, tmp_path: Path) -> None:
    assert_refused(exported(classifier, tmp_path / "bundle", "--task", "my mood"), "--task 'my mood' is no", tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "profit falls\nBénéfice en hausse\n".encode("latin-1"),
            r"odd\.txt, line 2: expected UTF-8, found the byte 0xe9",
        ),
        (b"\n \n", r"odd\.txt has no texts"),
    ],
)
def test_texts_to_compare_on_are_lines_of_utf_8(content: bytes, reason: str, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(content)
    result = exported(classifier, tmp_path / "bundle", "--texts", str(tmp_path / "odd.txt"))
    (tmp_path / "odd.txt").unlink()
    assert_refused(result, reason, tmp_path)


def assert_refused(result: Any, reason: str, directory: Path) -> None:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert re.search(f"no bundle was written: .*{reason}", result.output, re.DOTALL), result.output
    assert {path.name for path in directory.iterdir()} <= {"source", "texts.txt"}
