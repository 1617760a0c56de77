"""Chinese puts no space between words: none of the places that look for words may take a sentence for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from models.encoding import Encoder
from models.training.cleaning import exact_key
from models.training.recipe import Normalisation
from models.training.tokenisation import build_tokenizer
from tests.models.chinese_model import character_tokenizer, read_rows

TEXT = "禾盛药业2026年涉嫌财务造假，profit warning: 净亏损3亿元。"
CORPUS = [TEXT, *(row.text for row in read_rows()[:60])]


def sentence_pieces() -> Tokenizer:
    """Unigram over runs between spaces, as XLM-R and its kin have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=["<unk>", "<pad>"], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_pieces() -> Tokenizer:
    """Byte-level BPE, whose tokens may end within a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def word_pieces() -> Tokenizer:
    """WordPiece that does not take Chinese characters apart before it starts."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=900, special_tokens=["[UNK]"]))
    return tokenizer


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    encoder = Encoder(tokenizer.to_str().encode(), max_tokens=128)
    return [text[start:end] for start, end in encoder.word_spans(text)]


def test_with_a_chinese_tokenizer_every_character_is_a_word() -> None:
    found = words(character_tokenizer(CORPUS), TEXT)
    assert found == [*"禾盛药业", "2026", *"年涉嫌财务造假", "profit", "warning", *"净亏损", "3", *"亿元"]


@pytest.mark.parametrize("make", [sentence_pieces, byte_pieces, word_pieces])
def test_with_any_other_tokenizer_a_word_is_a_run_of_few_characters(make: Callable[[], Tokenizer]) -> None:
    found = words(make(), TEXT)
    assert {"profit", "warning"} <= set(found)
    chinese = [word for word in found if not word.isascii()]
    assert len(chinese) >= 6
    assert max(map(len, chinese)) <= 6
    assert "".join(found) == "禾盛药业2026年涉嫌财务造假profitwarning净亏损3亿元"


def test_what_a_normaliser_replaced_is_one_word_as_it_was_written(tmp_path: Path) -> None:
    text = "$NVLE下调指引，见https://example.com/a?b=1，股价大跌；www.example.cn/x证监会立案"
    character_tokenizer([text, "$ stock"]).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_str(build_tokenizer(tmp_path, Normalisation(cashtags="generic")).json)
    assert words(tokenizer, text) == ["NVLE", *"下调指引见股价大跌证监会立案"]


def test_a_web_address_ends_where_chinese_begins() -> None:
    told = exact_key("见https://example.com/1，远岭航运亏损扩大")
    assert told == exact_key("见https://example.com/2，远岭航运亏损扩大")
    assert told != exact_key("见https://example.com/1，远岭航运扭亏为盈")
