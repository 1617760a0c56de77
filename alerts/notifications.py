"""A notification: what a book tells its receivers about one group of alerts.

The engine decides on event time when a group is told about, to whom, and what it says, so a replay decides the same.
Sinks only deliver: they read notifications and send each to the receivers that it names, once per `id`.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
import orjson

from alerts.decoding import decode_json
from alerts.records import AlertRecord, rounded

SCHEMA = "bearwire.notification/1"


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message about the alerts of one group. Times are event times in milliseconds UTC.

    `receivers` are names of sinks, `*` stands for every sink. `alerts` holds the state of every member that is firing,
    or that resolved since the group was last told about; `severity` is the highest among the firing ones (of the
    resolved ones where none fires). `labels` are those that all members share. `title` is one line, `text` a few
    sentences, both in the language of the rules.
    """

    id: str
    group: str
    sequence: int
    book: str
    receivers: tuple[str, ...]
    at_ms: int
    status: Literal["firing", "resolved"]
    severity: str
    labels: dict[str, str]
    title: str
    text: str
    alerts: tuple[AlertRecord, ...]
    rules: str
    schema: str = SCHEMA

    @property
    def key(self) -> bytes:
        """The Kafka key: the group, so that a compacted topic keeps the last word on each."""
        return self.group.encode()

    def encode(self) -> bytes:
        """One line of JSON: sorted keys, floats of six significant digits, the same bytes for the same state."""
        return orjson.dumps(rounded(msgspec.to_builtins(self)), option=orjson.OPT_SORT_KEYS)


def decode_notification(data: bytes) -> Notification:
    """The notification in `data`. Raises `msgspec.DecodeError` or `msgspec.ValidationError` where it is not one."""
    return decode_json(data, Notification)


def notification_id(group: str, sequence: int) -> str:
    """The idempotency key of the message with this number about this group: 20 hexadecimal digits."""
    return hashlib.blake2b(f"{group}\x1f{sequence}".encode(), digest_size=10).hexdigest()


def group_id(book: str, route: str, labels: tuple[str, ...], first_alert: str) -> str:
    """The id of the group that an alert opened, by its route and the values it is grouped by: 20 hexadecimal digits."""
    name = "\x1f".join((book, route, *labels, first_alert))
    return hashlib.blake2b(name.encode(), digest_size=10).hexdigest()
