"""What the engine promises whatever the stream: same bytes, restart anywhere, one-way lives, no alarm for good news."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.engine import AlertEngine
from alerts.records import AlertRecord
from alerts.rules import Life, Rule, RuleSet
from tests.alerts.streams import DAY_MS, HOUR_MS, NEGATIVE, POSITIVE, WINDOWS_MS, Texts, gather, observed, panes, run

START_MS = 1_760_054_400_000
FEW = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def new_engine(rules: RuleSet | None = None) -> AlertEngine:
    return AlertEngine(rules or RuleSet(), book="main", pane_ms=60_000, windows_ms=WINDOWS_MS)


def quiet_days(rng: np.random.Generator, days: int, a_day: int) -> list[tuple[int, int, tuple[str, ...]]]:
    rows = []
    for _ in range(days * a_day):
        at = START_MS + int(rng.integers(days * DAY_MS))
        label = int(rng.choice(3, p=[0.2, 0.5, 0.3]))
        rows.append((at, label, ("all", f"topic:T{rng.integers(4)}", f"company:C{rng.integers(6)}")))
    return rows


def burst(
    rng: np.random.Generator, hour: float, texts: int, length_hours: float, label: int
) -> list[tuple[int, int, tuple[str, ...]]]:
    ats = START_MS + ((hour + rng.random(texts) * length_hours) * HOUR_MS).astype(np.int64)
    return [(int(at), label, ("all", "topic:T1", "company:C2")) for at in ats]


def stream(seed: int, label: int = NEGATIVE, texts: int = 40) -> Texts:
    rng = np.random.default_rng(seed)
    return gather(sorted(quiet_days(rng, 3, 120) + burst(rng, 55.0, texts, 1.0, label)))


def encoded(records: list[AlertRecord]) -> list[bytes]:
    return [record.encode() for record in records]


@FEW
@given(seed=st.integers(0, 2**31), cut=st.floats(0.05, 0.95))
def test_a_restart_at_any_pane_continues_bit_identically(seed: int, cut: float) -> None:
    texts = stream(seed)
    whole = encoded(run(new_engine(), texts))
    engine = new_engine()
    current = [engine]
    records: list[AlertRecord] = []
    stop = int(cut * 360)
    for number, pane in enumerate(panes(texts, lambda: current[-1].is_live())):
        if number == stop:
            chunks = engine.snapshot()
            engine = new_engine()
            engine.restore(chunks)
            current.append(engine)
            assert engine.snapshot() == chunks
        records += observed(engine, pane)
    assert encoded(records) == whole


@FEW
@given(seed=st.integers(0, 2**31))
def test_the_same_panes_give_the_same_bytes(seed: int) -> None:
    texts = stream(seed)
    assert encoded(run(new_engine(), texts)) == encoded(run(new_engine(), texts))


@FEW
@given(seed=st.integers(0, 2**31), texts=st.integers(20, 300))
def test_a_surge_of_good_news_raises_nothing(seed: int, texts: int) -> None:
    without = {record.id for record in run(new_engine(), stream(seed, POSITIVE, 0))}
    raised = [r for r in run(new_engine(), stream(seed, POSITIVE, texts)) if r.change == "fired"]
    start = START_MS + 55 * HOUR_MS
    assert not [r for r in raised if r.id not in without and start <= r.at_ms <= start + 2 * HOUR_MS]


@FEW
@given(seed=st.integers(0, 2**31))
def test_a_large_negative_surge_fires_within_it_on_company_and_topic(seed: int) -> None:
    start = START_MS + 55 * HOUR_MS
    fired = {
        r.series for r in run(new_engine(), stream(seed)) if r.change == "fired" and start <= r.at_ms <= start + HOUR_MS
    }
    assert {"company:C2", "topic:T1"} <= fired


@FEW
@given(seed=st.integers(0, 2**31), pending=st.sampled_from(["0m", "5m", "2h"]), repeat=st.sampled_from(["30m", "6h"]))
def test_a_life_only_goes_forward_and_the_last_record_tells_all(seed: int, pending: str, repeat: str) -> None:
    rules = RuleSet(rules=(Rule(name="r", life=Life(pending=pending, repeat=repeat)),))
    order = {"pending": 0, "firing": 1, "resolved": 2}
    lives: dict[str, list[AlertRecord]] = {}
    for record in run(new_engine(rules), stream(seed)):
        lives.setdefault(record.id, []).append(record)
    assert lives
    for life in lives.values():
        assert [r.sequence for r in life] == list(range(1, len(life) + 1))
        assert [order[r.state] for r in life] == sorted(order[r.state] for r in life)
        assert [r.at_ms for r in life] == sorted(r.at_ms for r in life)
        assert sum(r.change == "fired" for r in life) <= 1
        assert {(r.series, r.since_ms, r.rule) for r in life} == {(life[0].series, life[0].since_ms, "r")}
        assert life[-1].state == "resolved"
