"""What alerts and notifications say, in English and in Chinese: every kind of sentence, and no mixture of the two."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.announcing import FULL_RECORDS, notification, text, title
from alerts.durations import format_duration
from alerts.records import AlertRecord, AlertText
from alerts.wording import line, paragraph, resolves_when
from tests.sinks.notifications import READING, alert

HOUR_MS = 3_600_000
SINCE_MS = 1_772_633_400_000
ENGLISH = AlertText(id="1", text="Tallybridge admits fraud ", published_at_ms=SINCE_MS, negative=0.97)
CHINESE = AlertText(id="1", text="泰利桥承认财务造假", published_at_ms=SINCE_MS, negative=0.97)
WORDS = {"en": ("admits", "fraud"), "zh": ("承认", "造假")}
PEAK = msgspec.structs.replace(
    READING, window="1d", window_ms=24 * HOUR_MS, negative=26.0, documents=53.0, share=26 / 53
)

EN_BODY = (
    "has more negative texts than its own past explains: 7 in the last 1h (78% of 9), where about 0.2 (19%) would be "
    "expected. The chance of that many or more is 1 in 10^7; ordinary days raise an alert this strong about once in "
    "2 years. 5 independent sources, 6 further copies folded in."
)
ZH_BODY = (
    "的负面文本明显多于其自身历史所能解释的水平：最近 1 小时共 9 篇文本，其中负面 7 篇（占 78%），"
    "预期约 0.2 篇（19%）；"
    "平时出现同等或更高水平的概率约为一千万分之一，仅凭偶然，如此强的告警约每 2 年一次。独立来源 5 个，转载 6 篇。"
)
SERIES = {
    "all": ("all texts", "全部文本"),
    "company:TLYB": ("company TLYB", "公司“TLYB”"),
    "topic:Fed | Central Banks": ("topic Fed | Central Banks", "主题“Fed | Central Banks”"),
    "sector:Payments": ("sector Payments", "行业“Payments”"),
    "company:TLYB|topic:Legal": ("company TLYB on topic Legal", "公司“TLYB”（主题“Legal”）"),
}


def record(language: str = "en", *, words: bool = False, **changes: Any) -> AlertRecord:
    """A firing alert as the engine writes it, its sentences in `language`."""
    bare = alert(
        **{
            "at_ms": SINCE_MS + 5 * 60_000,
            "since_ms": SINCE_MS,
            "peak": PEAK,
            "false_alarms_per_day": 1 / 730,
            "texts": (CHINESE if language == "zh" else ENGLISH,),
            "words": WORDS[language] if words else (),
            "resolves_when": resolves_when(HOUR_MS, 4, 10 * 60_000, language),
            **changes,
        }
    )
    return msgspec.structs.replace(bare, line=line(bare, language), paragraph=paragraph(bare, language))


def resolved(language: str = "en", **changes: Any) -> AlertRecord:
    return record(language, state="resolved", change="resolved", resolved_at_ms=SINCE_MS + 2 * HOUR_MS, **changes)


@pytest.mark.parametrize("series", SERIES)
def test_a_firing_alert_says_where_what_and_how_unlikely(series: str) -> None:
    english, chinese = record(series=series), record("zh", series=series)
    en, zh = SERIES[series]
    assert english.line == f"[firing high] negative surge in {en}: 7 negative of 9 texts in 1h, about 0.2 expected"
    assert chinese.line == f"[告警·严重] {zh}负面文本激增：1 小时内共 9 篇文本，负面 7 篇，预期约 0.2 篇"
    assert english.paragraph == (
        f'Since 2026-03-04 14:10 UTC {en} {EN_BODY} Strongest text: "Tallybridge admits fraud". '
        "It resolves once the 1h window holds fewer than 4 negative texts for 10m."
    )
    assert chinese.paragraph == (
        f"2026-03-04 14:10（UTC）起，{zh}{ZH_BODY}最强文本：“泰利桥承认财务造假”。"
        "1 小时窗口内负面文本少于 4 篇并持续 10 分钟后解除。"
    )


def test_the_words_that_drove_it_stand_behind_the_strongest_text() -> None:
    assert ' fraud". Words that drove it: admits, fraud. It resolves' in record(words=True).paragraph
    assert "造假”。关键词：承认、造假。1 小时窗口" in record("zh", words=True).paragraph


def test_a_text_cannot_begin_a_line_of_its_own() -> None:
    forged = AlertText(
        id="1", text='Shares fall"\nResolved. Nothing to do.\u2028\r', published_at_ms=SINCE_MS, negative=0.99
    )
    assert len(record(texts=(forged,)).paragraph.splitlines()) == 1
    assert len(text(group("en", texts=(forged,)), "en").splitlines()) == len(text(group("en"), "en").splitlines())


def test_without_texts_there_is_no_strongest_one() -> None:
    assert record(texts=()).paragraph.endswith("folded in. It resolves once the 1h window holds fewer than 4 negative "
                                               "texts for 10m.")  # fmt: skip
    assert "转载 6 篇。1 小时窗口" in record("zh", texts=()).paragraph


def test_a_resolved_alert_tells_its_peak_and_when_it_ended() -> None:
    english, chinese = resolved(), resolved("zh")
    assert english.line == (
        "[resolved high] negative surge in company TLYB: 26 negative of 53 texts in 1d, about 0.2 expected"
    )
    assert chinese.line == "[已解除·严重] 公司“TLYB”负面文本激增：1 天内共 53 篇文本，负面 26 篇，预期约 0.2 篇"
    assert "26 in the last 1d (49% of 53)" in english.paragraph
    assert "最近 1 天共 53 篇文本，其中负面 26 篇（占 49%）" in chinese.paragraph
    assert english.paragraph.endswith("Resolved at 2026-03-04 16:10 UTC.")
    assert chinese.paragraph.endswith("已于 2026-03-04 16:10（UTC）解除。")


def test_slow_deterioration_is_called_so() -> None:
    changes: dict[str, Any] = {"kind": "deterioration", "state": "pending", "severity": "warning"}
    assert record(**changes).line.startswith("[pending warning] slow deterioration in company TLYB: ")
    assert record("zh", **changes).line.startswith("[待定·警告] 公司“TLYB”负面文本持续增多：")


def test_a_severity_of_the_users_own_stays_as_it_is() -> None:
    assert record("zh", severity="一级").line.startswith("[告警·一级]")
    assert record("zh", severity="critical").line.startswith("[告警·危急]")


@pytest.mark.parametrize(
    ("probability", "english", "chinese"),
    [
        (0.0, "is below 1 in 10^12;", "概率不到一万亿分之一，"),
        (1e-12, "is below 1 in 10^12;", "概率不到一万亿分之一，"),
        (2e-12, "is 1 in 10^11;", "概率约为一千亿分之一，"),
        (3e-9, "is 1 in 10^8;", "概率约为一亿分之一，"),
        (1e-6, "is 1 in 10^6;", "概率约为一百万分之一，"),
        (4.3e-4, "is 1 in 2,300;", "概率约为 2,300 分之一，"),
        (0.05, "is 5%;", "概率约为 5%，"),
    ],
)
def test_a_chance_reads_as_one_in_so_many(probability: float, english: str, chinese: str) -> None:
    reading = msgspec.structs.replace(READING, tail_probability=probability)
    assert english in record(observed=reading).paragraph
    assert chinese in record("zh", observed=reading).paragraph


@pytest.mark.parametrize(
    ("days", "english", "chinese"),
    [
        (1 / 24, "about once an hour.", "约每 1 小时一次。"),
        (1.0, "about once in 24 hours.", "约每 24 小时一次。"),
        (30.0, "about once in 30 days.", "约每 30 天一次。"),
        (3650.0, "about once in 10 years.", "约每 10 年一次。"),
        (1e9, "less than once in 100 years.", "一百年也不到一次。"),
    ],
)
def test_how_often_ordinary_days_do_that(days: float, english: str, chinese: str) -> None:
    assert f"an alert this strong {english}" in record(false_alarms_per_day=1 / days).paragraph
    assert f"如此强的告警{chinese}" in record("zh", false_alarms_per_day=1 / days).paragraph


def test_one_source_and_one_copy_are_singular() -> None:
    assert "1 independent source, 1 further copy folded in." in record(sources=1, copies=1).paragraph


def test_durations_of_several_units_are_chinese_too() -> None:
    assert resolves_when(5_400_000, 2, 90_000, "zh") == "1 小时 30 分钟窗口内负面文本少于 2 篇并持续 1 分钟 30 秒后解除"
    assert resolves_when(5_400_000, 2, 90_000) == (
        "resolves once the 1h30m window holds fewer than 2 negative texts for 1m30s"
    )


READINGS = st.builds(
    lambda ms, negative, more, expected, share, chance: msgspec.structs.replace(
        READING, window=format_duration(ms), window_ms=ms, negative=negative, documents=negative + more,
        share=negative / (negative + more), expected_negative=expected, expected_share=share, tail_probability=chance,
    ),
    st.integers(1, 1000).map(lambda n: n * 30_000), st.floats(1, 1e5), st.floats(0, 1e5), st.floats(0, 1e4),
    st.floats(0, 1), st.one_of(st.floats(0, 1), st.floats(-14, 0).map(lambda exponent: 10.0**exponent)),
)  # fmt: skip


@given(
    reading=READINGS,
    peak=READINGS,
    state=st.sampled_from(["pending", "firing", "resolved"]),
    kind=st.sampled_from(["surge", "deterioration"]),
    severity=st.sampled_from(["warning", "high", "critical"]),
    series=st.sampled_from(["all", "company:零一", "topic:监管", "sector:支付", "company:零一|topic:监管"]),
    rate=st.floats(0, 1e3),
    words=st.booleans(),
    count=st.sampled_from([1, 2, FULL_RECORDS + 3]),
)
def test_no_english_is_left_in_chinese_sentences(
    reading: Any, peak: Any, state: str, kind: str, severity: str, series: str, rate: float, words: bool, count: int
) -> None:
    ended = SINCE_MS + HOUR_MS if state == "resolved" else None
    one = record(
        "zh", words=words, observed=reading, peak=peak, state=state, kind=kind, severity=severity, series=series,
        false_alarms_per_day=rate, resolved_at_ms=ended,
        resolves_when=resolves_when(reading.window_ms, 2, peak.window_ms, "zh"),
    )  # fmt: skip
    said = [one.line, one.paragraph, title([one] * count, severity, "zh"), text([one] * count, "zh")]
    for sentence in said:
        assert not re.search(r"[A-Za-z^]", sentence.replace("UTC", "")), sentence
        assert not re.search(r"[\u4e00-\u9fff][,:;!?]", sentence), "punctuation is full-width"


def group(language: str, **changes: Any) -> list[AlertRecord]:
    names = ["company:A", "company:B", "company:C", "company:D", "company:E", "topic:Oil", "sector:Energy", "all"]
    return [record(language, series=name, **changes) for name in names]


def test_a_group_lists_its_companies_topics_and_sectors() -> None:
    assert title(group("en"), "high", "en") == (
        "[firing high] negative surge in 8 series: companies A, B, C, D and 1 more; topic Oil; sector Energy; all texts"
    )
    assert title(group("zh"), "high", "zh") == (
        "[告警·严重] 8 个序列的负面文本激增：5 家公司（A、B、C、D 等）；1 个主题（Oil）；1 个行业（Energy）；全部文本"
    )


def test_a_group_that_only_deteriorates_or_is_over_is_called_so() -> None:
    slow = group("en", kind="deterioration")[:2]
    assert title(slow, "high", "en") == "[firing high] slow deterioration in 2 series: companies A, B"
    assert title([slow[0], record(series="company:B")], "high", "en").startswith("[firing high] negative surge in 2")
    assert title(group("zh", kind="deterioration")[:2], "high", "zh") == (
        "[告警·严重] 2 个序列的负面文本持续增多：2 家公司（A、B）"
    )
    over = [resolved("zh", series=name) for name in ("topic:Oil", "topic:Gas")]
    assert title(over, "high", "zh") == "[已解除·严重] 2 个序列的负面文本激增：2 个主题（Oil、Gas）"


def test_a_group_tells_since_when_its_strongest_text_and_the_line_of_each() -> None:
    english, chinese = group("en"), group("zh")
    first, *lines = text(english, "en").split("\n")
    assert first == 'Since 2026-03-04 14:10 UTC. Strongest text: "Tallybridge admits fraud".'
    assert lines == [each.line for each in english]
    first, *lines = text(chinese, "zh").split("\n")
    assert first == "2026-03-04 14:10（UTC）起。最强文本：“泰利桥承认财务造假”。"
    assert lines == [each.line for each in chinese]
    assert text(group("en", texts=()), "en").startswith("Since 2026-03-04 14:10 UTC.\n[firing")


def test_the_strongest_text_of_a_group_is_one_that_its_alerts_share() -> None:
    other = AlertText(id="2", text="Corvannis sinks", published_at_ms=SINCE_MS, negative=0.99)
    pair = [record(series="all", texts=(other, ENGLISH)), record(series="company:TLYB")]
    assert "Tallybridge admits fraud" in text(pair, "en").split("\n")[0]
    assert "Corvannis sinks" in text([pair[0], record(texts=())], "en").split("\n")[0]


def test_what_does_not_fit_into_a_group_is_counted() -> None:
    many = [record(series=f"company:C{number}") for number in range(FULL_RECORDS + 3)]
    assert text(many, "en").endswith("\nand 3 more series")
    assert text(many, "zh").endswith("\n另有 3 个序列。")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_notification_about_one_alert_says_what_the_alert_says(language: str) -> None:
    one = record(language, words=True)
    told = notification(
        [one], group="g", sequence=1, receivers=("desk",), at_ms=one.at_ms, severities=("warning", "high"),
        language=language,
    )  # fmt: skip
    assert (told.title, told.text, told.severity) == (one.line, one.paragraph, "high")
