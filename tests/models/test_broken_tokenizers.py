"""A tokenizer that fails says so in an error of ours, also where its Rust code panics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle, BundleError, write_manifest
from models.encoding import Encoder, EncoderError, LongTexts
from models.predictor import Predictor
from tests.models.tiny_bundle import write_tiny_bundle

CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
FAR_CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "CAAAAP////////8AAAA="}


def tokenizer(bundle: Bundle, **changes: object) -> bytes:
    content: dict[str, Any] = json.loads(bundle.read("tokenizer.json"))
    return json.dumps({**content, **changes}).encode()


def with_special(bundle: Bundle, count: int) -> bytes:
    """A tokenizer that puts so many special tokens before a text."""
    mark = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    of_pair = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    template = {
        "type": "TemplateProcessing",
        "single": [*[mark] * count, of_pair[0]],
        "pair": of_pair,
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
    }
    return tokenizer(bundle, post_processor=template)


def test_a_panic_while_it_is_parsed_is_an_error(tiny: Bundle) -> None:
    with pytest.raises(EncoderError, match=r"is not a tokenizer: .*charsmap"):
        Encoder(tokenizer(tiny, normalizer=CHARSMAP), max_tokens=24)


def test_a_panic_at_an_empty_text_is_an_error(tiny: Bundle) -> None:
    template = {**json.loads(tiny.read("tokenizer.json"))["post_processor"], "special_tokens": {}}
    with pytest.raises(EncoderError, match="fails on an empty text: no entry found for key"):
        Encoder(tokenizer(tiny, post_processor=template), max_tokens=24)


@pytest.mark.parametrize(
    "changes", [{"normalizer": FAR_CHARSMAP}, {"pre_tokenizer": {"type": "FixedLength", "length": 0}}]
)
def test_a_panic_at_a_text_is_an_error(tiny: Bundle, changes: dict[str, object]) -> None:
    encoder = Encoder(tokenizer(tiny, **changes), max_tokens=24)
    with pytest.raises(EncoderError, match="fails on a text: "):
        encoder.encode(["record profit"])
    with pytest.raises(EncoderError, match="fails on a text: "):
        encoder.words("record profit")


def test_what_is_no_failure_of_the_library_is_left_alone(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def encode_batch_fast(self, texts: list[str]) -> None:
            raise KeyboardInterrupt

    encoder = Encoder(tokenizer(tiny), max_tokens=24)
    monkeypatch.setattr(encoder, "_tokenizer", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(["record profit"])


@pytest.mark.parametrize("long_texts", ["truncate", "chunks"])
@pytest.mark.parametrize("special", [24, 25])
def test_special_tokens_that_leave_no_room_for_a_text_are_an_error(
    tiny: Bundle, special: int, long_texts: LongTexts
) -> None:
    with pytest.raises(EncoderError, match=f"adds {special} tokens to every text, which leaves none"):
        Encoder(with_special(tiny, special), max_tokens=24, long_texts=long_texts)
    rows = Encoder(with_special(tiny, 23), max_tokens=24, long_texts=long_texts).encode(["the " * 40])
    assert rows.counts.max() == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": CHARSMAP}, r"tokenizer\.json is not a tokenizer: .*charsmap"),
        ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, r"tokenizer\.json fails on a text: "),
    ],
)
def test_a_bundle_with_such_a_tokenizer_is_refused_by_name(
    tmp_path: Path, tiny: Bundle, changes: dict[str, object], message: str
) -> None:
    odd = write_tiny_bundle(tmp_path / "odd")
    (odd.path / "tokenizer.json").write_bytes(tokenizer(tiny, **changes))
    with pytest.raises(BundleError, match=message):
        Predictor(write_manifest(odd.path, odd.manifest)).warm_up()
