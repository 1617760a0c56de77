"""The models of a worker: loaded at its start, and swapped for others when it is told to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import BundleError
from models.model_set import Answer, ModelSet
from models.providers import ProviderError
from models.serving import ModelService
from models.shadow import Shadow, ShadowQueue
from streamer.config.load import ConfigError
from streamer.config.settings import BookSettings, Config, ModelSettings
from streamer.core.languages import LanguageRules
from streamer.language_detection import DetectionError
from streamer.model import check_sentiment, check_topics, language_rules, load_models, load_shadow
from streamer.worker.status import WorkerStatus

_REFUSALS: Final = (ConfigError, BundleError, ProviderError, DetectionError, OSError)

log = logging.getLogger(__name__)


class ModelsInService:
    """Serves the configured models; `swap` loads them anew by what the configuration says by then.

    Loads and warms at once, which takes seconds: make it in a thread. Raises what `load_models`, `check_sentiment` and,
    for `books`, `check_topics` raise.
    """

    def __init__(self, settings: ModelSettings, books: Sequence[BookSettings] = ()) -> None:
        self.languages: LanguageRules = language_rules(settings)
        self._fixed = _fixed(settings)
        models = load_models(settings)
        check_sentiment(models)
        check_topics(books, models)
        shadow = load_shadow(settings, models)
        self.service = ModelService(models, None if shadow is None else ShadowQueue(shadow))
        self._swapping = asyncio.Lock()
        self._swap_began = 0.0

    @property
    def models(self) -> ModelSet:
        """What is in service now."""
        return self.service.models

    def predict(self, texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        """Score a batch with the models in service when it begins."""
        return self.service.predict(texts, routes)

    async def swap(self, reload: Callable[[], Config], status: WorkerStatus) -> None:
        """Put the models of the configuration that `reload` reads in service; whatever is wrong leaves the old ones.

        The outcome is logged and counted in `status.model_swaps`. The shadow is that of the new configuration too.
        Languages must be routed as before: routes are decided when a document is read, and those on their way keep
        theirs.
        """

        def load() -> tuple[ModelSet, Shadow | None]:
            settings = reload().model
            changed = [key for key, value in _fixed(settings).items() if value != self._fixed[key]]
            if changed:
                raise BundleError(f"{' and '.join(changed)} cannot change while the worker runs; restart it")
            if not self.languages.routes_as(language_rules(settings)):
                raise BundleError("the languages of model.routes or of a bundle have changed; restart the worker")
            models = load_models(settings)
            check_sentiment(models)
            return models, load_shadow(settings, models)

        if self._swapping.locked():
            ongoing = time.monotonic() - self._swap_began
            log.warning("a model is being swapped in already, for %.0f s; the next swap begins behind it", ongoing)
        async with self._swapping:
            self._swap_began = time.monotonic()
            before = self.models.version_id
            try:
                version = await asyncio.to_thread(self.service.swap, load)
            except _REFUSALS as error:
                status.model_swaps["refused"] += 1
                log.error("the new model is refused, %s stays in service: %s", before, error)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # nobody waits for this task: what is not told here, a panic too, is told nowhere
                status.model_swaps["refused"] += 1
                log.exception("the new model is refused, %s stays in service", before)
            else:
                status.model_swaps["done"] += 1
                status.model = version
                status.provider = self.models.provider_in_use
                self.languages.default_reads(self.models.predictors[0].bundle.languages)
                shadow = self.service.shadow
                behind = "" if shadow is None else f", {shadow.shadow.candidate.version_id} is its shadow"
                log.info("model %s has taken the place of %s on %s%s", version, before, status.provider, behind)


def _fixed(settings: ModelSettings) -> dict[str, object]:
    """What a swap cannot change, by key."""
    return {
        "model.other_languages": settings.other_languages,
        "model.detect_language": settings.detect_language,
    }
