"""The tokenizer of a model in the making: the parent's, with the recipe's text rules built in.

Whatever is done to a text is written into tokenizer.json's own normaliser, so that inference, which knows
nothing but that file, does the same to the last character.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.encoding import UNSPACED
from models.training.recipe import Normalisation, RecipeError

_ENTITIES = (
    (r"&(?:amp|#38|#x26);", "&"),
    (r"&(?:lt|#60);", "<"),
    (r"&(?:gt|#62);", ">"),
    (r"&(?:quot|#34|ldquo|rdquo|#8220|#8221);", '"'),
    (r"&(?:apos|#39|#x27|lsquo|rsquo|#8216|#8217);", "'"),
    (r"&(?:nbsp|#160);", " "),
    (r"&(?:ndash|mdash|#8211|#8212);", "-"),
)
WEB_ADDRESS = rf"(?:https?://|www\.)[^\s{UNSPACED}]+"
"""A web address; Chinese goes on right behind one, without a space."""

TAG_END = rf"(?:\b|(?=[{UNSPACED}]))"
CASHTAG = rf"\$[A-Za-z][A-Za-z._-]{{0,9}}{TAG_END}"
"""A ticker as tweets write it."""

WORD_PIECE_MODELS = ("bert", "distilbert", "electra")
WORD_PIECE_TOKENIZERS = tuple(
    f"{name}Tokenizer{fast}" for name in ("Bert", "DistilBert", "Electra") for fast in ("", "Fast")
)
"""Models whose vocab.txt lists the word pieces of BERT, one a line. BERTweet's, say, lists others."""

_CASHTAG_WORD = "$ stock"
_WESTERN = ((0x20, 0x7E), (0xA0, 0xFF), (0x2010, 0x20CF), (0x2122, 0x2122))


class PrunedTokenizer(NamedTuple):
    """tokenizer.json as text, and the rows of the parent's embedding table that it still uses, in new order
    (int64[vocabulary]; None where all are)."""

    json: str
    rows: NDArray[np.int64] | None


def build_tokenizer(parent: Path, rules: Normalisation) -> PrunedTokenizer:
    """The parent's tokenizer.json with `rules` put before its own normaliser; truncation and padding off.

    Raises RecipeError where the parent has none and no vocabulary to make one of, or `vocabulary` "western" is asked of
    one without word pieces.
    """
    file = parent / "tokenizer.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8") if file.is_file() else _word_pieces(parent))
    content["truncation"] = None
    content["padding"] = None
    steps = _steps(rules)
    own = content.get("normalizer")
    if own is not None and own.get("type") == "Sequence":
        steps += own["normalizers"]
    elif own is not None:
        steps.append(own)
    content["normalizer"] = {"type": "Sequence", "normalizers": steps} if steps else None
    rows = _prune(content) if rules.vocabulary == "western" else None
    return PrunedTokenizer(json.dumps(content, ensure_ascii=False, separators=(",", ":")), rows)


def _word_pieces(parent: Path) -> str:
    """The tokenizer.json of a model that came before there was such a file, from its vocab.txt.

    Texts are put into lower case where the model says so, or, where it says nothing, has no word with a capital.
    """
    vocabulary = parent / "vocab.txt"
    kind = _settings(parent / "config.json").get("model_type")
    settings = _settings(parent / "tokenizer_config.json")
    tokenizer_class = str(settings.get("tokenizer_class") or "BertTokenizer")
    if not vocabulary.is_file() or kind not in WORD_PIECE_MODELS or tokenizer_class not in WORD_PIECE_TOKENIZERS:
        raise RecipeError(
            f"{parent} has no tokenizer.json, nor the vocab.txt of a BERT; load its tokenizer with transformers' "
            "AutoTokenizer (fast) and save it there with save_pretrained"
        )
    from transformers import BertTokenizerFast

    pieces = vocabulary.read_text(encoding="utf-8").splitlines()
    # A token that the vocabulary lacks would get a number that the model lacks.
    unmasked: dict[str, Any] = {} if "[MASK]" in pieces else {"mask_token": None}
    lower = settings.get("do_lower_case")
    if lower is None:
        lower = not any(re.search("[A-Z]", piece) for piece in pieces if not piece.startswith("["))
    built = BertTokenizerFast.from_pretrained(parent, do_lower_case=lower, local_files_only=True, **unmasked)
    written: str = built.backend_tokenizer.to_str()
    return written


def _settings(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise RecipeError(f"{file} is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _steps(rules: Normalisation) -> list[dict[str, Any]]:
    replacements: list[tuple[str, str]] = []
    if rules.html_entities:
        replacements += _ENTITIES
    if rules.urls == "remove":
        replacements.append((WEB_ADDRESS, " "))
    if rules.cashtags == "generic":
        replacements.append((CASHTAG, _CASHTAG_WORD))
    return [{"type": "Replace", "pattern": {"Regex": p}, "content": c} for p, c in replacements]


def _prune(content: dict[str, Any]) -> NDArray[np.int64]:
    model = content["model"]
    if model.get("type") != "WordPiece":
        raise RecipeError(f"vocabulary: western needs a WordPiece tokenizer, not {model.get('type')}")
    special = {token["content"] for token in content["added_tokens"]} | {model["unk_token"]}
    old: dict[str, int] = model["vocab"]
    kept = [piece for piece in sorted(old, key=old.__getitem__) if piece in special or _is_western(piece)]
    new = {piece: number for number, piece in enumerate(kept)}
    model["vocab"] = new
    for token in content["added_tokens"]:
        token["id"] = new[token["content"]]
    processor = content.get("post_processor") or {}
    for name, entry in processor.get("special_tokens", {}).items():
        entry["ids"] = [new[name]]
    for side in ("cls", "sep"):
        if side in processor:
            processor[side] = [processor[side][0], new[processor[side][0]]]
    return np.array([old[piece] for piece in kept], dtype=np.int64)


def _is_western(piece: str) -> bool:
    if piece.startswith("[unused"):
        return False
    text = piece.removeprefix("##")
    return all(any(low <= ord(letter) <= high for low, high in _WESTERN) for letter in text)
