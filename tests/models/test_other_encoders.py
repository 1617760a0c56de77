"""Encoders of other families train, take adapters, and become bundles that score a text alone as in a batch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.bundle import Bundle
from models.predictor import Predictor
from models.training.recipe import RecipeError
from models.training.recipe_file import parse_recipe
from models.verify import verify_predictor
from tests.models.tiny_model import write_tokenizer
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

TEXTS = {
    "billing": [f"the invoice of {month} has a wrong amount" for month in ("may", "june", "july", "march", "april")],
    "login": [f"i cannot sign in on my {device}" for device in ("phone", "laptop", "tablet", "watch", "desktop")],
}
ALL = [text for texts in TEXTS.values() for text in texts]
SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
FAMILIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "distilbert": ({"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128}, ["q_lin", "v_lin"]),
    "roberta": ({**SIZES, "pad_token_id": 0}, ["query", "value"]),
    "deberta-v2": (
        {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        ["query_proj", "value_proj"],
    ),
    "electra": ({**SIZES, "embedding_size": 128}, ["query", "value"]),
    "modernbert": ({**SIZES, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)}, ["Wqkv", "Wo"]),
}


def write_base(directory: Path, family: str) -> Path:
    """A random encoder of two layers, as a Hugging Face directory."""
    import torch
    from transformers import AutoConfig, AutoModel

    words = sorted({word for text in ALL for word in re.findall(r"[a-z]+", text)})
    size = write_tokenizer(directory, words)
    torch.manual_seed(0)
    sizes, _ = FAMILIES.get(family, (SIZES, []))
    AutoModel.from_config(
        AutoConfig.for_model(family, vocab_size=size, max_position_embeddings=66, **sizes)
    ).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_dropout_is_what_the_recipe_says(family: str, tmp_path: Path) -> None:
    from torch import nn

    from models.training.network import new_classifier

    task = {"name": "intent", "labels": list(TEXTS), "sources": [{"path": "learned.jsonl"}]}
    content = {"name": "desk", "base": str(write_base(tmp_path, family)), "tasks": [task], "max_tokens": 32}
    changes = {"train_tokens": 32, "dropout": 0.37, "attention_dropout": 0.21, "head_dropout": 0.05}
    classifier, _ = new_classifier(parse_recipe({**content, **changes}))
    rates: dict[float, list[str]] = {}
    for name, module in classifier.encoder.named_modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StableDropout":
            rates.setdefault(float(getattr(module, "p", None) or module.drop_prob), []).append(name)
        own = getattr(module, "attention_dropout", None)
        if isinstance(own, float):
            rates.setdefault(own, []).append(name)
    assert set(rates) == {0.37, 0.21}, rates
    assert classifier.dropout.p == 0.05


def test_dropout_of_a_base_that_has_none_is_an_error() -> None:
    from transformers import PretrainedConfig

    from models.training.network import set_dropout

    task = {"name": "intent", "labels": list(TEXTS), "sources": [{"path": "learned.jsonl"}]}
    content = {"name": "desk", "base": "somewhere", "tasks": [task]}
    for key in ("dropout", "attention_dropout"):
        other = {"dropout": 0.0, "attention_dropout": 0.0, key: 0.1}
        with pytest.raises(RecipeError, match=f"{key}: 0.1, but the base model"):
            set_dropout(PretrainedConfig(), parse_recipe({**content, **other}))
    set_dropout(PretrainedConfig(), parse_recipe({**content, "dropout": 0.0}))


def train(base: Path, directory: Path, *, task: str = "intent", **changes: object) -> Any:
    rows = [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts]
    directory.mkdir(exist_ok=True)
    (directory / "learned.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = {
        "name": "desk",
        "base": str(base),
        "tasks": [{"name": task, "labels": list(TEXTS), "sources": [{"path": "learned.jsonl"}]}],
        "epochs": 1,
        "validation": 0.3,
        "split": "random",
        "max_tokens": 32,
        "train_tokens": 32,
        "precision": "fp32",
        **changes,
    }
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return bearwire("models", "train", str(directory / "recipe.yaml"), "-o", str(directory / "run"), "--threads", "1")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_of_another_family_becomes_a_bundle(family: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", family)
    sources = [{"path": str(tmp_path / "learned.jsonl")}]
    tasks = [{"name": "intent", "labels": list(TEXTS), "sources": sources}]
    done = train(base, tmp_path, lora={"targets": FAMILIES[family][1]}, tasks=tasks)
    assert done.exit_code == 0, done.output
    (tmp_path / "texts.txt").write_text("\n".join(ALL), encoding="utf-8")
    source, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    asked = ("models", "export", source, "-o", bundle, "--texts", str(tmp_path / "texts.txt"))
    refused = bearwire(*asked, "--task", "mood")
    assert refused.exit_code == 1 and "whose recipe names its tasks; leave --task out" in refused.output
    written = bearwire(*asked)
    assert written.exit_code == 0, written.output
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert (manifest.recipe, manifest.data[0].name) == ("desk", "learned.jsonl")
    for name in ("bundle.json", "MODEL_CARD.md", "NOTICE"):
        assert str(tmp_path) not in (tmp_path / "bundle" / name).read_text(encoding="utf-8")
    predictor = Predictor(Bundle.load(tmp_path / "bundle"), threads=1, cache_entries=0)
    assert verify_predictor(predictor) == []


def test_a_task_cannot_have_a_name_that_torch_uses(tmp_path: Path) -> None:
    done = train(write_base(tmp_path / "base", "roberta"), tmp_path, task="type")
    assert done.exit_code == 1 and "a task cannot be called 'type'" in done.output


def test_adapters_for_layers_that_are_not_there_name_those_that_are(tmp_path: Path) -> None:
    done = train(write_base(tmp_path / "base", "distilbert"), tmp_path, lora={})
    assert done.exit_code == 1
    assert "lora.targets: query, key, value, dense name no linear layer of distilbert" in done.output
    assert "k_lin, lin1, lin2, out_lin, q_lin, v_lin" in done.output


def test_layers_that_share_their_weights_cannot_be_frozen_one_by_one(tmp_path: Path) -> None:
    done = train(write_base(tmp_path / "base", "albert"), tmp_path, freeze={"layers": 1})
    assert done.exit_code == 1
    assert "freeze.layers: albert layers share their weights" in done.output


def test_layers_that_have_numbers_can_be_frozen(tmp_path: Path) -> None:
    done = train(write_base(tmp_path / "base", "modernbert"), tmp_path, freeze={"layers": 1})
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("family", "said"),
    [("deberta-v2", "is not used once for every token"), ("albert", "no part of albert is known as a layer")],
)
def test_layers_that_cannot_be_rounded_are_refused_before_anything_is_trained(
    family: str, said: str, tmp_path: Path
) -> None:
    done = train(write_base(tmp_path / "base", family), tmp_path, quantisation={})
    assert done.exit_code == 1 and said in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["distilbert", "roberta", "modernbert", "electra"])
def test_an_encoder_of_another_family_learns_to_compute_in_8_bits(family: str, tmp_path: Path) -> None:
    done = train(write_base(tmp_path / "base", family), tmp_path, quantisation={})
    assert done.exit_code == 0, done.output
    (tmp_path / "texts.txt").write_text("\n".join(ALL), encoding="utf-8")
    source, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    written = bearwire("models", "export", source, "-o", bundle, "--texts", str(tmp_path / "texts.txt"))
    assert written.exit_code == 0, written.output
    assert "same label 100.00%" in written.output
    assert verify_predictor(Predictor(Bundle.load(tmp_path / "bundle"), threads=1, cache_entries=0)) == []


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_feed_forward_layers_of_another_family_are_narrowed(family: str, tmp_path: Path) -> None:
    done = train(write_base(tmp_path / "base", family), tmp_path, feed_forward=96)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_tokens": 80}, "max_tokens: 80, but the base model"),
        ({"validation": 0.001, "patience": 2}, "patience: no text is held back"),
        ({"seed": -1}, "seed"),
        ({"lora": {"targets": ["query"]}, "freeze": {"layers": 2}}, "every layer that its targets name is frozen"),
    ],
)
def test_recipes_that_could_not_end_well_are_refused_at_once(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    done = train(write_base(tmp_path / "base", "roberta"), tmp_path, **changes)
    assert done.exit_code == 1 and said in done.output
