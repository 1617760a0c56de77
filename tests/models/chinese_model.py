"""A small Chinese model: own texts about invented companies, a random base that reads characters, and its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SENTIMENTS = ("negative", "neutral", "positive")
TOPICS = ("业绩", "订单", "监管", "并购", "融资")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HELD_OUT_EVERY = 5


class Row(NamedTuple):
    """A text with its sentiment and its topic."""

    text: str
    sentiment: str
    topic: str


def read_rows() -> list[Row]:
    """All texts, negative, neutral and positive about as often in each topic, in no order."""
    file = Path(__file__).parent / "chinese_finance.jsonl"
    return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def learned() -> list[Row]:
    """The rows to train on, four in five."""
    return [row for at, row in enumerate(read_rows()) if at % HELD_OUT_EVERY]


def held_out() -> list[Row]:
    """The rows that no training sees."""
    return read_rows()[::HELD_OUT_EVERY]


def write_rows(file: Path, rows: list[Row]) -> None:
    """JSON Lines with the columns text, sentiment and topic."""
    file.write_text("".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def character_tokenizer(texts: list[str]) -> Tokenizer:
    """One token per Chinese character, as BERT's own Chinese tokenizer does, of the characters in `texts`."""
    letters = sorted({letter for text in texts for letter in text.lower() if not letter.isspace()})
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters if letter.isascii() and letter.isalnum())]
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, handle_chinese_chars=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def write_base(directory: Path, texts: list[str]) -> None:
    """A random BERT of two layers, 128 wide, that reads the characters of `texts`, as a Hugging Face directory."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = character_tokenizer(texts)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, SPECIAL, strict=True)))
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=128,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)


def write_recipe(directory: Path, base: Path) -> Path:
    """A recipe with two heads beside its training data; returns its file."""
    write_rows(directory / "learned.jsonl", learned())
    source = {"path": "learned.jsonl", "licence": "Apache-2.0", "name": "own Chinese company news"}
    recipe = {
        "name": "finance-zh",
        "base": str(base),
        "languages": ["zh"],
        "tasks": [
            {"name": "sentiment", "labels": list(SENTIMENTS), "sources": [{**source, "label": "sentiment"}]},
            {"name": "topic", "labels": list(TOPICS), "sources": [{**source, "label": "topic"}]},
        ],
        "normalisation": {"urls": "remove"},
        "optimiser": {"rate": 1.0e-3, "head_rate": 2.0e-3},
        "epochs": 12,
        "batch": 16,
        "train_tokens": 64,
        "max_tokens": 64,
        "validation": 0.12,
        "dropout": 0.1,
        "precision": "fp32",
    }
    file = directory / "finance-zh.yaml"
    file.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file
