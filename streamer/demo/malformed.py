"""The bad messages of the demo: what scrapers, queues and other people's deployments really put on a topic.

None holds a newline byte, so that each is a line of the stream's file. An empty value is a tombstone (a null value).
"""

from __future__ import annotations

import json

STAMP = "2026-03-04T10:15:00Z"
NESTING = 20_000
LARGE_TEXT_CHARACTERS = 400_000


def _document(**changes: object) -> bytes:
    """A well-formed document with some fields changed; a field set to `...` is left out."""
    document = {"id": "bad-0001", "text": "Grain exporters meet in Constanta", "published_at": STAMP} | changes
    kept = {name: value for name, value in document.items() if value is not ...}
    return json.dumps(kept, ensure_ascii=False).encode()


def malformed_values() -> list[bytes]:
    """About forty values, each wrong in its own way, in an order that never changes."""
    large_text = "Terms and conditions apply to this newsletter. " * (LARGE_TEXT_CHARACTERS // 47)
    return [
        b"", b"", b"",
        b"hello?",
        b"<html><head><title>502 Bad Gateway</title></head><body>upstream timed out</body></html>",
        b"id,text,published_at",
        b'{"id": "trunc-17", "text": "Cement maker to cl',
        b'{"id": "quote-3", "text": "Chair says "no comment" on merger", "published_at": "2026-03-03T09:00:00Z"}',
        b"{'id': 'py-9', 'text': 'printed, not dumped', 'published_at': '2026-03-03T09:00:00Z'}",
        b'{"id": "comma-1", "text": "Trailing comma", "published_at": "2026-03-03T09:00:00Z",}',
        b'{"id": "a1", "text": "two on a line", "published_at": "2026-03-03T09:00:00Z"}{"id": "a2"}',
        b"null", b"42", b'"a string on its own"', b"[]",
        b'[{"id": "batch-1", "text": "in a list", "published_at": "2026-03-03T09:00:00Z"}]',
        b"{}",
        _document(id=...), _document(text=...), _document(published_at=...), _document(id=..., text=...),
        _document(id=None), _document(id=["list"]), _document(id=""),
        _document(text=7), _document(text=None), _document(text=["Shares", "fall"]), _document(text={"en": "Fall"}),
        _document(text=""), _document(text=" \t  "),
        _document(published_at="yesterday"), _document(published_at="2026-02-30T10:00:00Z"),
        _document(published_at="04/03/2026 10:15"), _document(published_at=""), _document(published_at=True),
        _document(symbols="BRSK"), _document(symbols=[1, 2]), _document(weight="heavy"), _document(weight=-3),
        b'{"id": "latin-1", "text": "Caf\xe9 group lifts sales", "published_at": "2026-03-04T10:15:00Z"}',
        b'{"id": "cut-utf8", "text": "Price in \xe2\x82", "published_at": "2026-03-04T10:15:00Z"}',
        b"\xff\xfe{\x00\"\x00i\x00d\x00\"\x00}\x00",
        b"\x00\x01\x08\x96\x01\x12\x07testing",
        b'{"id": "deep-1", "text": ' + b"[" * NESTING + b"]" * NESTING + b"}",
        _document(id="large-1", text=large_text),
    ]  # fmt: skip
