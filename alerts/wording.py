"""What an alert says to a person: one line and one paragraph, in English or Chinese. Pure functions of the record."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from alerts.durations import format_duration
from alerts.records import AlertRecord, Kind
from alerts.series_keys import parts_of

_SEVERITY_ZH = {"warning": "警告", "high": "严重", "critical": "危急"}
_STATE_ZH = {"pending": "待定", "firing": "告警", "resolved": "已解除"}
_KIND_EN = {"surge": "negative surge", "deterioration": "slow deterioration"}
_KIND_ZH = {"surge": "负面文本激增", "deterioration": "负面文本持续增多"}
_PART_EN = {"company": "company ", "topic": "topic ", "sector": "sector "}
_PART_ZH = {"company": "公司", "topic": "主题", "sector": "行业"}
_UNITS_ZH = {"d": "天", "h": "小时", "m": "分钟", "s": "秒", "ms": "毫秒"}
_ONE_IN_ZH = ("一百万", "一千万", "一亿", "十亿", "一百亿", "一千亿", "一万亿")


def line(record: AlertRecord, language: str = "en") -> str:
    """One line: state, severity, where, observed against expected."""
    seen = record.observed if record.state != "resolved" else record.peak
    if language == "zh":
        return (
            f"[{state_word(record.state, language)}·{severity_word(record.severity, language)}] "
            f"{_series_zh(record.series)}{kind_word(record.kind, language)}："
            f"{_duration_zh(seen.window_ms)}内共 {_number(seen.documents)} 篇文本，负面 {_number(seen.negative)} 篇，"
            f"预期约 {_number(seen.expected_negative)} 篇"
        )
    counts = f"{_number(seen.negative)} negative of {_number(seen.documents)} texts in {seen.window}"
    where = f"[{record.state} {record.severity}] {kind_word(record.kind)} in {_series_en(record.series)}"
    return f"{where}: {counts}, about {_number(seen.expected_negative)} expected"


def paragraph(record: AlertRecord, language: str = "en") -> str:
    """A paragraph: what, where, since when, how unlikely, who says so, what would end it."""
    seen = record.observed if record.state != "resolved" else record.peak
    strongest = on_one_line(record.texts[0].text) if record.texts else ""
    if language == "zh":
        text = (
            f"{clock(record.since_ms)}（UTC）起，{_series_zh(record.series)}的负面文本明显多于其自身历史所能解释的水平："
            f"最近 {_duration_zh(seen.window_ms)}共 {_number(seen.documents)} 篇文本，"
            f"其中负面 {_number(seen.negative)} 篇（占 {seen.share:.0%}），"
            f"预期约 {_number(seen.expected_negative)} 篇（{seen.expected_share:.0%}）；"
            f"平时出现同等或更高水平的概率{_chance_zh(seen.tail_probability)}，"
            f"仅凭偶然，如此强的告警{_every_zh(record.false_alarms_per_day)}。"
            f"独立来源 {record.sources} 个，转载 {record.copies} 篇。"
        )
        text += f"最强文本：“{strongest}”。" if strongest else ""
        text += f"关键词：{'、'.join(record.words)}。" if record.words else ""
        return text + _ending_zh(record)
    chance, often = _chance_en(seen.tail_probability), _every_en(record.false_alarms_per_day)
    text = (
        f"Since {clock(record.since_ms)} UTC {_series_en(record.series)} has more negative texts than its own past "
        f"explains: {_number(seen.negative)} in the last {seen.window} ({seen.share:.0%} of "
        f"{_number(seen.documents)}), where about {_number(seen.expected_negative)} ({seen.expected_share:.0%}) "
        f"would be expected. The chance of that many or more is {chance}; ordinary days raise an alert this strong "
        f"{often}. {_sources_en(record.sources, record.copies)}"
    )
    text += f' Strongest text: "{strongest}".' if strongest else ""
    text += f" Words that drove it: {', '.join(record.words)}." if record.words else ""
    return text + " " + _ending_en(record)


def on_one_line(text: str) -> str:
    """A quoted text without its line breaks: what a stranger wrote never stands on a line of its own."""
    return " ".join(text.split())


def resolves_when(window_ms: int, negative: int, calm_ms: int, language: str = "en") -> str:
    """What would resolve it."""
    if language == "zh":
        window, calm = _duration_zh(window_ms), _duration_zh(calm_ms)
        return f"{window}窗口内负面文本少于 {negative} 篇并持续 {calm}后解除"
    window, calm = format_duration(window_ms), format_duration(calm_ms)
    return f"resolves once the {window} window holds fewer than {negative} negative texts for {calm}"


def kind_word(kind: Kind, language: str = "en") -> str:
    """What happens, in words."""
    return _KIND_ZH[kind] if language == "zh" else _KIND_EN[kind]


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
    return " on ".join(_PART_EN.get(kind, kind) + name for kind, name in parts_of(key)) or "all texts"


def _series_zh(key: str) -> str:
    named = [f"{_PART_ZH.get(kind, kind)}“{name}”" for kind, name in parts_of(key)] or ["全部文本"]
    return named[0] + "".join(f"（{part}）" for part in named[1:])


def _number(value: float) -> str:
    if value >= 10 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}" if value >= 0.001 else "0"


def _duration_zh(duration_ms: int) -> str:
    parts = re.findall(r"(\d+)([a-z]+)", format_duration(duration_ms))
    return " ".join(f"{count} {_UNITS_ZH[unit]}" for count, unit in parts)


def _chance_en(probability: float) -> str:
    if probability <= 1e-12:
        return "below 1 in 10^12"
    if probability >= 0.01:
        return f"{probability:.0%}"
    exponent = _exponent(probability)
    return f"1 in 10^{exponent}" if exponent >= 6 else f"1 in {_one_in(probability)}"


def _chance_zh(probability: float) -> str:
    if probability <= 1e-12:
        return f"不到{_ONE_IN_ZH[-1]}分之一"
    if probability >= 0.01:
        return f"约为 {probability:.0%}"
    exponent = _exponent(probability)
    return f"约为{_ONE_IN_ZH[exponent - 6]}分之一" if exponent >= 6 else f"约为 {_one_in(probability)} 分之一"


def _exponent(probability: float) -> int:
    return math.floor(-math.log10(probability))


def _one_in(probability: float) -> str:
    return f"{float(f'{1 / probability:.2g}'):,.0f}"


def _days(rate_per_day: float) -> float:
    return 1.0 / max(rate_per_day, 1e-9)


def _every_en(rate_per_day: float) -> str:
    days = _days(rate_per_day)
    if days >= 36500:
        return "less than once in 100 years"
    if days >= 730:
        return f"about once in {days / 365:.0f} years"
    if days >= 2:
        return f"about once in {days:.0f} days"
    hours = max(round(days * 24), 1)
    return "about once an hour" if hours == 1 else f"about once in {hours} hours"


def _every_zh(rate_per_day: float) -> str:
    days = _days(rate_per_day)
    if days >= 36500:
        return "一百年也不到一次"
    if days >= 730:
        return f"约每 {days / 365:.0f} 年一次"
    return f"约每 {days:.0f} 天一次" if days >= 2 else f"约每 {max(round(days * 24), 1)} 小时一次"


def clock(time_ms: int) -> str:
    """Date and time to the minute, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
