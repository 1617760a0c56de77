"""What is a surge and what is none: bad news that is new, not good news, not more of the same; fast and slow."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.engine import AlertEngine
from alerts.records import AlertRecord
from alerts.rules import Rule, RuleSet
from tests.alerts.streams import DAY_MS, HOUR_MS, NEGATIVE, NEUTRAL, POSITIVE, Texts, gather, run

Row = tuple[int, int, tuple[str, ...]]
DAYS = 8
START_MS = 20_000 * DAY_MS


def ordinary(seed: int, days: int, companies: int = 4, a_day: int = 12) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(companies):
        for at in rng.integers(0, days * DAY_MS, a_day * days).tolist():
            label = int(rng.choice((NEGATIVE, NEUTRAL, POSITIVE), p=(0.15, 0.5, 0.35)))
            rows.append((START_MS + at, label, ("all", f"company:C{number}")))
    return rows


def alarms(rows: list[Row], *, slow: bool = True, windows: tuple[str, ...] = ()) -> list[AlertRecord]:
    rules = RuleSet(rules=(Rule(name="surge", slow=slow, windows=windows, max_false_alarms="1 per 90d"),))
    engine = AlertEngine(rules, book="main", pane_ms=HOUR_MS // 4, windows_ms=(HOUR_MS // 4, HOUR_MS, DAY_MS))
    texts: Texts = gather(sorted(rows))
    return [record for record in run(engine, texts) if record.change == "fired"]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    texts=st.integers(5, 400),
    hours=st.integers(1, 24),
    positive=st.floats(0.0, 1.0),
)
def test_good_and_indifferent_news_adds_no_alarm(seed: int, texts: int, hours: int, positive: float) -> None:
    rows = ordinary(seed, DAYS)
    start_ms = START_MS + (DAYS - 2) * DAY_MS
    rng = np.random.default_rng(seed + 1)
    surge: list[Row] = [
        (start_ms + at, POSITIVE if sunny else NEUTRAL, ("all", "company:C0"))
        for at, sunny in zip(
            rng.integers(0, hours * HOUR_MS, texts).tolist(), (rng.random(texts) < positive).tolist(), strict=True
        )
    ]
    before = {(record.series, record.at_ms) for record in alarms(rows)}
    during = {
        (record.series, record.at_ms)
        for record in alarms(rows + surge)
        if start_ms <= record.at_ms <= start_ms + hours * HOUR_MS
    }
    assert during <= before


def test_the_same_surge_in_bad_news_fires_on_its_company() -> None:
    start_ms = START_MS + (DAYS - 2) * DAY_MS
    surge: list[Row] = [(start_ms + minute * 60_000, NEGATIVE, ("all", "company:C0")) for minute in range(0, 50, 5)]
    fired = [record.series for record in alarms(ordinary(3, DAYS) + surge) if record.at_ms > start_ms]
    assert "company:C0" in fired
    assert "company:C1" not in fired


def test_slow_deterioration_fires_where_no_window_is_rare() -> None:
    days, turn = 40, 30
    rows = ordinary(4, days, companies=6, a_day=24)
    rng = np.random.default_rng(9)
    worse: list[Row] = []
    for time_ms, label, names in rows:
        late = time_ms >= START_MS + turn * DAY_MS and "company:C0" in names
        worse.append((time_ms, NEGATIVE if late and rng.random() < 0.25 else label, names))
    kinds = {
        record.kind
        for record in alarms(worse)
        if record.series == "company:C0" and record.at_ms > START_MS + turn * DAY_MS
    }
    assert "deterioration" in kinds
