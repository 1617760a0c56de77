"""A task runs in every thread of the models at once, whatever else is asked of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.model_threads import ModelThreads

PATIENCE_SECONDS = 60


def noting(ran: list[int]) -> Callable[[], None]:
    """A task that notes the thread that it runs in."""
    return lambda: ran.append(threading.get_ident())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_task_runs_once_in_every_thread(count: int) -> None:
    ran: list[int] = []
    with ModelThreads(count) as threads:
        threads.submit(int).result()
        for times in (1, 2):
            threads.run_in_each(noting(ran))
            assert sorted(ran) == sorted([each.ident for each in threads._threads] * times)
    assert len(set(ran)) == count


def test_runs_in_hand_are_finished_first_and_later_ones_wait() -> None:
    begun, go_on, order = threading.Event(), threading.Event(), list[str]()

    def hold() -> bool:
        begun.set()
        return go_on.wait(PATIENCE_SECONDS)

    with ModelThreads(2) as threads, ThreadPoolExecutor(1) as asking:
        busy = threads.submit(hold)
        assert begun.wait(PATIENCE_SECONDS)
        each = asking.submit(threads.run_in_each, lambda: order.append("each"))
        while threads._work_queue.qsize() == 0:  # of the two tasks one waits for the thread that is busy
            assert not each.done()
        later = threads.submit(order.append, "later")
        assert not order
        go_on.set()
        each.result(PATIENCE_SECONDS)
        later.result(PATIENCE_SECONDS)
        assert busy.result()
    assert order.count("each") == 2


def test_callers_that_ask_at_once_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    submit, both_ask, ran = ModelThreads.submit, threading.Barrier(2), list[int]()

    def in_turns(self: ModelThreads, *task: Callable[[], None]) -> object:
        """Let another caller submit something too, where that can."""
        with contextlib.suppress(threading.BrokenBarrierError):
            both_ask.wait(timeout=0.1)
        return submit(self, *task)

    monkeypatch.setattr(ModelThreads, "submit", in_turns)
    with ModelThreads(3) as threads, ThreadPoolExecutor(2) as asking:
        for each in [asking.submit(threads.run_in_each, noting(ran)) for _ in range(2)]:
            each.result(PATIENCE_SECONDS)
        assert sorted(ran) == sorted([each.ident for each in threads._threads] * 2)


def test_what_fails_in_one_thread_is_raised_once_all_have_ended() -> None:
    ran: list[int] = []
    first = threading.Lock()

    def fails_once() -> None:
        if first.acquire(blocking=False):
            raise ValueError("not in this one")
        ran.append(threading.get_ident())

    with ModelThreads(3) as threads:
        with pytest.raises(ValueError, match="not in this one"):
            threads.run_in_each(fails_once)
        assert len(set(ran)) == 2
        threads.run_in_each(noting(ran))
        assert len(ran) == 5


def test_where_a_thread_cannot_be_started_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, list[threading.Thread]()

    def one_alone(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_alone)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        ModelThreads(3)
    monkeypatch.undo()
    started[0].join(PATIENCE_SECONDS)  # what it waited for was called off
    assert not started[0].is_alive()


def test_every_thread_is_there_from_the_beginning() -> None:
    with ModelThreads(4) as threads:
        assert len(threads._threads) == 4
