"""How alerts are held against the surges that the stream truly has."""

from __future__ import annotations

from alerts.records import AlertRecord, Change, Reading
from streamer.demo.judging import GRACE_MS, judge
from streamer.demo.surges import Surge

HOUR = 3_600_000
START = "2026-03-04T14:00:00Z"
START_MS = 1_772_632_800_000
READING = Reading(
    window="15m", window_ms=900_000, negative=9, documents=10, share=0.9, expected_negative=0.4, expected_share=0.1,
    tail_probability=1e-9,
)  # fmt: skip
FRAUD = Surge(
    name="Fraud", kind="negative", shape="flash", series=("company:TLYB",), related=("topic:Legal | Regulation", "all"),
    start=START, peak="2026-03-04T14:10:00Z", end="2026-03-04T15:00:00Z", documents=40,
)  # fmt: skip
BID = Surge(
    name="Bid", kind="positive", shape="flash", series=("company:KSTN",), related=(),
    start="2026-03-04T18:00:00Z", peak="2026-03-04T18:10:00Z", end="2026-03-04T19:00:00Z", documents=40,
)  # fmt: skip


def alert(series: str, after_ms: int, change: Change = "fired") -> AlertRecord:
    at_ms = START_MS + after_ms
    return AlertRecord(
        id=f"{series}-{after_ms}", sequence=1, state="firing", change=change, severity="high", peak_severity="high",
        kind="surge", book="main", rule="negative-surge", series=series, labels={}, since_ms=at_ms, at_ms=at_ms,
        fired_at_ms=at_ms, resolved_at_ms=None, observed=READING, peak=READING, windows=(READING,),
        false_alarms_per_day=0.001, budget_per_day=0.03, sources=5, copies=2, texts=(), history=(), resolves_when="",
        line="", paragraph="", model="m", rules="r",
    )  # fmt: skip


def test_a_surge_is_caught_by_the_first_alert_in_its_own_series() -> None:
    judgement = judge([FRAUD], [alert("company:TLYB", 20 * 60_000), alert("company:TLYB", 7 * 60_000)])
    verdict = judgement.verdicts[0]
    assert verdict.caught
    assert not verdict.missed
    assert verdict.delay_ms == 7 * 60_000
    assert len(verdict.others) == 1
    assert judgement.for_nothing == ()


def test_an_alert_in_a_related_series_neither_catches_nor_counts_as_false() -> None:
    judgement = judge([FRAUD], [alert("topic:Legal | Regulation", 60_000)])
    assert judgement.verdicts[0].missed
    assert judgement.for_nothing == ()


def test_the_topic_of_a_company_belongs_to_the_company() -> None:
    assert judge([FRAUD], [alert("company:TLYB|topic:Legal | Regulation", 60_000)]).verdicts[0].caught


def test_a_topic_label_with_a_bar_in_it_is_not_taken_apart() -> None:
    assert judge([FRAUD], [alert("topic:Legal | Regulation", 60_000)]).verdicts[0].others != ()


def test_only_firing_counts() -> None:
    records = [alert("company:TLYB", 60_000, "pending"), alert("company:TLYB", 120_000, "severity_up")]
    assert judge([FRAUD], records).verdicts[0].missed


def test_an_alert_about_something_else_or_at_another_time_is_raised_for_nothing() -> None:
    before = alert("company:TLYB", -1)
    elsewhere = alert("company:BRSK", 60_000)
    long_after = alert("all", HOUR + GRACE_MS + 1)
    judgement = judge([FRAUD], [long_after, elsewhere, before])
    assert judgement.verdicts[0].missed
    assert judgement.for_nothing == (before, elsewhere, long_after)


def test_an_alert_shortly_after_the_end_still_counts() -> None:
    assert judge([FRAUD], [alert("company:TLYB", HOUR + GRACE_MS)]).verdicts[0].caught


def test_an_alert_on_a_positive_surge_is_raised_for_nothing() -> None:
    wrong = alert("company:KSTN", 4 * HOUR + 60_000)
    judgement = judge([FRAUD, BID], [wrong])
    assert judgement.verdicts[1].first == wrong
    assert not judgement.verdicts[1].caught
    assert judgement.for_nothing == (wrong,)


def test_a_positive_surge_without_an_alert_is_as_it_should_be() -> None:
    verdict = judge([BID], []).verdicts[0]
    assert verdict.first is None
    assert not verdict.missed
