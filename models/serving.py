"""The models in service, and how others take their place without a text lost or scored twice.

New bundles are verified, loaded and warmed beside the old ones while those go on serving; then one assignment puts
them in place. A batch that has begun finishes with the models it began with. Whatever is wrong with the new ones is
raised to whoever asked for them, and the old ones stay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.bundle import BundleError
from models.model_set import Answer, ModelSet
from models.shadow import Shadow, ShadowQueue


class ModelService:
    """Serves one set of models at a time. All methods may be called from any thread.

    `shadow` is offered every text of its route that was scored, and its score.
    """

    def __init__(self, models: ModelSet, shadow: ShadowQueue | None = None) -> None:
        self.shadow = shadow
        self._current = models
        self._current.warm_up()
        self._loading = threading.Lock()

    @property
    def models(self) -> ModelSet:
        """The models in service now. Take it once for all that belongs to one batch."""
        return self._current

    def predict(self, texts: Sequence[str], routes: NDArray[np.int32] | None = None) -> Answer:
        """Score a batch with the models in service when it begins."""
        shadow, models = self.shadow, self._current  # in this order: a new shadow means that the new models are there
        answer = models.predict(texts, routes)
        if shadow is not None:
            shadow.offer(*models.of_route(shadow.shadow.route, texts, routes, answer))
        return answer

    def swap(self, load: Callable[[], tuple[ModelSet, Shadow | None]]) -> str:
        """Put the models that `load` gives in service, its shadow behind them, and return their version; blocks until
        they are warm. A shadow that was there before is compared no longer.

        Raises what `load` raises, and BundleError where they answer other tasks or labels than those in service,
        whose readers expect them; the models in service stay.
        """
        with self._loading:
            successor, shadow = load()
            if successor.labels != self._current.labels:
                raise BundleError(
                    f"{successor.version_id} has the tasks and labels {successor.labels}, the model in service has "
                    f"{self._current.labels}; restart the worker to change them"
                )
            successor.warm_up()
            before = self.shadow
            self.shadow = None  # nothing of one model is compared with another's shadow
            self._current = successor
            self.shadow = None if shadow is None else ShadowQueue(shadow)
            if before is not None:
                before.end()
        return successor.version_id
