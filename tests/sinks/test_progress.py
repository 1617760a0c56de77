"""What is committed: nothing that a sink still has to deliver, and nothing twice to a sink that is ahead."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from streamer.worker.sink_progress import SinkProgress, ahead_of

SINKS = ("a", "b", "c")


def test_the_slowest_sink_holds_the_offset_back_and_the_others_travel_along() -> None:
    progress = SinkProgress(10, {})
    progress.take(10, ("a", "b"))
    progress.take(11, ("a",))
    progress.settle(10, "a")
    progress.settle(11, "a")
    offset, metadata = progress.position()
    assert offset == 10
    later = SinkProgress(offset, ahead_of(metadata))
    assert [sink for sink in ("a", "b") if later.wants(sink, 10)] == ["b"]
    assert not later.wants("a", 11)
    assert later.wants("a", 12)
    progress.settle(10, "b")
    assert progress.position() == (12, "")


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_with_crashes_at_any_moment_every_sink_settles_every_record_in_order(rng: random.Random, count: int) -> None:
    wanted = {offset: [sink for sink in SINKS if rng.random() < 0.6] for offset in range(count)}
    settled: dict[str, list[int]] = {sink: [] for sink in SINKS}
    committed = (0, "")
    while True:
        progress = SinkProgress(committed[0], ahead_of(committed[1]))
        waiting: dict[str, list[int]] = {sink: [] for sink in SINKS}
        at, crashed = committed[0], False
        while at < count or any(waiting.values()):
            if at < count and rng.random() < 0.5:
                sinks = [sink for sink in wanted[at] if progress.wants(sink, at)]
                progress.take(at, sinks)
                for sink in sinks:
                    waiting[sink].append(at)
                at += 1
            busy = [sink for sink in SINKS if waiting[sink]]
            if busy and rng.random() < 0.7:
                sink = rng.choice(busy)
                offset = waiting[sink].pop(0)
                progress.settle(offset, sink)
                settled[sink].append(offset)
                committed = progress.position()  # committed after every step: then nothing may come twice
            if rng.random() < 0.05:
                crashed = True
                break
        if not crashed:
            break
    for sink in SINKS:
        assert settled[sink] == [offset for offset in range(count) if sink in wanted[offset]]
    assert progress.position()[0] == count


def test_metadata_of_others_and_metadata_that_would_be_too_long_do_no_harm() -> None:
    for text in (None, "", "{", "[]", '{"ahead": 3}', '{"ahead": {"a": "x"}}', "watermark=3"):
        assert ahead_of(text) == {}
    progress = SinkProgress(0, {})
    names = [f"sink-{number:03d}-{'x' * 90}" for number in range(100)]
    progress.take(0, [*names, "slow"])
    for name in names:
        progress.settle(0, name)
    offset, metadata = progress.position()
    assert offset == 0
    assert len(metadata.encode()) < 4000
    assert len(ahead_of(metadata)) > 10
