"""What an alert says to a person: one line and one paragraph, in English or Chinese. Pure functions of the record."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from alerts.durations import format_duration
from alerts.records import AlertRecord
from alerts.series_keys import parts_of

_SEVERITY_ZH = {"warning": "警告", "high": "严重", "critical": "危急"}
_STATE_ZH = {"pending": "待定", "firing": "告警", "resolved": "已解除"}
_KIND_EN = {"company": "company ", "topic": "topic ", "sector": "sector "}
_KIND_ZH = {"company": "公司", "topic": "主题", "sector": "行业"}


def line(record: AlertRecord, language: str = "en") -> str:
    """One line: state, severity, where, observed against expected."""
    seen = record.observed if record.state != "resolved" else record.peak
    if language == "zh":
        return (
            f"[{state_word(record.state, language)}·{severity_word(record.severity, language)}] "
            f"{_series_zh(record.series)}："
            f"{seen.window}内负面文本 {_number(seen.negative)} 篇（共 {_number(seen.documents)} 篇），"
            f"预期约 {_number(seen.expected_negative)} 篇"
        )
    kind = "slow deterioration" if record.kind == "deterioration" else "negative surge"
    counts = f"{_number(seen.negative)} negative of {_number(seen.documents)} texts in {seen.window}"
    where = f"[{record.state} {record.severity}] {kind} in {_series_en(record.series)}"
    return f"{where}: {counts}, about {_number(seen.expected_negative)} expected"


def paragraph(record: AlertRecord, language: str = "en") -> str:
    """A paragraph: what, where, since when, how unlikely, who says so, what would end it."""
    seen = record.observed if record.state != "resolved" else record.peak
    strongest = record.texts[0].text.strip() if record.texts else ""
    if language == "zh":
        text = (
            f"{clock(record.since_ms)}（UTC）起，{_series_zh(record.series)}的负面文本明显多于其自身历史所能解释的水平："
            f"最近{seen.window}有 {_number(seen.negative)} 篇负面（占 {seen.share:.0%}），"
            f"预期约 {_number(seen.expected_negative)} 篇（{seen.expected_share:.0%}）；"
            f"平时出现同等或更高水平的概率约为{_chance(seen.tail_probability)}，"
            f"如此强的误报约{_every_zh(record.false_alarms_per_day)}一次。"
            f"独立来源 {record.sources} 个，转载 {record.copies} 篇。"
        )
        text += f"最强文本：“{strongest}”。" if strongest else ""
        text += f"关键词：{'、'.join(record.words)}。" if record.words else ""
        return text + _ending_zh(record)
    chance, often = _chance(seen.tail_probability), _every_en(record.false_alarms_per_day)
    text = (
        f"Since {clock(record.since_ms)} UTC {_series_en(record.series)} has more negative texts than its own past "
        f"explains: {_number(seen.negative)} in the last {seen.window} ({seen.share:.0%} of "
        f"{_number(seen.documents)}), where about {_number(seen.expected_negative)} ({seen.expected_share:.0%}) "
        f"would be expected. The chance of that many or more is {chance}; ordinary days raise an alert this strong "
        f"about once in {often}. {_sources_en(record.sources, record.copies)}"
    )
    text += f' Strongest text: "{strongest}".' if strongest else ""
    text += f" Words that drove it: {', '.join(record.words)}." if record.words else ""
    return text + " " + _ending_en(record)


def resolves_when(window_ms: int, negative: int, calm_ms: int, language: str = "en") -> str:
    """What would resolve it."""
    window, calm = format_duration(window_ms), format_duration(calm_ms)
    if language == "zh":
        return f"{window}窗口内负面文本少于 {negative} 篇并持续 {calm} 后解除"
    return f"resolves once the {window} window holds fewer than {negative} negative texts for {calm}"


def state_word(state: str, language: str = "en") -> str:
    """A state in words."""
    return _STATE_ZH[state] if language == "zh" else state


def severity_word(severity: str, language: str = "en") -> str:
    """A severity in words; one of the user's own stays as it is."""
    return _SEVERITY_ZH.get(severity, severity) if language == "zh" else severity


def _ending_en(record: AlertRecord) -> str:
    if record.state == "resolved" and record.resolved_at_ms is not None:
        return f"Resolved at {clock(record.resolved_at_ms)} UTC."
    return f"It {record.resolves_when}."


def _ending_zh(record: AlertRecord) -> str:
    if record.state == "resolved" and record.resolved_at_ms is not None:
        return f"已于 {clock(record.resolved_at_ms)}（UTC）解除。"
    return f"{record.resolves_when}。"


def _sources_en(sources: int, copies: int) -> str:
    said = f"{sources} independent source{'' if sources == 1 else 's'}"
    return f"{said}, {copies} further cop{'y' if copies == 1 else 'ies'} folded in."


def _series_en(key: str) -> str:
    return " on ".join(_KIND_EN.get(kind, kind) + name for kind, name in parts_of(key)) or "all texts"


def _series_zh(key: str) -> str:
    return "、".join(_KIND_ZH.get(kind, kind) + "“" + name + "”" for kind, name in parts_of(key)) or "全部文本"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def _chance(probability: float) -> str:
    if probability <= 1e-12:
        return "below 1 in 10^12"
    if probability >= 0.01:
        return f"{probability:.0%}"
    exponent = math.floor(-math.log10(probability))
    if exponent < 6:
        return f"1 in {float(f'{1 / probability:.2g}'):,.0f}"
    return f"1 in 10^{exponent}"


def _days(rate_per_day: float) -> float:
    return 1.0 / max(rate_per_day, 1e-9)


def _every_en(rate_per_day: float) -> str:
    days = _days(rate_per_day)
    if days >= 36500:
        return "over 100 years"
    if days >= 730:
        return f"{days / 365:.0f} years"
    return f"{days:.0f} days" if days >= 2 else f"{max(days * 24, 1):.0f} hours"


def _every_zh(rate_per_day: float) -> str:
    days = _days(rate_per_day)
    if days >= 36500:
        return "百年以上"
    if days >= 730:
        return f"{days / 365:.0f} 年"
    return f"{days:.0f} 天" if days >= 2 else f"{max(days * 24, 1):.0f} 小时"


def clock(time_ms: int) -> str:
    """Date and time to the minute, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
