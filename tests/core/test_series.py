from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.desk import Desk
from alerts.panes import COPIES, DOCUMENTS
from alerts.rules import RuleSet
from streamer.core.series import CROWDED, FEW_PANES, SeriesIndex, key_hash
from streamer.core.watch_settings import WatchSettings
from tests.core import worlds
from tests.core.worlds import START_MS, blocks_of, new_watch, probabilities, quiet_past, record, restored, run

MINUTE_MS = 60_000

keys = st.sampled_from(
    ["all", *(f"topic:{n}" for n in range(4)), *(f"company:{n}" for n in range(9)), "company:1|topic:2"]
)


def hashes(names: list[str]) -> np.ndarray:
    return np.array([key_hash(name) for name in names], dtype=np.uint64)


@pytest.mark.properties
@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(keys, max_size=6), st.sets(keys, max_size=3))), st.integers(2, 12)
)
def test_numbers_are_those_of_a_naive_reference(steps: list[tuple[int, list[str], set[str]]], most: int) -> None:
    """The reference gives one key after the other the smallest free number, as long as there may be one more."""
    index, reference, last_pane, pane = SeriesIndex(most), {}, {}, 0
    panes: dict[str, int] = {}
    for passed, names, held in steps:
        pane += passed
        old = {key for key in reference if last_pane[key] < pane - 2 and key not in held}
        for few, age in ((FEW_PANES, 0), (1 << 60, 1)):
            left = max(0, most - most // 2 - len(reference)) + len(old)
            if left * CROWDED < most:
                old |= {
                    key
                    for key in reference
                    if key.startswith("company:") and last_pane[key] < pane - age and panes[key] <= few
                    if key not in held
                }
        numbers = [number for key, number in reference.items() if key in held]
        forgotten = index.forget_before(pane - 2, crowded=pane - 1, rare=pane, held=numbers)
        assert sorted(forgotten) == sorted(reference.pop(key) for key in old)
        for key in old:
            panes[key] = 0
        for key in sorted(set(names) - reference.keys()):
            limit = most - most // 2 if key.startswith("company") else most
            if len(reference) < limit:
                reference[key] = min(set(range(most)) - set(reference.values()))
        index.add({key_hash(key): (pane, key) for key in set(names) if index.find(hashes([key]))[0] < 0})
        found = index.find(hashes(names))
        assert found.tolist() == [reference.get(key, -1) for key in names]
        index.touch(found[found >= 0], pane)
        last_pane |= dict.fromkeys(names, pane)
        for key in {*names} & reference.keys():
            panes[key] = panes.get(key, 0) + 1
        assert len(index) == len(reference) <= len(index.keys) <= most
        again = SeriesIndex(most)
        again.restore(index.chunk())
        assert again.panes.tolist() == index.panes.tolist()
        assert again.find(hashes(names)).tolist() == found.tolist()


def test_endless_symbols_leave_all_and_the_topics_their_series_and_memory_its_bound() -> None:
    book = worlds.settings(max_series=40, series_retention_ms=30 * MINUTE_MS)
    watch = new_watch(book)
    records = [
        record(n, published_at=START_MS + n * 10_000, symbols=[f"H{n}-{k}" for k in range(20)]) for n in range(600)
    ]
    watch, outputs = run(watch, blocks_of(0, 1, records, [50] * 12))
    followed = [key for output in outputs for rows in output.rows for key in rows.keys]
    panes = sum(key == "all" for key in followed)
    assert panes == watch.counts.panes > 90
    assert len(watch.series.keys) <= book.max_series
    assert any(key.startswith("topic:") for key in followed[-30:])
    at_once = book.max_series // 2
    assert len({key for key in followed if key.startswith("company:")}) > 2 * at_once  # those forgotten made room
    assert watch.counts.unfollowed > 10_000
    assert restored(watch).counts == watch.counts


def test_a_flood_of_invented_symbols_does_not_shut_out_real_ones_for_long() -> None:
    book = worlds.settings(max_series=40, windows_ms=(60_000, 600_000), horizon_ms=600_000, company_topics=False)
    known = [record(n, published_at=START_MS + n * MINUTE_MS, symbols=["KNOWN"]) for n in range(10)]
    flood = [
        record(100 + n, published_at=START_MS + 10 * MINUTE_MS + n, symbols=[f"H{n}-{k}" for k in range(10)])
        for n in range(10)
    ]
    later = [record(200 + n, published_at=START_MS + (60 + n) * MINUTE_MS, symbols=["NEW", "KNOWN"]) for n in range(30)]
    watch, outputs = run(new_watch(book), blocks_of(0, 1, known + flood + later, [50]))
    assert watch.counts.unfollowed > 50
    assert "company:NEW" in {key for output in outputs for rows in output.rows for key in rows.keys}
    assert watch.series.panes[watch.series.keys.index("company:KNOWN")] > 30
    assert restored(watch).counts == watch.counts


def test_a_companys_documents_count_for_all_though_it_is_not_followed() -> None:
    book = worlds.settings(max_series=4, company_topics=False)
    records = [record(n, published_at=START_MS + n * 1000, symbols=[f"S{n}"]) for n in range(30)]
    records.append(record(99, published_at=START_MS + 3_600_000))
    _, outputs = run(new_watch(book), blocks_of(0, 1, records, []))
    first = outputs[0].rows[0]
    assert int(first.counts[first.keys.index("all"), [DOCUMENTS, COPIES]].sum()) == 30
    assert sum(key.startswith("company:") for key in first.keys) == 1


class HoldingDesk(Desk):
    """The real one; an alert on a company fires for three hours and rests for one."""

    RULES = RuleSet.from_mapping(
        {
            "learning": {"warm_up": "3h"},
            "rules": [
                {
                    "name": "any",
                    "series": ["company:*"],
                    "max_false_alarms": "24 per 1d",
                    "min_negative": 1,
                    "life": {"min_firing": "3h", "cool_down": "1h", "repeat": "30m"},
                }
            ],
        }
    )

    def __init__(self, book: WatchSettings) -> None:
        super().__init__(self.RULES, book=book.book, pane_ms=book.pane_ms, windows_ms=book.windows_ms)


def test_a_crowded_book_gives_nobody_the_number_of_a_company_with_a_live_alert_and_the_next_owner_starts_clean() -> (
    None
):
    """The windows hold ten minutes: without its alert the company would be forgotten within half an hour."""
    book = worlds.settings(max_series=20, horizon_ms=2 * 3_600_000, company_topics=False)
    texts = (f"burst {number} of {number * 3} words {number * 7}" for number in itertools.count())
    negative = (text for text in texts if probabilities([text])["sentiment"].argmax() == 0)
    surge = [
        record(n, published_at=START_MS + n * 1000, symbols=["A"], source=f"s{n}", text=next(negative), id=f"surge-{n}")
        for n in range(12)
    ]
    flood = [
        record(n, published_at=START_MS + n * 10 * MINUTE_MS, symbols=[f"Z{n}"], text=f"flood{n} word{n} end{n}")
        for n in range(12, 54)
    ]
    watch, outputs = run(
        new_watch(book, HoldingDesk),
        quiet_past(1) + blocks_of(0, 2, surge + flood, [1] * 60),
        lambda taken, old: restored(old) if taken % 10 == 0 else old,
    )
    told = [alert for output in outputs for alert in output.alerts if alert.series == "company:A"]
    assert [alert.change for alert in told] == ["fired", *["repeated"] * 5, "resolved"]
    assert {text.id[:6] for alert in told for text in alert.texts} == {"surge-"}
    assert {sum(hour.documents for hour in alert.history) for alert in told} == {12}
    assert "company:A" not in watch.series.keys
    counts = watch.desk.engine.history.counts[:, :, 0].sum(axis=1)
    companies = [number for number, key in enumerate(watch.series.keys) if key.startswith("company:Z")]
    assert watch.series.keys[5].startswith("company:Z")
    assert counts[companies].tolist() == [1] * len(companies)
