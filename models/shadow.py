"""A candidate model that scores the same texts as the one in service; only how far they agree is published."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from models.predictor import Predictions, Predictor


class Agreement(Struct, frozen=True):
    """Of `texts` scored by both, `agreed` got the same label; `difference_sum` adds up, over texts, half the
    distance between the two distributions (total variation, 0 to 1)."""

    texts: int = 0
    agreed: int = 0
    difference_sum: float = 0.0


class Shadow:
    """Compares a candidate with the model in service, task by task. May be called from several threads.

    Raises ValueError where a task they share has different labels, or they share none.
    """

    def __init__(self, candidate: Predictor, labels: dict[str, tuple[str, ...]]) -> None:
        self.candidate = candidate
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

    def observe(self, texts: Sequence[str], served: Predictions) -> None:
        """Score `texts` with the candidate and add the comparison with what was served for them."""
        shadowed = self.candidate.predict(texts).probabilities
        for task in self.agreement:
            one, other = served.probabilities[task], shadowed[task]
            agreed = int((one.argmax(axis=1) == other.argmax(axis=1)).sum())
            difference = float(np.abs(one - other).sum()) / 2
            with self._lock:
                so_far = self._agreement[task]
                self._agreement[task] = Agreement(
                    so_far.texts + len(texts), so_far.agreed + agreed, so_far.difference_sum + difference
                )
