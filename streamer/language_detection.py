"""Telling a text's language by py3langid (Lui & Baldwin 2012, "langid.py"), where documents do not say it."""

from __future__ import annotations

from typing import Final

from streamer.core.languages import Detect, primary_language

SURE: Final = 0.8
"""The probability from which a detected language is believed; headlines are short."""

_LIKELY: Final = 8
"""How many of the likeliest codes are looked at: the varieties of Chinese share what is one language to a model."""

_NO_LANGUAGE: Final = ("und", "zxx")


class DetectionError(Exception):
    """Languages are to be detected and the library for it is not installed."""


def language_detector() -> Detect:
    """A detector that gives None where it is not sure. Raises DetectionError."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise DetectionError(
            "model.detect_language needs the package py3langid: install Bearwire with its extra [languages], or set "
            "model.detect_language to false so that only a document's own `lang` counts"
        ) from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def detect(text: str) -> str | None:
        likely = [(primary_language(name), probability) for name, probability in identifier.rank(text)[:_LIKELY]]
        language = likely[0][0]
        sure = sum(probability for name, probability in likely if name == language) >= SURE
        return language if sure and language not in _NO_LANGUAGE else None

    return detect
