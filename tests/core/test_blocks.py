from __future__ import annotations

import struct
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.model_set import Answer
from models.word_scores import MAX_WORDS_BYTES, Words
from streamer.core.blocks import MAGIC, VERSION, DigestBlock, DigestError, DigestVersionError
from tests.core.worlds import START_MS, blocks_of, probabilities, record, scorer

documents = st.fixed_dictionaries(
    {"published_at": st.integers(START_MS, START_MS + 600_000)},
    optional={
        "text": st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs")), min_size=1),
        "source": st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=9),
        "symbols": st.lists(st.sampled_from(["AAA", "BB.C", "ÜX"]), max_size=3),
        "weight": st.floats(0.001, 1000),
        "url": st.just("https://example.invalid/ü"),
        "lang": st.sampled_from(["en", "zh-CN"]),
    },
)


def block_with(*fields: dict[str, object]) -> DigestBlock:
    return blocks_of(0, 2, [record(offset, **each) for offset, each in enumerate(fields, start=7)], [])[0]


@given(st.lists(documents, min_size=1, max_size=12))
def test_a_block_survives_encoding_to_the_byte(fields: list[dict[str, object]]) -> None:
    data = block_with(*fields).encode()
    assert DigestBlock.decode(data).encode() == data


@given(st.lists(documents, min_size=1, max_size=12), st.integers(0, 30))
def test_the_rest_of_a_block_is_what_lies_behind_an_offset(fields: list[dict[str, object]], offset: int) -> None:
    block = block_with(*fields)
    rest = block.since(offset)
    assert DigestBlock.decode(rest.encode()).encode() == rest.encode()
    kept = block.offsets >= offset
    assert rest.offsets.tolist() == block.offsets[kept].tolist()
    assert rest.excerpt.texts() == [text for text, keep in zip(block.excerpt.texts(), kept, strict=True) if keep]
    assert rest.counts.received == int((block.record_offsets >= offset).sum())


@given(st.data())
def test_damaged_bytes_are_refused_or_sound(data: st.DataObject) -> None:
    good = bytearray(block_with({"symbols": ["AAA"]}, {"source": "wire"}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(9, len(good) - 1))] = data.draw(st.integers(0, 255))
    payload = bytes(good[9:])[: data.draw(st.integers(0, len(good)))]
    sealed = struct.pack("<4sBI", MAGIC, VERSION, zlib.crc32(payload)) + payload
    try:
        block = DigestBlock.decode(sealed)
    except DigestError:
        return
    assert len(block.excerpt.texts()) == len(block) == len(block.offsets)
    assert np.isfinite(block.sentiment).all()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DigestError):
        DigestBlock.decode(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"partition": 2}, "partition"),
        ({"to_offset": 0}, "range"),
        ({"watermark_ms": 1 << 60}, "watermark_ms"),
        ({"topics": ()}, "topic points outside"),
        ({"idle": True}, "idle block has rows"),
    ],
)
def test_an_unsound_header_is_refused_by_name(change: dict[str, object], says: str) -> None:
    block = block_with({"symbols": ["AAA"]})
    fields = {field: getattr(block, field) for field in DigestBlock.__dataclass_fields__} | change
    with pytest.raises(DigestError, match=says):
        DigestBlock.decode(DigestBlock(**fields).encode())


def test_blocks_are_cut_before_they_are_too_large_whatever_their_documents_hold() -> None:
    """A short text under a long title, an invented language each, and words as long as words may be."""
    scoring, mark, most = scorer(), "\U0001f600", 20_000
    scoring.max_block_bytes = most
    fields = {"text": "x", "title": mark * 400}
    prepared = scoring.prepare([record(n, **fields, lang=f"{mark * 29}{n:06}") for n in range(60)])
    words: list[Words] = [(mark * (MAX_WORDS_BYTES // 4),)] * 60
    answer = Answer(probabilities(prepared.texts), ("stand-in-1",), words)
    blocks = scoring.finish(prepared, answer).blocks["main"]
    one_more_and_the_names_of_columns = 4_000
    assert max(map(len, blocks)) < most + one_more_and_the_names_of_columns


def test_another_version_is_refused_with_its_number() -> None:
    data = bytearray(block_with({}).encode())
    data[4] = 9
    with pytest.raises(DigestVersionError, match="version 9"):
        DigestBlock.decode(bytes(data))
    data[-1] ^= 1
    with pytest.raises(DigestError, match="checksum"):
        DigestBlock.decode(bytes(data))


def test_a_msgpack_bomb_is_refused() -> None:
    payload = b"\x91" * 5000 + msgspec.msgpack.encode(1)
    with pytest.raises(DigestError):
        DigestBlock.decode(struct.pack("<4sBI", MAGIC, VERSION, zlib.crc32(payload)) + payload)
