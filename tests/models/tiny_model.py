"""Tiny random parents for training and export tests: a tokenizer and a BERT of two layers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_tokenizer(directory: Path, words: list[str]) -> int:
    """A WordPiece tokenizer.json of these words and single letters; returns the size of its vocabulary."""
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,%!?'")
    pieces = list(dict.fromkeys([*SPECIAL, *words, *letters, *(f"##{letter}" for letter in letters)]))
    tokenizer = Tokenizer(WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(SPECIAL)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return len(pieces)


def write_encoder(directory: Path, texts: list[str]) -> None:
    """A random BERT encoder of two layers with the words of `texts`, as a Hugging Face directory."""
    import torch
    from transformers import BertModel

    torch.manual_seed(0)
    BertModel(_config(directory, texts), add_pooling_layer=False).save_pretrained(directory)


def write_classifier(directory: Path, texts: list[str], labels: list[str]) -> Any:
    """A random BERT for sequence classification, FinBERT-shaped; returns the model."""
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    config = _config(directory, texts)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: at for at, label in enumerate(labels)}
    model = BertForSequenceClassification(config)
    model.classifier.weight.data.normal_(std=0.5)
    model.save_pretrained(directory)
    return model.eval()


def _config(directory: Path, texts: list[str]) -> Any:
    from transformers import BertConfig

    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})
    return BertConfig(
        vocab_size=write_tokenizer(directory, words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
