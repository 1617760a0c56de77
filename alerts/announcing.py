"""What a notification says about a group of alerts, in English or Chinese. Pure functions of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from alerts.labels import shared_labels
from alerts.notifications import Notification, notification_id
from alerts.records import AlertRecord, AlertText
from alerts.series_keys import parts_of
from alerts.wording import clock, kind_word, on_one_line, severity_word, state_word

FULL_RECORDS = 20
"""Alerts of one notification that carry their texts and history; further ones come without."""

_NAMES = 4
_PLURALS = {"company": "companies", "topic": "topics", "sector": "sectors"}
_KINDS_ZH = {"company": "家公司", "topic": "个主题", "sector": "个行业"}


def notification(
    records: Sequence[AlertRecord], *, group: str, sequence: int, receivers: tuple[str, ...], at_ms: int,
    severities: Sequence[str], language: str,
) -> Notification:  # fmt: skip
    """The notification about these alerts (not empty). `severities` orders severities, mildest first."""
    rank = {name: place for place, name in enumerate(severities)}
    ordered = sorted(records, key=lambda r: (r.state != "firing", -rank.get(r.severity, -1), r.since_ms, r.id))
    severity = ordered[0].severity
    return Notification(
        id=notification_id(group, sequence),
        group=group,
        sequence=sequence,
        book=ordered[0].book,
        receivers=receivers,
        at_ms=at_ms,
        status="firing" if ordered[0].state == "firing" else "resolved",
        severity=severity,
        labels=shared_labels(ordered),
        title=title(ordered, severity, language),
        text=text(ordered, language),
        alerts=(
            *ordered[:FULL_RECORDS],
            *(msgspec.structs.replace(record, texts=(), history=()) for record in ordered[FULL_RECORDS:]),
        ),
        rules=ordered[0].rules,
    )


def title(records: Sequence[AlertRecord], severity: str, language: str) -> str:
    """One line: the alert's own where there is one, else state, severity and the series."""
    if len(records) == 1:
        return records[0].line
    state, where = state_word(records[0].state, language), _where(records, language)
    slow = all(record.kind == "deterioration" for record in records)
    kind = kind_word("deterioration" if slow else "surge", language)
    if language == "zh":
        return f"[{state}·{severity_word(severity, language)}] {len(records)} 个序列的{kind}：{where}"
    return f"[{state} {severity}] {kind} in {len(records)} series: {where}"


def text(records: Sequence[AlertRecord], language: str) -> str:
    """A few sentences: the alert's own where there is one, else since when, the strongest text, each series' line."""
    if len(records) == 1:
        return records[0].paragraph
    since = clock(min(record.since_ms for record in records))
    strongest = _strongest(records)
    lines = [record.line for record in records[:FULL_RECORDS]]
    more = len(records) - len(lines)
    if language == "zh":
        said = f"{since}（UTC）起。" + (f"最强文本：“{on_one_line(strongest.text)}”。" if strongest else "")
        return "\n".join([said, *lines, *([f"另有 {more} 个序列。"] if more else [])])
    said = f"Since {since} UTC." + (f' Strongest text: "{on_one_line(strongest.text)}".' if strongest else "")
    return "\n".join([said, *lines, *([f"and {more} more series"] if more else [])])


def _strongest(records: Sequence[AlertRecord]) -> AlertText | None:
    """The text that most of the alerts rest on, of those the most negative: what they share is the story."""
    often = Counter(one.id for record in records for one in record.texts)
    texts = (one for record in records for one in record.texts)
    return max(texts, key=lambda one: (often[one.id], one.negative, one.id), default=None)


def _where(records: Sequence[AlertRecord], language: str) -> str:
    """`companies NRVL, TSSR; topic Energy; all texts`: distinct companies, then topics, then the whole."""
    named: dict[str, dict[str, None]] = {"company": {}, "topic": {}}
    whole = False
    for record in records:
        parts = parts_of(record.series)
        whole = whole or not parts
        for kind, name in parts:
            named.setdefault(kind, {})[name] = None
    pieces = []
    for kind, names in named.items():
        shown = list(names)[:_NAMES]
        more = len(names) - len(shown)
        if names and language == "zh":
            pieces.append(f"{len(names)} {_KINDS_ZH.get(kind, kind)}（{'、'.join(shown)}{' 等' if more else ''}）")
        elif names:
            word = kind if len(names) == 1 else _PLURALS.get(kind, kind)
            pieces.append(f"{word} {', '.join(shown)}{f' and {more} more' if more else ''}")
    if whole:
        pieces.append("全部文本" if language == "zh" else "all texts")
    return ("；" if language == "zh" else "; ").join(pieces)
