"""Exporting a Hugging Face classifier, and every reason not to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.training import needs_training

needs_training()

import torch
from tokenizers import Tokenizer

import models.export
from models.export import export
from models.export_source import ExportError
from models.predictor import Predictor
from models.quantise import quantise_blocks
from models.training.recipe import Normalisation, RecipeError
from models.training.tokenisation import build_tokenizer
from models.verify import verify_predictor
from tests.models.tiny_model import write_classifier

pytestmark = pytest.mark.train

TEXTS = [
    "Brennholt Steel cuts its guidance after a weak quarter",
    "Orders at Castellan Pumps rise by a third",
    "Tiverton Rail holds its annual meeting on Tuesday",
    "Marlowe Foods recalls two products",
    "shares of Ostrava Glass jump on a takeover bid",
    "profit falls",
]


@pytest.fixture(scope="module")
def finbert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("finbert")
    return directory, write_classifier(directory, TEXTS, ["positive", "negative", "neutral"])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_finbert_keeps_its_answers_and_gets_our_order_of_labels(
    finbert: tuple[Path, Any], precision: Any, tmp_path: Path
) -> None:
    directory, model = finbert
    written = export(str(directory), tmp_path / "bundle", precision=precision, texts=TEXTS * 4, say=lambda _: None)
    assert written.bundle.tasks[0].name == "sentiment"
    assert written.bundle.tasks[0].labels == ("negative", "neutral", "positive")
    assert verify_predictor(Predictor(written.bundle)) == []
    said = Predictor(written.bundle).predict(TEXTS).probabilities["sentiment"]
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    for text, row in zip(TEXTS, said, strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            wanted = model(input_ids=ids).logits.softmax(dim=1)[0].numpy()[[1, 2, 0]]
        assert np.abs(row - wanted).max() < (1e-4 if precision == "fp32" else 0.05)


def test_the_licence_of_a_hugging_face_model_is_in_its_manifest_and_notice(
    finbert: tuple[Path, Any], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"precision": "fp32", "texts": TEXTS, "licence": "BSD-3-Clause"}
    bundle = export(str(finbert[0]), tmp_path / "bundle", **options, say=lambda _: None).bundle
    assert (bundle.manifest.licence, bundle.manifest.parent.licence) == ("BSD-3-Clause", "BSD-3-Clause")
    assert f"Fine-tuned from {bundle.manifest.parent.name} (BSD-3-Clause licence)." in bundle.read("NOTICE").decode()


def test_any_other_labels_stay_as_they_are(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model", TEXTS, ["spam", "ham", "unsure", "other"])
    written = export(
        str(tmp_path / "model"),
        tmp_path / "bundle",
        precision="fp32",
        task="mail",
        texts=TEXTS,
        say=lambda _: None,
    )
    assert (written.bundle.tasks[0].name, written.bundle.tasks[0].labels) == (
        "mail",
        ("spam", "ham", "unsure", "other"),
    )


def test_a_graph_that_disagrees_with_torch_is_not_written(
    finbert: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = models.export.open_source

    def lying(source: str, task: str | None, **options: Any) -> Any:
        model = real(source, task, **options)
        return model._replace(
            reference=lambda ids, mask: {name: -value for name, value in model.reference(ids, mask).items()}
        )

    monkeypatch.setattr(models.export, "open_source", lying)
    with pytest.raises(ExportError, match="another label than torch"):
        export(str(finbert[0]), tmp_path / "bundle", precision="fp32", texts=TEXTS, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_bundle_is_not_overwritten(finbert: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ExportError, match="not a bundle"):
        export(str(finbert[0]), tmp_path, texts=TEXTS, say=lambda _: None)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_pickled_weights_are_refused(finbert: tuple[Path, Any], tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((finbert[0] / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ExportError, match=r"pickled .*safe_serialization=True.*then export DIR"):
        export(str(tmp_path), tmp_path / "bundle", texts=TEXTS, say=lambda _: None)


@pytest.mark.parametrize("settings", [None, {}, {"do_lower_case": True}, {"tokenizer_class": "BertTokenizer"}])
def test_a_finbert_from_before_there_was_a_tokenizer_json_is_the_same_model(
    settings: dict[str, Any] | None, finbert: tuple[Path, Any], tmp_path: Path
) -> None:
    old = old_directory(finbert[0], tmp_path, settings)
    kept = build_tokenizer(finbert[0], Normalisation()).json
    made = build_tokenizer(old, Normalisation()).json
    for text in TEXTS:
        assert Tokenizer.from_str(made).encode(text).ids == Tokenizer.from_str(kept).encode(text).ids
    if settings is None:
        bundle = export(str(old), tmp_path / "bundle", precision="fp32", texts=TEXTS, say=lambda _: None).bundle
        assert Predictor(bundle).predict(TEXTS).probabilities["sentiment"].shape == (len(TEXTS), 3)


def test_a_vocabulary_with_capitals_keeps_them_unless_the_model_says_otherwise(
    finbert: tuple[Path, Any], tmp_path: Path
) -> None:
    old = old_directory(finbert[0], tmp_path, None)
    vocabulary = (old / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (old / "vocab.txt").write_text("\n".join([*vocabulary, "Steel"]), encoding="utf-8")
    keeping = Tokenizer.from_str(build_tokenizer(old, Normalisation()).json)
    assert keeping.encode("Steel").tokens == ["[CLS]", "Steel", "[SEP]"]
    (old / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    lowering = Tokenizer.from_str(build_tokenizer(old, Normalisation()).json)
    assert lowering.encode("Steel").tokens == ["[CLS]", "steel", "[SEP]"]


@pytest.mark.parametrize("change", [{"model_type": "roberta"}, {"tokenizer_class": "BertweetTokenizer"}])
def test_a_vocabulary_of_another_kind_is_not_taken_for_word_pieces(
    change: dict[str, str], finbert: tuple[Path, Any], tmp_path: Path
) -> None:
    old = old_directory(finbert[0], tmp_path, change)
    config = json.loads((old / "config.json").read_text(encoding="utf-8"))
    (old / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"has no tokenizer\.json, nor the vocab\.txt of a BERT"):
        build_tokenizer(old, Normalisation())


def old_directory(finbert: Path, parent: Path, settings: dict[str, Any] | None) -> Path:
    """The model with a vocab.txt in place of its tokenizer.json."""
    old = parent / "finbert"
    shutil.copytree(finbert, old)
    vocabulary = json.loads((old / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (old / "tokenizer.json").unlink()
    (old / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)), encoding="utf-8")
    if settings is not None:
        (old / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return old


@pytest.mark.parametrize("axis", [0, 1])
def test_quantised_weights_are_within_half_a_step(axis: int) -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(128, 48)).astype(np.float32)
    numbers, scales = quantise_blocks(weight, axis)
    back = (numbers * scales.astype(np.float32)).reshape(weight.shape)
    steps = np.broadcast_to(scales.astype(np.float32), numbers.shape).reshape(weight.shape)
    assert np.all(np.abs(back - weight) <= steps * 0.57)  # a scale is a float16: the largest number may be cut by 1/16


def test_a_model_of_another_language_says_so_and_is_compared_on_its_own_texts(
    finbert: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="no texts in zh"):
        export(str(finbert[0]), tmp_path / "bundle", languages=["zh"], say=lambda _: None)
    written = export(
        str(finbert[0]), tmp_path / "bundle", precision="fp32", languages=["zh"], texts=TEXTS, say=lambda _: None
    )
    assert written.bundle.languages == ("zh",)
