"""A book's budget: all rules are tightened alike until the sum over their active series is within it."""

from __future__ import annotations

import pytest

from alerts.engine import AlertEngine
from alerts.panes import NO_EVIDENCE
from alerts.rules import Budget, Rule, RuleSet
from tests.alerts.streams import WINDOWS_MS, panes, run
from tests.alerts.test_life_properties import encoded, stream

RULES = (Rule(name="all", max_false_alarms="1 per week"), Rule(name="parts", series=("company:*",)))


def engine(budget: str | None) -> AlertEngine:
    rules = RuleSet(rules=RULES, budget=None if budget is None else Budget(max_false_alarms=budget))
    return AlertEngine(rules, book="main", pane_ms=60_000, windows_ms=WINDOWS_MS)


def spent_per_day(watching: AlertEngine) -> float:
    """What the rules may cost together, by the rates that are in force."""
    active = [int((detector.seen_ms >= 0).sum()) for detector in watching.detectors]
    assert all(active)
    return sum(10.0**-timings.fire * series for timings, series in zip(watching.timings, active, strict=True))


def test_the_sum_over_rules_and_active_series_is_within_the_budget() -> None:
    for budget, per_day in (("2 per week", 2 / 7), ("1 per 30d", 1 / 30)):
        watching = engine(budget)
        run(watching, stream(3))
        assert spent_per_day(watching) == pytest.approx(per_day, rel=1e-9)


def test_a_budget_that_is_not_used_up_changes_nothing() -> None:
    plain, rich = engine(None), engine("100 per 1d")
    records = run(plain, stream(3))
    assert records
    assert {r.id: r.budget_per_day for r in run(rich, stream(3))} == {r.id: r.budget_per_day for r in records}
    assert rich.tightness == 1.0


def test_a_smaller_budget_raises_fewer_alerts_and_says_so() -> None:
    loose, tight = run(engine(None), stream(3)), run(engine("1 per 10y"), stream(3))
    assert sum(r.change == "fired" for r in tight) < sum(r.change == "fired" for r in loose)
    assert all(r.budget_per_day < 1 / 30 for r in tight if r.rule == "parts")


def test_a_restart_keeps_to_the_same_rates() -> None:
    whole = encoded(run(engine("1 per 30d"), stream(3)))
    current = [engine("1 per 30d")]
    records = []
    for number, pane in enumerate(panes(stream(3), lambda: current[-1].is_live())):
        if number == 300:
            current.append(engine("1 per 30d"))
            current[-1].restore(current[0].snapshot())
        records += current[-1].observe(pane, lambda series, start_ms, end_ms: NO_EVIDENCE, "model-test")
    assert encoded(records) == whole
