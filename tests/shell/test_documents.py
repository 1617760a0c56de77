from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.documents import (
    MAX_ID_BYTES,
    REASONS,
    Document,
    DocumentLimits,
    Rejection,
    ScoringText,
    join_title,
    normal_symbol,
    parse_document,
    parse_scoring_text,
)
from streamer.timestamps import parse_rfc3339

LIMITS = DocumentLimits(max_message_bytes=4000, max_text_bytes=400, max_depth=8, max_symbols=4)
GOOD: dict[str, Any] = {"id": "n-1", "text": "Norvale slides", "published_at": "2026-11-23T09:30:00Z"}
AT = 1_795_426_200_000


def parse(value: Any, record_timestamp_ms: int | None = None, limits: DocumentLimits = LIMITS) -> Document | Rejection:
    raw = value if isinstance(value, bytes) or value is None else orjson.dumps(value)
    return parse_document(raw, record_timestamp_ms=record_timestamp_ms, limits=limits)


def accepted(**fields: Any) -> Document:
    document = parse(GOOD | fields)
    assert isinstance(document, Document), document
    return document


def reason(value: Any, **arguments: Any) -> str:
    rejection = parse(value, **arguments)
    assert isinstance(rejection, Rejection), rejection
    assert rejection.reason in REASONS
    assert len(rejection.detail) <= 300
    assert rejection.detail.isprintable()
    return rejection.reason


def test_a_document_needs_only_id_text_and_time() -> None:
    assert accepted() == Document("n-1", "Norvale slides", AT)


def test_every_known_field_is_taken_and_unknown_ones_are_left_alone() -> None:
    document = accepted(
        title="Profit warning", source="wire", url="https://x.example", lang="en", symbols=[" $nrv", "NRV", "brk.b"],
        weight=2, followers=12, nested={"a": [1, {"b": 2}]},
    )  # fmt: skip
    assert document.symbols == ("NRV", "BRK.B")
    assert document.weight == 2.0
    assert (document.title, document.source, document.lang) == ("Profit warning", "wire", "en")


def test_null_in_an_optional_field_is_absence() -> None:
    assert accepted(title=None, source=None, url=None, lang=None, symbols=None, weight=None) == accepted()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "tombstone"),
        (b"", "invalid_json"),
        (b"  \n", "invalid_json"),
        (b"{", "invalid_json"),
        (b"not json", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"id": "a", "text": "\xff"}', "invalid_utf8"),
        (b'{"id": "a", "unknown": "\xc3\x28"}', "invalid_utf8"),
        (b'{"text": "\\ud83d"}', "lone_surrogate"),
        (b'{"text": "\\udc00 alone"}', "lone_surrogate"),
        (b"[" * 1500 + b"]" * 1500, "too_deep"),
        (b"[" * 3000, "too_deep"),
        (b"[" * 9 + b"]" * 9, "too_deep"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "too_deep"),
        (b"[1]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"7", "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "missing_field"),
        (b" " * 4001, "message_too_large"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_document(value: bytes | None, expected: str) -> None:
    assert reason(value) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": None}, "missing_field"),
        ({"text": None}, "missing_field"),
        ({"published_at": None}, "missing_field"),
        ({"id": 7}, "wrong_type"),
        ({"text": ["a"]}, "wrong_type"),
        ({"published_at": 1_795_426_200}, "wrong_type"),
        ({"title": 3}, "wrong_type"),
        ({"source": {}}, "wrong_type"),
        ({"symbols": "NRV"}, "wrong_type"),
        ({"symbols": ""}, "wrong_type"),
        ({"symbols": {}}, "wrong_type"),
        ({"symbols": [1]}, "wrong_type"),
        ({"weight": "1"}, "wrong_type"),
        ({"weight": True}, "wrong_type"),
        ({"weight": 0}, "bad_weight"),
        ({"weight": -1}, "bad_weight"),
        ({"weight": 1000.5}, "bad_weight"),
        ({"id": ""}, "bad_id"),
        ({"id": " \u200b"}, "bad_id"),
        ({"id": "a\nb"}, "bad_id"),
        ({"id": "a\u0000"}, "bad_id"),
        ({"id": "é" * 257}, "id_too_long"),
        ({"text": ""}, "empty_text"),
        ({"text": " \n\u00a0\u200b\ufeff"}, "empty_text"),
        ({"text": "a\u0000b"}, "nul_character"),
        ({"source": "\u0000"}, "nul_character"),
        ({"text": "a" * 401}, "text_too_large"),
        ({"text": "é" * 201}, "text_too_large"),
        ({"text": "a" * 300, "title": "b" * 101}, "text_too_large"),
        ({"source": "s" * 257}, "field_too_long"),
        ({"lang": "l" * 36}, "field_too_long"),
        ({"symbols": ["A", "B", "C", "D", "E"]}, "too_many_symbols"),
        ({"symbols": ["A|B"]}, "bad_symbols"),
        ({"symbols": ["A B"]}, "bad_symbols"),
        ({"symbols": ["*"]}, "bad_symbols"),
        ({"symbols": ["[A-Z]"]}, "bad_symbols"),
        ({"symbols": ["A?"]}, "bad_symbols"),
        ({"symbols": ["$"]}, "bad_symbols"),
        ({"symbols": ["A" * 33]}, "bad_symbols"),
        ({"symbols": [" " * 5000 + "A"]}, "message_too_large"),
    ],
)  # fmt: skip
def test_fields_that_make_no_document(fields: dict[str, Any], expected: str) -> None:
    assert reason(GOOD | fields) == expected


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-23", "2026-11-23T09:30:00", "2026-11-23T09:30Z", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z",
        "2026-11-23T24:00:00Z", "2026-11-23T09:30:00+0100", "2026-11-23T09:30:00+25:00", "20261123T093000Z",
        "2026-W48-1T09:30:00Z", "Mon, 23 Nov 2026 09:30:00 GMT", "2026-11-23T09:30:60Z", "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z", "٢٠٢٦-11-23T09:30:00Z", "2026-11-23T09:30:00Z\n", "", "now", "9" * 400,
        "2026-11-23T09:30:00\0", "2026-11-23T09:30:000", "2026-11-23T09:30:00-",
    ],
)  # fmt: skip
def test_times_that_are_not_rfc_3339(time: str) -> None:
    assert reason(GOOD | {"published_at": time}) == "bad_timestamp"


@pytest.mark.parametrize(
    ("time", "after_ms"),
    [
        ("2026-11-23T09:30:00Z", 0),
        ("2026-11-23t09:30:00z", 0),
        ("2026-11-23 09:30:00Z", 0),
        ("2026-11-23T09:30:00-00:00", 0),
        ("2026-11-23T10:30:00+01:00", 0),
        ("2026-11-23T04:00:00-05:30", 0),
        ("2026-11-23T09:30:00.25Z", 250),
        ("2026-11-23T09:30:00.001999999Z", 1),
    ],
)
def test_times_are_read_to_the_millisecond(time: str, after_ms: int) -> None:
    assert accepted(published_at=time).published_at_ms == AT + after_ms


def test_a_leap_second_is_the_start_of_the_next_minute() -> None:
    assert accepted(published_at="2016-12-31T23:59:60Z").published_at_ms == 1_483_228_800_000
    assert accepted(published_at="2017-01-01T00:59:60.9+01:00").published_at_ms == 1_483_228_800_000


def test_time_before_1970_rounds_down() -> None:
    assert parse_rfc3339("1969-12-31T23:59:59.9995Z") == -1


@pytest.mark.parametrize(
    "published_at",
    ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2262-01-01T00:00:00Z", "9999-12-31T23:59:59.999-00:01"],
)
def test_a_zero_or_a_greatest_time_is_none(published_at: str) -> None:
    assert reason(GOOD | {"published_at": published_at}) == "bad_timestamp"


@given(
    st.datetimes(datetime(1971, 1, 2), datetime(2261, 12, 30)),
    st.integers(-1439, 1439),
)
def test_any_time_in_any_offset_is_read_exactly(when: datetime, offset_minutes: int) -> None:
    local = when.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset_minutes)))
    expected = (when.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert accepted(published_at=local.isoformat()).published_at_ms == expected


def test_a_document_from_the_future_is_judged_by_the_record_s_own_time() -> None:
    assert reason(GOOD, record_timestamp_ms=AT - 300_001) == "future_timestamp"
    assert isinstance(parse(GOOD, record_timestamp_ms=AT - 300_000), Document)
    assert isinstance(parse(GOOD, record_timestamp_ms=None), Document)
    assert isinstance(parse(GOOD, record_timestamp_ms=-1), Document)


def test_details_show_hostile_content_escaped() -> None:
    rejection = parse(GOOD | {"published_at": "\u001b[31m\n\u202e" + "x" * 900})
    assert isinstance(rejection, Rejection)
    assert rejection.detail.startswith('published_at "\\x1b[31m\\n\\u202exxx')
    assert len(rejection.detail) <= 300


def test_of_repeated_keys_the_last_counts() -> None:
    document = parse(b'{"id":"a","id":"b","text":"x","published_at":"2026-11-23T09:30:00Z"}')
    assert isinstance(document, Document)
    assert document.id == "b"


def test_nesting_up_to_the_limit_passes_in_unknown_fields() -> None:
    deep: Any = 1
    for _ in range(LIMITS.max_depth - 1):
        deep = [deep]
    assert accepted(unknown=deep)
    assert accepted(wide=[[1]] * 50)
    assert reason(GOOD | {"unknown": [deep]}) == "too_deep"


@pytest.mark.parametrize(
    ("title", "text", "scored"),
    [
        (None, "Body", "Body"),
        ("", "Body", "Body"),
        (" \n", "Body", "Body"),
        ("Head", "Body", "Head. Body"),
        ("Head.", "Body", "Head. Body"),
        ("Head?", "Body", "Head? Body"),
        (" Head ", "  Head and more", "  Head and more"),
    ],
)
def test_the_title_is_read_before_the_text_unless_it_begins_it(title: str | None, text: str, scored: str) -> None:
    assert join_title(title, text) == scored
    assert Document("a", text, 0, title).scored_text == scored


def test_a_text_to_classify_needs_no_id_and_no_time() -> None:
    def scoring(value: Any) -> ScoringText | Rejection:
        return parse_scoring_text(orjson.dumps(value), default_id="7", limits=LIMITS)

    assert scoring({"text": "a"}) == ScoringText("7", "a")
    assert scoring({"text": "a", "id": 12, "title": "T"}) == ScoringText("12", "T. a")
    assert scoring({"text": "a", "id": "x"}) == ScoringText("x", "a")
    assert scoring({"text": " "}) == Rejection("empty_text", 'text " " has no visible character')
    assert scoring({"text": "a", "id": [1]}) == Rejection("wrong_type", "id is an array, a string was expected")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(value: bytes) -> None:
    assert isinstance(parse(value), Document | Rejection)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NEARLY = st.fixed_dictionaries(
    {
        "id": st.just("a") | st.text(max_size=8) | JSON,
        "text": st.just("Norvale slides") | st.text(max_size=40) | JSON,
        "published_at": st.just("2026-11-23T09:30:00Z") | st.text(max_size=25) | JSON,
    },
    optional={
        "title": st.text(max_size=20) | JSON,
        "symbols": st.lists(st.text(max_size=8) | JSON, max_size=6) | JSON,
        "weight": st.floats() | JSON,
        "source": JSON,
        "more": JSON,
    },
)


@given(NEARLY, st.none() | st.integers(-1, 4_000_000_000_000))
def test_whatever_is_accepted_keeps_every_promise(fields: dict[str, Any], at: int | None) -> None:
    try:
        raw = orjson.dumps(fields)
    except TypeError:
        return
    result = parse_document(raw, record_timestamp_ms=at, limits=LIMITS)
    if isinstance(result, Rejection):
        assert result.reason in REASONS
        assert result.detail.isprintable()
        assert 0 < len(result.detail) <= 300
        return
    assert result.id == fields["id"]
    assert 0 < len(result.id.encode()) <= MAX_ID_BYTES
    assert result.text == fields["text"]
    assert result.text.strip()
    assert math.isfinite(result.weight)
    assert 0 < result.weight <= 1000
    assert len(result.symbols) == len(set(result.symbols)) <= LIMITS.max_symbols
    assert all(normal_symbol(symbol) == symbol for symbol in result.symbols)
    assert at is None or at < 0 or result.published_at_ms - at <= LIMITS.future_tolerance_ms
    assert result == parse_document(raw, record_timestamp_ms=at, limits=LIMITS)
