"""Every number of every window record, against a naive reference over polars."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.timestamps import format_duration, format_rfc3339
from tests.core import naive, worlds
from tests.core.test_late_counts import records_of
from tests.core.test_watch import watched
from tests.core.worlds import LATENESS_MS, examples

BOOK = worlds.settings(sectors={"AAA": "Energy", "BBB": "Energy", "CCC": "Banks"})
ROUNDED = ("mean_sentiment", "dispersion", "shares", "weight")


def compared(said: dict[str, Any]) -> dict[str, Any]:
    """What the reference knows, numbers as near as a record rounds them."""
    near = {name: pytest.approx(said[name], abs=1.5e-6) for name in ROUNDED}
    times = {name: None if said[name] is None else format_rfc3339(said[name]) for name in ("first", "last")}
    return said | near | times


@pytest.mark.properties
def test_every_number_is_that_of_a_naive_reference_however_documents_came() -> None:
    seen: Counter[str] = Counter()

    @given(st.data())
    @settings(max_examples=examples(100))
    def check(data: st.DataObject) -> None:
        world, watch, outputs = watched(data, BOOK)
        written = records_of(outputs)
        documents = naive.documents_of(world)
        if not documents:
            assert not written
            return
        rows = naive.rows(world, BOOK)
        closed = (max(document.published_at_ms for document, _ in documents) - LATENESS_MS) // BOOK.pane_ms
        rows = rows.filter(rows["pane"] < closed)
        fates = Counter(rows.filter(rows["series"] == "all")["fate"].to_list())
        counts = watch.counts
        assert (counts.stories, counts.copies, counts.duplicates) == (
            fates[naive.STORY],
            fates[naive.COPY],
            fates[naive.DUPLICATE],
        )
        seen.update(fates)
        for name, length_ms in {"": BOOK.pane_ms, **{format_duration(ms / 1000): ms for ms in BOOK.windows_ms}}.items():
            expected = naive.sayings(naive.spans(rows, length_ms // BOOK.pane_ms))
            assert expected.keys() == written.keys()
            for place, row in written.items():
                said = row["windows"][name] if name else row
                wanted = compared(expected[place])
                assert {key: said[key] for key in wanted} == wanted, (place, name)

    check()
    assert all(seen[fate] > 0 for fate in (naive.STORY, naive.COPY, naive.DUPLICATE, naive.LATE)), seen
