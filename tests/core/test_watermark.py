from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.watermark import UNSET, ClockError, PartitionClock

times = st.lists(st.integers(-(1 << 40), 1 << 40), max_size=40)
lateness = st.integers(0, 1 << 32)


@given(times, lateness, st.integers(0, 40))
def test_judging_in_batches_equals_a_naive_loop(times: list[int], lateness: int, cut: int) -> None:
    clock = PartitionClock(lateness)
    first, second = (clock.judge(np.array(part, dtype=np.int64)) for part in (times[:cut], times[cut:]))
    latest, expected, marks = None, [], []
    for time in times:
        expected.append(latest is not None and time < latest - lateness)
        latest = time if latest is None else max(latest, time)
        marks.append(latest - lateness)
    assert [*first.late.tolist(), *second.late.tolist()] == expected
    assert [*first.watermark_ms.tolist(), *second.watermark_ms.tolist()] == marks
    assert clock.watermark_ms == (marks[-1] if marks else None)


@given(times, lateness)
def test_a_clock_survives_its_dump(times: list[int], lateness: int) -> None:
    clock = PartitionClock(lateness)
    clock.judge(np.array(times, dtype=np.int64))
    assert PartitionClock.parse(clock.dump(), allowed_lateness_ms=lateness) == clock


def test_no_documents_leave_no_watermark() -> None:
    clock = PartitionClock(5)
    assert len(clock.judge(np.empty(0, dtype=np.int64)).late) == 0
    assert clock.watermark_ms is None
    assert np.iinfo(np.int64).min == UNSET


def test_empty_metadata_is_a_fresh_clock() -> None:
    assert PartitionClock.parse("", allowed_lateness_ms=7) == PartitionClock(7)


@pytest.mark.parametrize("metadata", ["x", "bw1:soon", "bw2:5", "5"])
def test_foreign_metadata_is_refused(metadata: str) -> None:
    with pytest.raises(ClockError):
        PartitionClock.parse(metadata, allowed_lateness_ms=7)
