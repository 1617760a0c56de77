"""What the engine does with live alerts while their series are silent, while they fire, and after they end."""

from __future__ import annotations

import time

import numpy as np
import pytest

from alerts.desk import Desk
from alerts.engine import AlertEngine
from alerts.life import Life, Timings
from alerts.packing import pack, unpack
from alerts.panes import DOCUMENTS, FIELDS, NEGATIVE, ClosedPane, Evidence
from alerts.records import AlertRecord
from alerts.rules import Life as Times
from alerts.rules import Rule, RuleSet
from tests.alerts import streams
from tests.alerts.streams import DAY_MS, HOUR_MS, MINUTE_MS, gather, observed, run
from tests.alerts.test_life_properties import START_MS as STREAM_MS
from tests.alerts.test_life_properties import burst, quiet_days

KEYS = ("all", "company:A")
START_MS = 20_000 * DAY_MS


def pane_of(engine: AlertEngine, at_ms: int, said: dict[int, tuple[int, int]]) -> ClosedPane:
    """The pane from `at_ms` on, of which alone the windows are; `said` has documents and negative ones by series."""
    ids = np.array(sorted(said), np.int64)
    counts = np.zeros((len(ids), len(FIELDS)), np.int64)
    counts[:, [DOCUMENTS, NEGATIVE]] = np.array([said[series] for series in ids.tolist()]).reshape(-1, 2)
    windows = np.zeros((len(engine.windows_ms), len(KEYS), len(FIELDS)), np.int64)
    windows[:, ids] = counts
    return ClosedPane(at_ms, at_ms + engine.pane_ms, ids, counts, windows, KEYS)


def shown(engine: AlertEngine, at_ms: int, said: dict[int, tuple[int, int]]) -> list[AlertRecord]:
    """What the engine makes of that pane."""
    return observed(engine, pane_of(engine, at_ms, said))


def watching(rules: RuleSet, *, pane_ms: int = MINUTE_MS) -> AlertEngine:
    """An engine that has seen ten calm days, up to `START_MS`."""
    engine = AlertEngine(rules, book="main", pane_ms=pane_ms, windows_ms=(pane_ms, 4 * pane_ms))
    for hour in range(-240, 0):
        shown(engine, (START_MS + hour * HOUR_MS) // pane_ms * pane_ms, dict.fromkeys((0, 1), (1, int(hour % 5 == 0))))
    return engine


def fire(engine: AlertEngine, at_ms: int) -> None:
    """Let an alert on `company:A` be firing since `at_ms`."""
    engine.lives[0, 1] = Life(
        id="x", rule=0, series=1, key=KEYS[1], channel=0, since_ms=at_ms, severity=0, peak_severity=0, rarity=3.0,
        state="firing", sequence=1, fired_ms=at_ms, told_ms=at_ms,
    )  # fmt: skip


def test_two_alerts_on_one_series_rest_each_on_the_stories_of_its_own_window() -> None:
    engine = watching(RuleSet(rules=(Rule(name="fast", windows=("1m",)), Rule(name="broad", windows=("4m",)))))

    def evidence(series: int, start_ms: int, end_ms: int) -> Evidence:
        return Evidence(sources=3, copies=0, texts=(), stories=((end_ms - start_ms) // MINUTE_MS,))

    decided = engine.observe(pane_of(engine, START_MS, {1: (30, 30)}), evidence, "model-test")
    assert {(each.record.rule, each.record.state, each.stories) for each in decided} >= {
        ("fast", "firing", (1,)),
        ("broad", "firing", (4,)),
    }
    assert len({each.stories for each in decided if each.record.rule == "broad"}) == 1


@pytest.mark.parametrize(("pane_minutes", "minutes"), [(1, 20), (5, 20), (16, 32), (45, 90)])
def test_a_silent_alert_is_looked_at_every_ten_minutes_or_every_longer_pane(pane_minutes: int, minutes: int) -> None:
    """Calm is seen at the first look, and has lasted `resolve_after: 10m` at the second."""
    pane_ms = pane_minutes * MINUTE_MS
    engine = watching(RuleSet(), pane_ms=pane_ms)
    start_ms = -(-START_MS // (10 * pane_ms)) * 10 * pane_ms
    fire(engine, start_ms)
    records: list[AlertRecord] = []
    for pane in range(100):
        records += shown(engine, start_ms + pane * pane_ms, {})
    assert [(record.change, record.at_ms - start_ms) for record in records] == [("resolved", minutes * MINUTE_MS)]


def test_a_pending_alert_is_withdrawn_after_calm_that_lasts_and_not_after_two_moments_of_it() -> None:
    life = Life(
        id="x", rule=0, series=1, key=KEYS[1], channel=0, since_ms=0, severity=0, peak_severity=0, rarity=0.0
    )  # fmt: skip
    timings = Timings.of(Rule(name="r", min_sources=2))
    changes = {}
    for minute in range(80):
        rarity = 0.0 if minute in (1, 60) or minute > 65 else 5.0
        change = life.step(minute * MINUTE_MS, rarity, timings, backed=False)
        if change is not None:
            changes[minute] = change
            if change == "withdrawn":
                break
    assert changes == {0: "pending", 76: "withdrawn"}


def test_a_series_rests_for_all_of_a_cool_down_that_is_longer_than_the_longest_window() -> None:
    rng = np.random.default_rng(3)
    hours = (55.0, 85.0, 115.0)
    rows = quiet_days(rng, 6, 120) + [row for hour in hours for row in burst(rng, hour, 40, 1.0, streams.NEGATIVE)]
    rules = RuleSet(rules=(Rule(name="r", series=("company:C2",), life=Times(cool_down="2d")),))
    engine = AlertEngine(rules, book="main", pane_ms=MINUTE_MS, windows_ms=(15 * MINUTE_MS, HOUR_MS))
    fired = [record.at_ms - STREAM_MS for record in run(engine, gather(sorted(rows))) if record.change == "fired"]
    assert [at_ms // HOUR_MS for at_ms in fired] == [55, 115]


def test_a_firing_alert_teaches_nothing_though_its_silent_series_is_looked_at() -> None:
    """What was said in a block of six hours is learned when the series is next looked at: in a pane of its own texts,
    or, as long as an alert on it is live, in any."""
    learned = []
    for due in (False, True):
        engine = watching(RuleSet.from_mapping({"rules": [{"name": "r", "life": {"min_firing": "1d"}}]}))
        fire(engine, START_MS)
        shown(engine, START_MS + MINUTE_MS, dict.fromkeys((0, 1), (60, 60)))
        before = engine.base.documents[1], engine.base.negative[1]
        if due:
            shown(engine, START_MS + 6 * HOUR_MS + 9 * MINUTE_MS, {})
        shown(engine, START_MS + 6 * HOUR_MS + 20 * MINUTE_MS, {1: (1, 0)})
        learned.append((engine.base.documents[1] - before[0], engine.base.negative[1] - before[1]))
    assert learned[0] == learned[1]


def test_a_live_alert_ends_though_new_rules_ask_for_a_longer_warm_up() -> None:
    before, asked = watching(RuleSet()), RuleSet.from_mapping({"learning": {"warm_up": "60d"}})
    fire(before, START_MS)
    engine = AlertEngine(asked, book="main", pane_ms=MINUTE_MS, windows_ms=before.windows_ms)
    engine.restore(before.snapshot(), changed_ms=START_MS)
    records = [record for minute in range(30) for record in shown(engine, START_MS + minute * MINUTE_MS, {})]
    assert [(record.change, record.at_ms - START_MS) for record in records] == [("resolved", 20 * MINUTE_MS)]


def test_forgetting_many_series_that_have_rested_takes_no_time_that_grows_with_the_square_of_them() -> None:
    engine, many = watching(RuleSet()), range(2, 20_002)
    engine.rested = dict.fromkeys(((0, series) for series in range(20_002)), 0)
    begun = time.process_time()
    engine.drop_series(many)
    assert time.process_time() - begun < 2
    assert set(engine.rested) == {(0, 0), (0, 1)}


def test_a_change_of_rules_leaves_a_live_alert_the_names_of_its_severities_that_there_still_are() -> None:
    """The rarity of one and a half false alarms a year is `serious` where there is no `high`."""
    milder = {"notice": "1 per 7d", "warning": "1 per 30d", "high": "1 per 1y", "critical": "1 per 10y"}
    fewer = {"notice": "1 per 7d", "serious": "1 per 180d", "critical": "1 per 10y"}
    for severities, said in ((milder, ("high", "critical")), (fewer, ("serious", "critical"))):
        desk = Desk(RuleSet(rules=(Rule(name="r"),)), book="main", pane_ms=MINUTE_MS, windows_ms=(15 * MINUTE_MS,))
        fire(desk.engine, START_MS)
        alert = desk.engine.lives[0, 1]
        alert.severity, alert.peak_severity, alert.rarity, alert.peak_rarity = 1, 2, 2.4, 4.0
        desk.take_rules(RuleSet(rules=(Rule(name="other"), Rule(name="r", severities=severities))), START_MS)
        alert, names = desk.engine.lives[1, 1], desk.engine.timings[1].severities
        assert (names[alert.severity], names[alert.peak_severity]) == said


def test_a_state_that_does_not_name_severities_is_taken_over() -> None:
    engine = watching(RuleSet())
    fire(engine, START_MS)
    engine.lives[0, 1].severity = engine.lives[0, 1].peak_severity = 2
    chunks = engine.snapshot()
    values, arrays = unpack(chunks["alerts/head"])
    del values["severities"]
    again = AlertEngine(RuleSet(), book="main", pane_ms=MINUTE_MS, windows_ms=engine.windows_ms)
    again.restore(chunks | {"alerts/head": pack(values, arrays)})
    assert again.snapshot() == chunks
