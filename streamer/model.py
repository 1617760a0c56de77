"""The models that the configuration asks for, and which documents each of them reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.config.load import ConfigError
from streamer.config.settings import BookSettings, ModelSettings
from streamer.config.tree import Problem
from streamer.core.languages import LanguageRules, primary_language
from streamer.language_detection import language_detector

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.model_set import Answer, ModelSet
    from models.predictor import Predictor
    from models.shadow import Shadow


class TextScorer(Protocol):
    """What `models.model_set.ModelSet` offers."""

    @property
    def version_id(self) -> str:
        """What names the models together."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Task to its labels."""

    def predict(self, texts: Sequence[str], routes: NDArray[np.int32] | None = None) -> Answer:
        """Probabilities of texts, each by the model of its route (int32[n_texts]; all 0 where not given)."""


def load_bundle(path: str) -> Bundle:
    """The bundle in a directory, or the one that comes with Bearwire for `default`, verified. Raises BundleError."""
    from models.bundle import Bundle, default_bundle_path

    return Bundle.load(default_bundle_path() if path == "default" else Path(path))


def load_predictor(settings: ModelSettings, path: str) -> Predictor:
    """The bundle at `path` on the configured hardware. Raises `BundleError` or `models.providers.ProviderError`."""
    from models.predictor import Predictor

    return Predictor(
        load_bundle(path),
        provider=settings.provider,
        threads=settings.threads,
        max_batch_tokens=settings.max_batch_tokens,
        cache_entries=settings.cache_entries,
        long_texts=settings.long_texts,
    )


def load_models(settings: ModelSettings) -> ModelSet:
    """The default model and those of `model.routes`, route by route. Raises as `load_predictor`."""
    from models.model_set import ModelSet

    paths = [settings.bundle, *(route.bundle for route in settings.routes)]
    return ModelSet([load_predictor(settings, path) for path in paths])


def check_sentiment(models: TextScorer) -> None:
    """Refuse models whose sentiment cannot be followed over time. Raises BundleError."""
    from models.bundle import SENTIMENT_LABELS, BundleError

    if models.labels.get("sentiment") != SENTIMENT_LABELS:
        tasks = "; ".join(f"{task} ({', '.join(labels)})" for task, labels in models.labels.items())
        raise BundleError(
            f"{models.version_id} answers {tasks}; a worker and a backtest need a bundle with a task `sentiment` of "
            f"the labels {', '.join(SENTIMENT_LABELS)}, in this order. `bearwire classify` and `models` take any"
        )


def topic_problems(books: Sequence[BookSettings], models: TextScorer) -> Iterator[Problem]:
    """The topics that books select and none of the models has, so that nothing would ever come of them."""
    labels = models.labels.get("topic")
    for index, book in enumerate(books):
        for topic in book.select.topics:
            if labels is None:
                what = f"{models.version_id} has no task `topic`, so no document has one"
            elif topic not in labels:
                near = difflib.get_close_matches(topic, labels, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, labels))}"
                what = f"the model has no topic {topic!r}; {hint}"
            else:
                continue
            yield Problem(f"books.{index}.select.topics", "", what)


def check_topics(books: Sequence[BookSettings], models: TextScorer) -> None:
    """Refuse books that select topics which none of the models has. Raises ConfigError."""
    problems = tuple(topic_problems(books, models))
    if problems:
        raise ConfigError(problems)


def load_shadow(settings: ModelSettings, models: ModelSet) -> Shadow | None:
    """The candidate that is compared with one of `models`, if one is configured: with that of the first route for a
    language that it reads, or else with the default one. Raises as `load_predictor`."""
    if settings.shadow is None:
        return None
    from models.bundle import BundleError
    from models.shadow import Shadow

    candidate = load_predictor(settings, settings.shadow)
    candidate.warm_up()
    served = [models.predictors[0].bundle.languages, *(each.languages for each in settings.routes)]
    read = {primary_language(tag) for tag in candidate.bundle.languages}
    route = next((at for at, tags in enumerate(served) if read & {primary_language(tag) for tag in tags}), 0)
    try:
        return Shadow(candidate, models.predictors[route].labels, route)
    except ValueError as error:
        raise BundleError(f"model.shadow: {error}") from error


def language_rules(settings: ModelSettings) -> LanguageRules:
    """Which of the models of `load_models` reads a document. Raises BundleError or DetectionError."""
    served = [load_bundle(settings.bundle).languages, *(route.languages for route in settings.routes)]
    to_default = settings.other_languages == "default"
    matters = bool(settings.routes) or not to_default
    detect = language_detector() if matters and settings.detect_language else None
    return LanguageRules(served, others_to_default=to_default, detect=detect)
