"""One example record of every topic, made by the code that writes the real ones where it can. All is invented."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson

from alerts.announcing import notification
from alerts.notifications import group_id
from alerts.records import AlertRecord, AlertText, HistoryPoint, LinkedCount, Reading, alert_id
from alerts.silences import Silence
from alerts.wording import line, paragraph, resolves_when
from streamer.core.dead_letters import dead_letter_headers
from streamer.core.documents import Document, DocumentLimits, Rejection, parse_document
from streamer.core.records import DeadLetter, SourceRecord
from streamer.core.score_records import Scored, score_record
from streamer.timestamps import format_rfc3339

MODEL = "finance-en-1+0123456789ab"
RULES = "rules-0123456789ab"
LABELS = ("Earnings", "Legal | Regulation", "Personnel Change")
BOOK = "main"
SERIES = "company:TLYB"
_AT_MS = 1_772_633_225_000
_PANE_MS = 60_000
_HOUR_MS = 3_600_000
_START_MS = _AT_MS // _PANE_MS * _PANE_MS


class Example(NamedTuple):
    """A record as a consumer sees it. `headers` only where they are what matters."""

    key: str | None
    value: Any
    headers: Mapping[str, str] = MappingProxyType({})


def examples() -> dict[str, Example]:
    """By the name of the schema."""
    document = _document()
    alert = _alert(document)
    raw = orjson.dumps(document)
    return {
        "document": Example(document["id"], document),
        "score": Example(document["id"], orjson.loads(_score(raw, late=False))),
        "window": _window(),
        "alert": Example(alert.id, orjson.loads(alert.encode())),
        "notification": _notification(alert),
        "silence": _silence(),
        "dead-letter": _dead_letter(),
        "late": Example(document["id"], orjson.loads(_score(raw, late=True))),
    }


def _document() -> dict[str, Any]:
    return {
        "id": "wire-20260304-0117",
        "title": "Tallybridge admits it booked sales that never happened",
        "text": "The payments company said auditors found invoices without customers. Its shares fell by a third.",
        "published_at": format_rfc3339(_AT_MS),
        "source": "Harbour Newswire",
        "url": "https://news.example/2026/03/04/tallybridge",
        "lang": "en",
        "symbols": ["TLYB"],
    }


def _score(raw: bytes, *, late: bool) -> bytes:
    document = parse_document(raw, record_timestamp_ms=None, limits=DocumentLimits())
    assert isinstance(document, Document)
    scored = Scored.of(
        {
            "sentiment": np.array([[0.971204, 0.024519, 0.004277]], np.float32),
            "topic": np.array([[0.318442, 0.652013, 0.029545]], np.float32),
        },
        LABELS,
        1,
    )
    return score_record(document, scored, 0, "bearwire.documents", 5, 48_211, MODEL, late)


def _window() -> Example:
    start = format_rfc3339(_START_MS)
    pane = {
        "documents": 3,
        "copies": 1,
        "negative": 3,
        "neutral": 0,
        "positive": 0,
        "sources": 3,
        "weight": 3.0,
        "shares": {"negative": 0.947, "neutral": 0.039, "positive": 0.014},
        "mean_sentiment": -0.933,
        "dispersion": 0.013329,
    }
    hour = {
        "documents": 9,
        "copies": 6,
        "negative": 7,
        "neutral": 2,
        "positive": 0,
        "sources": 5,
        "weight": 9.0,
        "shares": {"negative": 0.766889, "neutral": 0.189, "positive": 0.044111},
        "mean_sentiment": -0.722778,
        "dispersion": 0.215595,
        "first": format_rfc3339(_AT_MS - 2_940_000),
        "last": format_rfc3339(_AT_MS + 31_000),
        "strongest": ["wire-20260304-0117", "desk-88213", "wire-20260304-0092"],
        "late": 1,
    }
    record = {
        "book": BOOK,
        "series": SERIES,
        "start": start,
        "end": format_rfc3339(_START_MS + _PANE_MS),
        **pane,
        "first": format_rfc3339(_AT_MS),
        "last": format_rfc3339(_AT_MS + 31_000),
        "strongest": ["wire-20260304-0117", "desk-88213"],
        "late": 0,
        "windows": {"1h": hour},
        "model": MODEL,
    }
    return Example(f"{BOOK}/{SERIES}@{start}", record)


def _alert(document: dict[str, Any]) -> AlertRecord:
    end_ms = _START_MS + _PANE_MS
    reading = Reading(
        window="1h",
        window_ms=_HOUR_MS,
        negative=7.0,
        documents=9.0,
        share=7 / 9,
        expected_negative=0.21,
        expected_share=0.19,
        tail_probability=3.1e-8,
    )
    hours = range(end_ms // _HOUR_MS - 2, end_ms // _HOUR_MS + 1)
    record = AlertRecord(
        id=alert_id(BOOK, "negative-surge", SERIES, _START_MS),
        sequence=1,
        state="firing",
        change="fired",
        severity="high",
        peak_severity="high",
        kind="surge",
        book=BOOK,
        rule="negative-surge",
        series=SERIES,
        labels={"desk": "payments"},
        since_ms=_START_MS,
        at_ms=end_ms,
        fired_at_ms=end_ms,
        resolved_at_ms=None,
        observed=reading,
        peak=reading,
        windows=(reading,),
        false_alarms_per_day=0.0011,
        budget_per_day=1 / 30,
        sources=5,
        copies=6,
        texts=(
            AlertText(
                id=document["id"],
                text=f"{document['title']}. {document['text']}",
                published_at_ms=_AT_MS,
                negative=0.971204,
                copies=4,
                source=document["source"],
                url=document["url"],
                linked=(
                    LinkedCount(span="12h", copies=4, sources=3),
                    LinkedCount(span="24h", copies=4, sources=3),
                ),
                words=("admits", "never"),
            ),
        ),
        words=("admits", "never"),
        history=tuple(
            HistoryPoint(start_ms=hour * _HOUR_MS, documents=float(count), negative=float(bad))
            for hour, count, bad in zip(hours, (1, 2, 9), (0, 1, 7), strict=True)
        ),
        resolves_when=resolves_when(_HOUR_MS, 4, 600_000),
        line="",
        paragraph="",
        model=MODEL,
        rules=RULES,
    )
    group = group_id(BOOK, "", (), record.id)
    return msgspec.structs.replace(record, group=group, line=line(record), paragraph=paragraph(record))


def _silence() -> Example:
    silence = Silence(
        id="5f0c2a91d4",
        revision=1,
        matchers={"company": ("TLYB",), "severity": ("!critical",)},
        author="ana",
        reason="known: auditors report at noon",
        created_ms=_AT_MS,
        starts_ms=0,
        ends_ms=_AT_MS + 2 * _HOUR_MS,
    )
    return Example(silence.id, orjson.loads(silence.encode()))


def _notification(alert: AlertRecord) -> Example:
    assert alert.group is not None
    record = notification(
        [alert], group=alert.group, sequence=1, receivers=("*",), at_ms=alert.at_ms,
        severities=("warning", "high", "critical"), language="en",
    )  # fmt: skip
    return Example(alert.group, orjson.loads(record.encode()))


def _dead_letter() -> Example:
    value = b'{"id": "desk-88214", "text": "Norvale cuts its forecast", "published_at": "4 March 2026"}'
    record = SourceRecord(48_212, _AT_MS, b"desk-88214", value)
    rejection = parse_document(value, record_timestamp_ms=_AT_MS, limits=DocumentLimits())
    assert isinstance(rejection, Rejection)
    letter = DeadLetter("bearwire.documents", 5, record, rejection.reason, rejection.detail)
    headers = {name: text.decode() for name, text in dead_letter_headers(letter)}
    return Example("desk-88214", value.decode(), headers)
