"""The model in service, and how another takes its place without a text lost or scored twice.

A new bundle is verified, loaded and warmed beside the old one while that goes on serving; then one
assignment puts it in place. A batch that has begun finishes with the model it began with. Whatever is wrong
with the new bundle is raised to whoever asked for it, and the old model stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.bundle import Bundle, BundleError
from models.predictor import Predictions, Predictor


class Scored(NamedTuple):
    """Probabilities of one batch, and the version of the one model that gave them all."""

    predictions: Predictions
    version_id: str


class ModelService:
    """Serves one model at a time. All methods may be called from any thread.

    `make` turns a verified bundle into a predictor with the settings of this deployment, as in
    `ModelService(bundle, lambda bundle: Predictor(bundle, provider="cpu"))`.
    """

    def __init__(self, bundle: Bundle, make: Callable[[Bundle], Predictor]) -> None:
        self._make = make
        self._current = make(bundle)
        self._current.warm_up()
        self._loading = threading.Lock()

    @property
    def predictor(self) -> Predictor:
        """The predictor in service now. Take it once for all that belongs to one batch."""
        return self._current

    def predict(self, texts: Sequence[str]) -> Scored:
        """Score a batch with the model in service when it begins."""
        predictor = self._current
        return Scored(predictor.predict(texts), predictor.version_id)

    def swap(self, path: Path) -> str:
        """Put the bundle at `path` in service and return its version; blocks until it is warm.

        Raises BundleError or ProviderError where it cannot be loaded, or where it answers other tasks or
        labels than the model in service, whose readers expect those; the model in service stays.
        """
        with self._loading:
            successor = self._make(Bundle.load(path))
            if successor.labels != self._current.labels:
                raise BundleError(
                    f"{path} has the tasks and labels {successor.labels}, the model in service has "
                    f"{self._current.labels}; restart the worker to change them"
                )
            successor.warm_up()
            self._current = successor
        return successor.version_id
