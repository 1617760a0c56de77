"""What a worker says of itself, and when the watchdog calls it stalled."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import generate_latest

from alerts.sinks.queue import SinkStatus
from streamer.worker.metrics import worker_registry
from streamer.worker.status import BookStatus, LatencyHistogram, WorkerStatus
from streamer.worker.watchdog import is_calm, stall


def test_quantiles_of_latencies_are_right_within_a_tenth() -> None:
    latency = LatencyHistogram()
    seconds = np.random.default_rng(7).gamma(2.0, 0.3, 10_000)
    latency.observe(seconds)
    for share in (0.5, 0.99):
        exact = float(np.quantile(seconds, share))
        assert exact <= (latency.quantile(share) or 0) <= exact * 1.11
    assert latency.count == 10_000


def test_latencies_beyond_every_bucket_and_below_zero_are_counted() -> None:
    latency = LatencyHistogram()
    latency.observe(np.array([-5.0, 1e9]))
    assert latency.count == 2
    assert latency.quantile(0.0) == pytest.approx(0.001)


def test_a_worker_is_ready_once_every_part_is() -> None:
    status = WorkerStatus("all")
    status.hold("broker", "not there")
    status.hold("model", "loading")
    status.release("model")
    assert status.not_ready() == ["broker: not there"]
    status.release("broker")
    assert status.not_ready() == []
    assert status.dead() == []
    status.fail("the end")
    assert status.dead() == status.not_ready() == ["the end"]


def test_lag_without_progress_is_a_stall_and_so_is_a_part_that_does_not_come_up() -> None:
    status = WorkerStatus("all")
    status.progress_at = time.monotonic() - 100
    assert stall(status, 60) is None
    status.partitions[3] = 12
    assert "12 records wait" in (stall(status, 60) or "")
    assert stall(status, 600) is None
    status.partitions.clear()
    status.hold("book main", "restoring its state")
    assert "book main: restoring its state" in (stall(status, 60) or "")
    status.note_progress()
    assert stall(status, 60) is None


def test_a_worker_that_was_idle_for_long_has_not_stalled_when_work_comes() -> None:
    status = WorkerStatus("sinks")
    status.progress_at = time.monotonic() - 10_000
    assert is_calm(status)
    calm_at = time.monotonic()
    status.hold("sinks", "joining the consumer group")
    assert not is_calm(status)
    assert stall(status, 60, calm_at) is None
    assert "joining" in (stall(status, 60, calm_at - 100) or "")


def test_a_part_that_hangs_is_a_stall_though_the_others_get_on() -> None:
    status = WorkerStatus("all")
    status.note_part("documents-0")
    status.parts["book main"] = time.monotonic() - 100
    status.note_progress()
    assert stall(status, 200) is None
    assert (stall(status, 60) or "").startswith("book main: nothing was done for 100 s")
    status.note_resumed()
    assert stall(status, 60) is None
    status.parts["book main"] = 0.0
    status.drop_part("book main")
    assert stall(status, 60) is None


def test_a_pause_of_the_process_brings_no_part_back_that_the_event_loop_drops_at_that_moment() -> None:
    class Dropping(dict[str, float]):
        """Parts of which one is dropped by the event loop while the watchdog goes through them."""

        def __iter__(self) -> Iterator[str]:
            found = list(super().__iter__())
            self.clear()
            return iter(found)

    status = WorkerStatus("all")
    status.parts = Dropping({"model call 1": 1.0})
    status.note_resumed()
    assert list(status.parts.values()) in ([], [1.0]), "who resumes says nothing of a part"
    status.parts = {"model call 1": 1.0}
    assert stall(status, 60) is None


def test_a_book_that_leaves_while_the_watchdog_looks_at_the_lag_does_not_end_the_watchdog() -> None:
    status = WorkerStatus("all")

    class Leaving(BookStatus):
        @property
        def lag(self) -> int:  # type: ignore[override]
            status.books.pop("other", None)
            return 3

        @lag.setter
        def lag(self, lag: int) -> None:
            pass

    status.books = {"main": Leaving(), "other": BookStatus(lag=4)}
    assert status.lag in (3, 7)


def test_metrics_tell_of_every_sink() -> None:
    status = WorkerStatus("sinks")
    status.sinks["desk"] = SinkStatus(
        "desk", "webhook", delivered=3, retries=2, waiting=1, oldest_at=time.monotonic() - 5
    )
    text = generate_latest(worker_registry(status, version="0", models=lambda: None)).decode()
    assert 'bearwire_sink_delivered_total{kind="webhook",sink="desk"} 3.0' in text
    assert 'bearwire_sink_retries_total{kind="webhook",sink="desk"} 2.0' in text
    (age,) = [line for line in text.splitlines() if line.startswith("bearwire_sink_queue_age_seconds{")]
    assert 5 <= float(age.rpartition(" ")[2]) < 60
