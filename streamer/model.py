"""The predictor that the configuration asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streamer.config import ModelSettings

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.predictor import Predictor


def load_bundle(settings: ModelSettings) -> Bundle:
    """The configured bundle, verified. Raises `models.bundle.BundleError`."""
    from models.bundle import Bundle, default_bundle_path

    return Bundle.load(default_bundle_path() if settings.bundle == "default" else Path(settings.bundle))


def load_predictor(settings: ModelSettings) -> Predictor:
    """The configured bundle on the configured hardware. Raises `BundleError` or `models.providers.ProviderError`."""
    from models.predictor import Predictor

    return Predictor(
        load_bundle(settings),
        provider=settings.provider,
        threads=settings.threads,
        max_batch_tokens=settings.max_batch_tokens,
        cache_entries=settings.cache_entries,
    )
