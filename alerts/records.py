"""The record of an alert: every change of state is one record that carries the full current state.

Records of one alert share `id`; the one with the highest `sequence` is right, so last-write-wins per id (a compacted
Kafka topic, an upsert) keeps exactly the truth. No wall clock in it: the same documents give the same bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple

import msgspec
import orjson

from alerts.decoding import decode_json

SCHEMA = "bearwire.alert/1"

State = Literal["pending", "firing", "resolved"]
Change = Literal["pending", "fired", "severity_up", "severity_down", "repeated", "updated", "withdrawn", "resolved"]
Kind = Literal["surge", "deterioration"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one window holds against what the series' past explains.

    `expected_*` are means; `tail_probability` is the chance of as much or more.
    """

    window: str
    window_ms: int
    negative: float
    documents: float
    share: float
    expected_negative: float
    expected_share: float
    tail_probability: float


class LinkedCount(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of a story in a span (`12h`, `24h`, `3d`, `7d`) that ends with the change, and how many sources had it."""

    span: str
    copies: int
    sources: int


class AlertText(msgspec.Struct, frozen=True, kw_only=True):
    """One of the strongest negative texts, after novelty; `words` of it made it negative, heaviest first."""

    id: str
    text: str
    published_at_ms: int
    negative: float
    copies: int = 0
    source: str | None = None
    url: str | None = None
    linked: tuple[LinkedCount, ...] = ()
    words: tuple[str, ...] = ()


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One hour of the series before and during the alert, for a sparkline."""

    start_ms: int
    documents: float
    negative: float


class AlertRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one alert after one change. Times are event times in milliseconds UTC.

    `words` are those that drove most of `texts`. `reason` says why it ended where it did not become calm:
    `rules_changed`.
    """

    id: str
    sequence: int
    state: State
    change: Change
    severity: str
    peak_severity: str
    kind: Kind
    book: str
    rule: str
    series: str
    labels: dict[str, str]
    since_ms: int
    at_ms: int
    fired_at_ms: int | None
    resolved_at_ms: int | None
    observed: Reading
    peak: Reading
    windows: tuple[Reading, ...]
    false_alarms_per_day: float
    budget_per_day: float
    sources: int
    copies: int
    texts: tuple[AlertText, ...]
    words: tuple[str, ...] = ()
    history: tuple[HistoryPoint, ...]
    resolves_when: str
    line: str
    paragraph: str
    model: str
    rules: str
    notify: bool = True
    group: str | None = None
    muted_by: tuple[str, ...] = ()
    reason: str | None = None
    schema: str = SCHEMA

    @property
    def key(self) -> bytes:
        """The Kafka key: the alert's id."""
        return self.id.encode()

    def encode(self) -> bytes:
        """One line of JSON: sorted keys, floats of six significant digits, the same bytes for the same state."""
        return orjson.dumps(rounded(msgspec.to_builtins(self)), option=orjson.OPT_SORT_KEYS)


class Decided(NamedTuple):
    """A change of an alert as the engine decides it, and the numbers of the stories that the alert then rests on."""

    record: AlertRecord
    stories: tuple[int, ...] = ()


def decode_alert(data: bytes) -> AlertRecord:
    """The record in `data`. Raises `msgspec.DecodeError` or `msgspec.ValidationError` where it is not one."""
    return decode_json(data, AlertRecord)


def alert_id(book: str, rule: str, series: str, start_ms: int) -> str:
    """The id of the alert of one rule on one series that began with the pane at `start_ms`: 20 hexadecimal digits."""
    name = "\x1f".join((book, rule, series, str(start_ms)))
    return hashlib.blake2b(name.encode(), digest_size=10).hexdigest()


def rounded(value: Any) -> Any:
    """`value` with every float in it cut to six significant digits, which is all that a record tells."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value
