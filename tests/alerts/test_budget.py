"""A book's budget: all rules are tightened alike until the sum over their active series is within it."""

from __future__ import annotations

import pytest

from alerts.desk import Desk
from alerts.engine import AlertEngine
from alerts.panes import NO_EVIDENCE
from alerts.rules import Budget, Rule, RuleSet
from tests.alerts.streams import WINDOWS_MS, observed, panes, run
from tests.alerts.test_life_properties import encoded, stream

RULES = (Rule(name="all", max_false_alarms="1 per week"), Rule(name="parts", series=("company:*",)))


def rule_set(budget: str | None) -> RuleSet:
    return RuleSet(rules=RULES, budget=None if budget is None else Budget(max_false_alarms=budget))


def engine(budget: str | None) -> AlertEngine:
    return AlertEngine(rule_set(budget), book="main", pane_ms=60_000, windows_ms=WINDOWS_MS)


def desk(budget: str | None) -> Desk:
    return Desk(rule_set(budget), book="main", pane_ms=60_000, windows_ms=WINDOWS_MS)


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
        records += observed(current[-1], pane)
    assert encoded(records) == whole


@pytest.mark.parametrize(("before", "after"), [("1 per 30d", "2 per week"), (None, "1 per 30d"), ("1 per 30d", None)])
def test_a_budget_that_is_changed_added_or_taken_out_counts_from_there_on(
    before: str | None, after: str | None
) -> None:
    watching, clock_ms = desk(before), 0
    for pane in panes(stream(3), lambda: watching.is_live()):
        watching.observe(pane, lambda series, start_ms, end_ms: NO_EVIDENCE, "model-test")
        clock_ms = pane.end_ms
    watching.take_rules(rule_set(after), clock_ms)
    if after is None:
        assert watching.engine.tightness == 1.0
        assert watching.engine.timings == engine(None).timings
    else:
        assert spent_per_day(watching.engine) == pytest.approx(Budget(max_false_alarms=after).per_day, rel=1e-9)
    restarted = desk(before)
    restarted.restore(watching.snapshot())
    assert restarted.engine.timings == watching.engine.timings


def test_rules_without_a_budget_do_not_stay_tightened() -> None:
    watching = engine(None)
    watching._tighten(0.1)
    run(watching, stream(3))
    assert watching.tightness == 1.0
