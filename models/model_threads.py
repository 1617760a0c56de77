"""The threads that models run in, a run in each at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait


class ModelThreads(ThreadPoolExecutor):
    """So many threads, in which several models may run. Raises RuntimeError where one cannot be started."""

    def __init__(self, count: int) -> None:
        super().__init__(count, thread_name_prefix="bearwire-model")
        self._count = count
        self._submitting = threading.Lock()
        # All are started now: later the pool may take one that is busy for idle, and start too few (Python 3.12).
        try:
            self.run_in_each(lambda: None)
        except BaseException:
            self.shutdown(wait=False)
            raise

    def run_in_each(self, task: Callable[[], None]) -> None:
        """Run `task` once in every thread, in all of them at the same time, and wait for that. Raises what one raises.

        Runs that were submitted before come first. Not to be called in one of the threads, which would wait for itself.
        """
        all_there = threading.Barrier(self._count)

        def run() -> None:
            all_there.wait()
            task()

        with self._submitting:  # of two callers neither may get some of the threads, to wait there for the others
            try:
                running = [self.submit(run) for _ in range(self._count)]
            except BaseException:
                all_there.abort()  # fewer than all would wait for ever
                raise
        wait(running)
        for each in running:
            each.result()
