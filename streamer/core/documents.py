"""Input documents: from the bytes of a Kafka message to a checked `Document`, or a `Rejection` that says why not.

`parse_document` never raises, whatever the bytes. The good path is one `orjson.loads` and a few checks; only
a document that fails them pays for finding out what exactly is wrong with it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from streamer.escaping import escaped, quoted
from streamer.timestamps import TimestampError, parse_event_time

REASONS: Final[dict[str, str]] = {
    "tombstone": "the message has no value",
    "message_too_large": "the message is longer than limits.max_message_bytes",
    "invalid_utf8": "the bytes are not UTF-8",
    "invalid_json": "the text is not JSON",
    "lone_surrogate": "a string escapes half of a surrogate pair, which is no character",
    "too_deep": "objects and arrays are nested deeper than limits.max_depth",
    "not_an_object": "the JSON value is not an object",
    "missing_field": "a required field is absent or null",
    "wrong_type": "a field has another JSON type than it should",
    "bad_id": "the id is empty or holds control characters",
    "id_too_long": "the id is longer than 512 bytes",
    "empty_text": "the text has no visible character",
    "nul_character": "a field holds the character U+0000",
    "text_too_large": "title and text together are longer than limits.max_text_bytes",
    "bad_timestamp": "published_at is not an RFC 3339 time with an offset",
    "future_timestamp": "published_at is further ahead of the Kafka record's time than time.future_tolerance_seconds",
    "bad_weight": "the weight is not a finite number above 0 and at most 1000",
    "bad_symbols": "a symbol is empty, too long, or holds a space, a control character or '|'",
    "too_many_symbols": "there are more symbols than limits.max_symbols",
    "field_too_long": "source, url or lang is longer than any real one",
    "no_model_for_language": "no model is made for the document's language, and model.other_languages says dead_letter",
    "not_scored": "the model overflows on the text: its probabilities are not numbers",
}
"""Every reason that a rejection can have, with its meaning."""

MAX_ID_BYTES: Final = 512
MAX_SYMBOL_CHARACTERS: Final = 32
MAX_WEIGHT: Final = 1000.0
MAX_FIELD_CHARACTERS: Final = {"source": 256, "url": 4096, "lang": 35}

_BLANK: Final = (
    "".join(c for c in map(chr, range(0x3001)) if c.isspace() or ord(c) < 0x20)
    + "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)


class DocumentLimits(msgspec.Struct, frozen=True):
    """What a document may not exceed. Sizes are in bytes of UTF-8."""

    max_message_bytes: int = 1_000_000
    max_text_bytes: int = 200_000
    max_depth: int = 32
    max_symbols: int = 64
    future_tolerance_ms: int = 300_000


class Document(msgspec.Struct, frozen=True, gc=False):
    """One text to score. `published_at_ms` is event time, milliseconds since 1970 UTC.

    `symbols` are upper case, without a leading `$`, without repeats, in the order given.
    """

    id: str
    text: str
    published_at_ms: int
    title: str | None = None
    source: str | None = None
    url: str | None = None
    lang: str | None = None
    symbols: tuple[str, ...] = ()
    weight: float = 1.0

    @property
    def scored_text(self) -> str:
        """What the model reads."""
        return join_title(self.title, self.text)


class ScoringText(NamedTuple):
    """A text to score outside the flow of time (`bearwire classify`)."""

    id: str
    scored_text: str
    lang: str | None = None


class Rejection(NamedTuple):
    """Why a message is no document. `reason` is a key of `REASONS`; `detail` is one line, at most 300 characters."""

    reason: str
    detail: str


def join_title(title: str | None, text: str) -> str:
    """`title. text`, unless there is no title or the text already begins with it."""
    if not title:
        return text
    title = title.strip(_BLANK)
    if not title or text.lstrip(_BLANK).startswith(title):
        return text
    return f"{title} {text}" if title[-1] in ".!?…。！？" else f"{title}. {text}"


def parse_document(
    value: bytes | None, *, record_timestamp_ms: int | None, limits: DocumentLimits
) -> Document | Rejection:
    """The document in a message's value, or why there is none. Never raises.

    `record_timestamp_ms` is the Kafka record's own timestamp; None (or negative, Kafka's "no timestamp")
    leaves out the check for documents from the future. Unknown fields are ignored here and stay in the
    message; of repeated keys the last counts.
    """
    try:
        fields = _object(value, limits)
        published_at_ms = _published_at(fields)
        if (
            record_timestamp_ms is not None
            and published_at_ms - record_timestamp_ms > limits.future_tolerance_ms
            and record_timestamp_ms >= 0
        ):
            ahead = (published_at_ms - record_timestamp_ms) / 1000
            raise _Rejected(
                "future_timestamp",
                f"published_at {quoted(fields['published_at'])} is {ahead:.0f} s ahead of the record's own time, "
                f"more than the {limits.future_tolerance_ms / 1000:.0f} s allowed",
            )
        get = fields.get
        source, url, lang, symbols, weight = get("source"), get("url"), get("lang"), get("symbols"), get("weight")
        title = _title(fields)
        return Document(
            _id(fields.get("id")),
            _text(fields, title, limits),
            published_at_ms,
            title,
            None if source is None else _short_text("source", source),
            None if url is None else _short_text("url", url),
            None if lang is None else _short_text("lang", lang),
            _symbols(symbols, limits) if symbols else _no_symbols(symbols),
            1.0 if weight is None else _weight(weight),
        )
    except _Rejected as rejected:
        return Rejection(rejected.reason, escaped(rejected.detail))


def parse_scoring_text(value: bytes, *, default_id: str, limits: DocumentLimits) -> ScoringText | Rejection:
    """The text to score in a JSON object of which only `text` is required, or why there is none. Never raises.

    An absent or null `id` becomes `default_id`; an integer id is taken as its digits.
    """
    try:
        fields = _object(value, limits)
        identity = fields.get("id")
        if identity is None:
            identity = default_id
        elif type(identity) is int:
            identity = str(identity)
        title = _title(fields)
        lang = fields.get("lang")
        return ScoringText(
            _id(identity),
            join_title(title, _text(fields, title, limits)),
            None if lang is None else _short_text("lang", lang),
        )
    except _Rejected as rejected:
        return Rejection(rejected.reason, escaped(rejected.detail))


class _Rejected(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail


def _object(value: bytes | None, limits: DocumentLimits) -> dict[str, Any]:
    if value is None:
        raise _Rejected("tombstone", "the message has no value")
    if len(value) > limits.max_message_bytes:
        raise _Rejected("message_too_large", f"{len(value)} bytes, more than the {limits.max_message_bytes} allowed")
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _explain(value, error) from None
    # Fewer brackets than levels allowed cannot nest too deep, and counting bytes is far cheaper than walking.
    if value.count(b"[") + value.count(b"{") > limits.max_depth and _deeper_than(fields, limits.max_depth):
        raise _Rejected("too_deep", f"nested deeper than {limits.max_depth} levels")
    if type(fields) is not dict:
        raise _Rejected("not_an_object", f"the value is {_kind(fields)}, an object was expected")
    return fields


def _explain(value: bytes, error: orjson.JSONDecodeError) -> _Rejected:
    if not value.strip():
        return _Rejected("invalid_json", "the message is empty")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as fault:
        return _Rejected("invalid_utf8", f"byte 0x{value[fault.start]:02x} at position {fault.start}: {fault.reason}")
    if value.startswith(b"\xef\xbb\xbf"):
        return _Rejected("invalid_json", "begins with a byte order mark")
    if "depth" in error.msg or "ecursion" in error.msg:
        return _Rejected("too_deep", "nested deeper than the JSON reader goes (1024 levels)")
    reason = "lone_surrogate" if "surrogate" in error.msg.lower() else "invalid_json"
    return _Rejected(reason, f"{error.msg} at line {error.lineno}, column {error.colno}")


def _deeper_than(value: object, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        inner: list[object] = []
        for item in layer:
            if type(item) is dict:
                inner.extend(item.values())
            elif type(item) is list:
                inner.extend(item)
        if not inner and not any(type(item) in (dict, list) for item in layer):
            return False
        layer = inner
    return True


def _published_at(fields: dict[str, Any]) -> int:
    published_at = fields.get("published_at")
    if type(published_at) is not str:
        raise _absent_or_mistyped("published_at", published_at)
    try:
        return parse_event_time(published_at)
    except TimestampError as error:
        raise _Rejected("bad_timestamp", f"published_at {quoted(published_at)}: {error}") from None


def _id(identity: object) -> str:
    if type(identity) is not str:
        raise _absent_or_mistyped("id", identity)
    if not identity.isprintable() or not identity.strip(_BLANK):
        if not identity.strip(_BLANK):
            raise _Rejected("bad_id", "id has no visible character")
        if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in identity):
            raise _Rejected("bad_id", f"id {quoted(identity)} holds a control character")
    if len(identity) * 4 > MAX_ID_BYTES and len(identity.encode()) > MAX_ID_BYTES:
        raise _Rejected("id_too_long", f"id has {len(identity.encode())} bytes, more than the {MAX_ID_BYTES} allowed")
    return identity


def _text(fields: dict[str, Any], title: str | None, limits: DocumentLimits) -> str:
    text = fields.get("text")
    if type(text) is not str:
        raise _absent_or_mistyped("text", text)
    if not text.strip(_BLANK):
        raise _Rejected("empty_text", f"text {quoted(text)} has no visible character")
    _no_nul("text", text)
    characters = len(text) + (len(title) if title else 0)
    if characters * 4 > limits.max_text_bytes:
        size = len(text.encode()) + (len(title.encode()) if title else 0)
        if size > limits.max_text_bytes:
            raise _Rejected(
                "text_too_large", f"title and text have {size} bytes, more than the {limits.max_text_bytes} allowed"
            )
    return text


def _title(fields: dict[str, Any]) -> str | None:
    title = fields.get("title")
    return None if title is None else _no_nul("title", title)


def _short_text(name: str, value: object) -> str:
    text = _no_nul(name, value)
    if len(text) > MAX_FIELD_CHARACTERS[name]:
        raise _Rejected(
            "field_too_long", f"{name} has {len(text)} characters, more than the {MAX_FIELD_CHARACTERS[name]} allowed"
        )
    return text


def _no_nul(name: str, value: object) -> str:
    if type(value) is not str:
        raise _absent_or_mistyped(name, value)
    if "\0" in value:
        raise _Rejected("nul_character", f"{name} holds U+0000 at position {value.index(chr(0))}")
    return value


def _no_symbols(symbols: object) -> tuple[str, ...]:
    if symbols is None or type(symbols) is list:
        return ()
    raise _Rejected("wrong_type", f"symbols is {_kind(symbols)}, an array of strings was expected")


def _symbols(symbols: object, limits: DocumentLimits) -> tuple[str, ...]:
    if type(symbols) is not list:
        raise _Rejected("wrong_type", f"symbols is {_kind(symbols)}, an array of strings was expected")
    if len(symbols) > limits.max_symbols:
        raise _Rejected("too_many_symbols", f"{len(symbols)} symbols, more than the {limits.max_symbols} allowed")
    for symbol in symbols:
        if type(symbol) is not str:
            raise _Rejected("wrong_type", f"symbols holds {_kind(symbol)}, strings were expected")
        if len(symbol) > 2 * MAX_SYMBOL_CHARACTERS:
            raise _bad_symbol(symbol)
    normal = list(map(normal_symbol, symbols))
    if None in normal:
        raise _bad_symbol(symbols[normal.index(None)])
    return tuple(dict.fromkeys(normal))  # type: ignore[arg-type]


_NOT_IN_SYMBOLS: Final = frozenset(" |*?[]")
"""Series keys hold the bar, and silences and rules take the others for patterns."""


@lru_cache(maxsize=16_384)
def normal_symbol(symbol: str) -> str | None:
    """The one spelling of a ticker (`" $brk.b"` is `BRK.B`), or None if it cannot be one."""
    normal = symbol.strip().removeprefix("$").upper()
    if not normal or len(normal) > MAX_SYMBOL_CHARACTERS or not normal.isprintable():
        return None
    return None if _NOT_IN_SYMBOLS & set(normal) else normal


def _bad_symbol(symbol: str) -> _Rejected:
    return _Rejected(
        "bad_symbols",
        f"symbol {quoted(symbol)}: 1 to {MAX_SYMBOL_CHARACTERS} printable characters without space and |*?[] expected",
    )


def _weight(weight: object) -> float:
    if type(weight) is not float and type(weight) is not int:
        raise _Rejected("wrong_type", f"weight is {_kind(weight)}, a number was expected")
    if not (0 < weight <= MAX_WEIGHT and math.isfinite(weight)):
        raise _Rejected("bad_weight", f"weight {quoted(weight)} is not above 0 and at most {MAX_WEIGHT:.0f}")
    return float(weight)


def _absent_or_mistyped(name: str, value: object) -> _Rejected:
    if value is None:
        return _Rejected("missing_field", f"{name} is absent or null")
    return _Rejected("wrong_type", f"{name} is {_kind(value)}, a string was expected")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "an array"}
    return kinds.get(type(value), "an object")
