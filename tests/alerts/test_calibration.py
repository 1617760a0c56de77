"""The observed rate of alarms on streams in which nothing is the matter is the stated one, within a factor of 1.5.

Series are overdispersed by the hour and the day, with a rhythm of day and week, and differ in volume and share. All
have several negative texts a day, so that each budget can be spent. 61 series over 45 counted days are 2,745 series
days: 92 alarms are expected at one a month, of which the statistical error is 10 %, and more at the other budgets.
"""

from __future__ import annotations

import pytest

from alerts.durations import parse_rate_per_day
from alerts.engine import AlertEngine
from alerts.rules import Rule, RuleSet
from tests.alerts.streams import DAY_MS, HOUR_MS, run
from tests.benchmarks.alert_surrogates import MONDAY_MS, synthetic

QUARTER_MS = HOUR_MS // 4
SERIES, DAYS, LEARNING_DAYS = 60, 75, 30


@pytest.mark.parametrize("budget", ["1 per day", "1 per week", "1 per month"])
def test_ordinary_streams_spend_the_budget_and_no_more(budget: str) -> None:
    texts = synthetic(5, series=SERIES, days=DAYS, slowest=25.0, busiest=150.0)
    rules = RuleSet(rules=(Rule(name="surge", max_false_alarms=budget),))
    engine = AlertEngine(rules, book="main", pane_ms=QUARTER_MS, windows_ms=(QUARTER_MS, HOUR_MS, DAY_MS))
    counted_from_ms = MONDAY_MS + LEARNING_DAYS * DAY_MS
    alarms = sum(record.change == "fired" and record.at_ms > counted_from_ms for record in run(engine, texts))
    expected = len(texts.keys) * (DAYS - LEARNING_DAYS) * parse_rate_per_day(budget)
    assert 1 / 1.5 <= alarms / expected <= 1.5
