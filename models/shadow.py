"""A candidate model that scores the same texts as the one in service; only how far they agree is published."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.predictor import Predictor
from models.probabilities import not_finite

Probabilities = Mapping[str, NDArray[np.float32]]

log = logging.getLogger(__name__)


class Agreement(Struct, frozen=True):
    """Of `texts` scored by both, `agreed` got the same label; `difference_sum` adds up, over texts, half the
    distance between the two distributions (total variation, 0 to 1)."""

    texts: int = 0
    agreed: int = 0
    difference_sum: float = 0.0


class Shadow:
    """Compares a candidate with the model in service, task by task. May be called from several threads.

    `labels` are those of the model that it might replace, which reads the texts of `route`. Raises ValueError where a
    task they share has different labels, or they share none.
    """

    def __init__(self, candidate: Predictor, labels: Mapping[str, tuple[str, ...]], route: int = 0) -> None:
        self.candidate = candidate
        self.route = route
        tasks = [task for task in labels if task in candidate.labels]
        odd = [task for task in tasks if candidate.labels[task] != labels[task]]
        if odd or not tasks:
            raise ValueError(f"the shadow {candidate.version_id} has no tasks in common, or other labels: {odd}")
        self._lock = threading.Lock()
        self._agreement = {task: Agreement() for task in tasks}

    @property
    def agreement(self) -> dict[str, Agreement]:
        """Totals so far, per task."""
        with self._lock:
            return dict(self._agreement)

    def observe(self, texts: Sequence[str], served: Probabilities) -> int:
        """Score `texts` with the candidate and add the comparison with what was served for them.

        Gives how many were compared: not those that one of the two has no numbers for.
        """
        shadowed = self.candidate.predict(texts)
        both = ~(not_finite(served.values()) | shadowed.unscored)
        compared = int(both.sum())
        for task in self.agreement:
            one, other = served[task][both], shadowed.probabilities[task][both]
            agreed = int((one.argmax(axis=1) == other.argmax(axis=1)).sum())
            difference = float(np.abs(one - other).sum()) / 2
            with self._lock:
                so_far = self._agreement[task]
                self._agreement[task] = Agreement(
                    so_far.texts + compared, so_far.agreed + agreed, so_far.difference_sum + difference
                )
        return compared


class ShadowQueue:
    """Lets a shadow score in a thread of its own, behind the model in service.

    At most `waiting` batches wait for it; what comes beyond that is counted in `skipped` (texts) and not compared,
    so that a slow candidate never holds back the stream; so are texts that one of the models has no numbers for.
    `failure` says why it has ended, if it has.
    """

    def __init__(self, shadow: Shadow, *, waiting: int = 8) -> None:
        self.shadow = shadow
        self.skipped = 0
        self.failure: str | None = None
        self._counting = threading.Lock()
        self._ended = threading.Event()
        self._queue: queue.Queue[tuple[Sequence[str], Probabilities] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, name="bearwire-shadow", daemon=True)
        self._thread.start()

    def offer(self, texts: Sequence[str], served: Probabilities) -> None:
        """Compare these texts when there is room for them. Never blocks."""
        if not texts:
            return
        try:
            if self.failure is None:
                self._queue.put_nowait((texts, served))
                return
        except queue.Full:
            pass
        self._skip(len(texts))

    def close(self) -> None:
        """Compare what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def end(self) -> None:
        """Compare no more texts than those in hand. Never blocks."""
        self._ended.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._ended.is_set():
            compared = 0
            try:
                if self.failure is None:
                    compared = self.shadow.observe(*item)
            except BaseException as error:  # whatever ails the candidate, a panic too, must not reach the stream
                self.failure = f"{type(error).__name__}: {error}"
                version = self.shadow.candidate.version_id
                log.error("the shadow %s has failed and is compared no longer: %r", version, self.failure)
            self._skip(len(item[0]) - compared)

    def _skip(self, texts: int) -> None:
        with self._counting:  # two threads count, one of them while the other compares
            self.skipped += texts
