from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.panes import COPIES, DOCUMENTS
from streamer.core.series import CROWDED, FEW_PANES, SeriesIndex, key_hash
from tests.core import worlds
from tests.core.worlds import START_MS, blocks_of, new_watch, record, restored, run

MINUTE_MS = 60_000

keys = st.sampled_from(
    ["all", *(f"topic:{n}" for n in range(4)), *(f"company:{n}" for n in range(9)), "company:1|topic:2"]
)


def hashes(names: list[str]) -> np.ndarray:
    return np.array([key_hash(name) for name in names], dtype=np.uint64)


@pytest.mark.properties
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(keys, max_size=6))), st.integers(2, 12))
def test_numbers_are_those_of_a_naive_reference(steps: list[tuple[int, list[str]]], most: int) -> None:
    """The reference gives one key after the other the smallest free number, as long as there may be one more."""
    index, reference, last_pane, pane = SeriesIndex(most), {}, {}, 0
    panes: dict[str, int] = {}
    for passed, names in steps:
        pane += passed
        old = {key for key in reference if last_pane[key] < pane - 2}
        for few, age in ((FEW_PANES, 0), (1 << 60, 1)):
            left = max(0, most - most // 2 - len(reference)) + len(old)
            if left * CROWDED < most:
                old |= {
                    key
                    for key in reference
                    if key.startswith("company:") and last_pane[key] < pane - age and panes[key] <= few
                }
        forgotten = index.forget_before(pane - 2, crowded=pane - 1, rare=pane)
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
