"""What is really produced fits the shipped schemas, and says nothing that they do not describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import orjson
import pytest
from referencing import Registry

from streamer.config.settings import BookSettings, Config
from streamer.core.dead_letters import REPLAYS, dead_letter_headers
from streamer.core.documents import Document, DocumentLimits, parse_document
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer
from streamer.core.selection import BookSelection
from streamer.core.watermark import PartitionClock
from streamer.offline.backtest import Backtest
from streamer.schemas import SCHEMAS, load_schema
from streamer.timestamps import format_rfc3339
from tests.shell.words import WordScorer

START_MS = 1_767_600_000_000
RULES = {
    "rules": [{"name": "quick", "min_negative": 1, "max_false_alarms": "100 per 1d", "life": {"resolve_after": "2m"}}],
    "learning": {"warm_up": "1h"},
}


def check(name: str, produced: Any) -> None:
    schema = load_schema(name)
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER, registry=Registry()
    )
    validator.validate(produced)
    assert set(produced) <= set(schema["properties"]), f"{name}.json does not describe every field"


def stream() -> Iterator[dict[str, Any]]:
    """Two quiet days of a text every five minutes, then an hour in which everything is negative."""
    for number in range(700):
        surge = number >= 576
        minute = number * 5 if not surge else 2880 + (number - 576) // 4
        yield {
            "id": f"d{number}",
            "text": f"{'bad' if surge or number % 9 == 0 else 'fair'} day {number * 7919} for {number % 13} of them",
            "published_at": format_rfc3339(START_MS + minute * 60_000),
            "source": f"wire-{number % 3}",
            "symbols": ["NRVL"],
            "url": "https://news.example/1",
        }
    yield {"id": "end", "text": "fair end", "published_at": format_rfc3339(START_MS + 3000 * 60_000)}


def test_every_schema_is_a_valid_schema() -> None:
    for name, version in SCHEMAS.items():
        schema = load_schema(name)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"urn:bearwire:schema:{name}:{version}"


def test_windows_alerts_and_notifications_are_as_described() -> None:
    config = Config(books=(BookSettings(windows=(900.0, 3600.0), rules=RULES, company_topics=True),))
    test = Backtest(config, WordScorer(), source="stream")
    output = test.take(0, [SourceRecord(n, None, None, orjson.dumps(fields)) for n, fields in enumerate(stream())])
    final = test.finish()
    windows = [record for rows in output.windows + final.windows for record in rows.records()]
    assert len(windows) > 500
    for window in windows[::50]:
        check("window", orjson.loads(window.value))
    alerts = output.alerts + final.alerts
    assert {alert.change for alert in alerts} >= {"fired"}
    for alert in alerts:
        check("alert", orjson.loads(alert.encode()))
    notifications = output.notifications + final.notifications
    assert {alert.series for told in notifications for alert in told.alerts} >= {"all", "company:NRVL"}
    for told in notifications:
        check("notification", orjson.loads(told.encode()))


def test_scores_late_documents_and_dead_letters_are_as_described() -> None:
    words = WordScorer()
    scorer = PartitionScorer(
        "documents",
        0,
        partitions=1,
        books=[BookSelection("main")],
        clock=PartitionClock(60_000),
        limits=DocumentLimits(),
        labels=words.labels,
        model=words.version_id,
    )
    times = [START_MS, START_MS + 3_600_000, START_MS]
    values = [
        orjson.dumps({"id": f"d{n}", "text": "bad day", "published_at": format_rfc3339(at)})
        for n, at in enumerate(times)
    ]
    replayed = ((REPLAYS, b"1"),)
    records = [SourceRecord(n, START_MS + 9_000_000, b"k", value) for n, value in enumerate(values)]
    records.append(SourceRecord(3, START_MS, None, b"\x00\x1b[31m no json", replayed))
    prepared = scorer.prepare(records)
    batch = scorer.finish(prepared, words.predict(prepared.texts))
    assert (len(batch.scores), len(batch.late), len(batch.dead)) == (2, 1, 1)
    for score in batch.scores:
        check("score", orjson.loads(score.value))
    check("late", orjson.loads(batch.late[0].value))
    check("dead-letter", {name: value.decode() for name, value in dead_letter_headers(batch.dead[0])})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"title": None, "symbols": None, "weight": None, "source": None, "url": None, "lang": None},
        {"title": "T", "symbols": ["A"], "weight": 0.5, "source": "s", "url": "u", "lang": "en", "more": [1]},
    ],
)
def test_the_document_schema_takes_what_the_parser_takes(fields: dict[str, Any]) -> None:
    document = {"id": "a", "text": "b", "published_at": "2026-01-05T09:00:00+01:00"} | fields
    jsonschema.validate(document, load_schema("document"))
    parsed = parse_document(orjson.dumps(document), record_timestamp_ms=None, limits=DocumentLimits())
    assert isinstance(parsed, Document)


@pytest.mark.parametrize(
    "fields",
    [{"id": 1}, {"id": ""}, {"text": ""}, {"weight": 0}, {"weight": 1001}, {"symbols": "A"}, {"published_at": 1}],
)
def test_the_document_schema_refuses_what_the_parser_refuses(fields: dict[str, Any]) -> None:
    document = {"id": "a", "text": "b", "published_at": "2026-01-05T09:00:00Z"} | fields
    assert not jsonschema.Draft202012Validator(load_schema("document")).is_valid(document)
    parsed = parse_document(orjson.dumps(document), record_timestamp_ms=None, limits=DocumentLimits())
    assert not isinstance(parsed, Document)


def test_the_word_scorer_is_a_model() -> None:
    probabilities = WordScorer().predict(["bad", "fair"]).probabilities
    assert np.allclose(probabilities["sentiment"].sum(axis=1), 1)
