"""Which model reads a document: the one of its language, the default one, or none. Pure and the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from streamer.documents import Rejection
from streamer.escaping import escaped, quoted

UNSERVED = "no_model_for_language"
NO_MODEL: Final = -1

_MACROLANGUAGE: Final = {
    "cmn": "zh", "yue": "zh", "wuu": "zh", "gan": "zh", "hak": "zh", "nan": "zh", "lzh": "zh",
    "nb": "no", "nn": "no", "in": "id", "iw": "he",
}  # fmt: skip
"""Members and old codes of the languages that models are trained for under one code (ISO 639-3, RFC 5646)."""

Detect = Callable[[str], str | None]


def primary_language(tag: str) -> str:
    """`zh` of `zh-Hant-TW`, `zh_CN` or `yue`: the primary subtag of a language tag (RFC 5646) in lower case."""
    primary = tag.replace("_", "-").partition("-")[0].strip().lower()
    return _MACROLANGUAGE.get(primary, primary)


class LanguageRules:
    """Routes documents by language.

    `served` are the languages of each route, the default model's first. A language that none serves goes to route
    0 where `others_to_default`, else it has no model. `detect` tells the language of a text whose document does
    not say it (None when unsure, which goes to route 0); without it all such texts go to route 0.
    """

    def __init__(
        self, served: Sequence[Sequence[str]] = ((),), *, others_to_default: bool = True, detect: Detect | None = None
    ) -> None:
        self.served = tuple(tuple(primary_language(tag) for tag in tags) for tags in served)
        self.others_to_default = others_to_default
        self._detect = detect
        self._route_of = {tag: route for route, tags in reversed(list(enumerate(self.served))) for tag in tags}
        self._trivial = others_to_default and len(self.served) == 1

    def route(self, lang: str | None, text: str) -> int:
        """The route of a document that says its language is `lang`, or NO_MODEL."""
        if self._trivial:
            return 0
        language = self.language(lang, text)
        if language is None:
            return 0
        return self._route_of.get(language, 0 if self.others_to_default else NO_MODEL)

    def language(self, lang: str | None, text: str) -> str | None:
        """The primary language of a document; None where it is not said and cannot be told."""
        if lang and lang.lower() != "und":
            return primary_language(lang)
        found = None if self._detect is None else self._detect(text)
        return None if found is None else primary_language(found)


def unserved(language: str | None) -> Rejection:
    """Why a document in this language has no score."""
    return Rejection(
        UNSERVED,
        escaped(f"no model reads {quoted(language)}; see model.routes and model.other_languages"),
    )
