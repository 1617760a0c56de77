"""Which model reads a document is decided by its language alone."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.documents import Document, DocumentLimits, parse_document
from streamer.core.languages import NO_MODEL, LanguageRules, Way, primary_language
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer
from streamer.core.selection import Selector
from streamer.core.watermark import PartitionClock
from streamer.language_detection import language_detector
from tests.core import worlds

SERVED = (("en",), ("zh",), ("de", "fr"))


def detect(text: str) -> str | None:
    return {"bonjour": "fr", "ciao": "it"}.get(text)


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        *(("zh-Hant-TW", "zh"), ("zh_CN", "zh"), ("yue", "zh"), ("EN", "en"), ("nb-NO", "no"), ("iw", "he")),
        *(("zho", "zh"), ("chi", "zh"), ("eng-US", "en"), ("GER", "de"), ("nno", "no"), ("tlh", "tlh")),
    ],
)
def test_a_language_is_known_by_its_primary_subtag(tag: str, language: str) -> None:
    assert primary_language(tag) == language


def test_what_a_document_says_comes_before_what_its_text_looks_like() -> None:
    rules = LanguageRules(SERVED, detect=detect)
    assert rules.way("zh-CN", "bonjour").route == 1
    assert rules.way(None, "bonjour").route == 2
    assert rules.way("und", "bonjour").route == rules.way(" ", "bonjour").route == 2
    assert rules.way("eng", "bonjour").route == 0
    assert rules.way(None, "?").route == 0


@pytest.mark.parametrize(("to_default", "way"), [(True, Way(0, read_anyway=True)), (False, Way(NO_MODEL))])
def test_a_language_that_no_model_reads(to_default: bool, way: Way) -> None:
    rules = LanguageRules(SERVED, others_to_default=to_default, detect=detect)
    assert rules.way("it", "x") == rules.way(None, "ciao") == way
    assert rules.way("en", "x") == rules.way(None, "?") == Way(0)


@pytest.mark.parametrize(
    ("lang", "read_anyway"),
    [
        ("en-GB", False),
        ("EN", False),
        ("en_US", False),
        ("und", False),
        ("", False),
        (None, False),
        ("zh", True),
        ("ZH-Hant", True),
    ],
)
def test_one_model_for_everything_looks_at_what_documents_say_and_not_at_their_texts(
    lang: str | None, read_anyway: bool
) -> None:
    assert LanguageRules((("en",),), detect=never).way(lang, "bonjour") == Way(0, read_anyway)


def test_a_model_in_place_of_the_only_one_is_made_for_its_own_languages() -> None:
    rules = LanguageRules((("en",),), detect=never)
    assert rules.routes_as(LanguageRules((("zh",),)))
    rules.default_reads(("zh-Hans", "de"))
    assert [rules.way(lang, "x").read_anyway for lang in ("zh", "de-AT", "en")] == [False, False, True]
    assert not rules.routes_as(LanguageRules((("zh", "de"), ("en",))))


def never(text: str) -> str:
    raise AssertionError(text)


def test_a_document_without_a_model_is_a_dead_letter_or_only_counted() -> None:
    rules = LanguageRules((("en",),), others_to_default=False)
    for skip in (False, True):
        scorer = PartitionScorer(
            "documents",
            0,
            partitions=1,
            books=[],
            clock=PartitionClock(1000),
            limits=DocumentLimits(),
            labels=worlds.LABELS,
            model="stand-in-1",
            languages=rules,
            skip_unserved=skip,
        )
        records: list[SourceRecord] = [worlds.record(0, lang="it"), worlds.record(1, lang="en-GB"), worlds.record(2)]
        prepared = scorer.prepare(records)
        batch = scorer.finish(prepared, worlds.answer(prepared.texts))
        assert [len(batch.scores), batch.counts.dead, batch.counts.skipped] == [2, int(not skip), int(skip)]
        assert sum(batch.counts[1:]) == batch.counts.received == 3
        assert [letter.reason for letter in batch.dead] == ["no_model_for_language"] * (not skip)
        assert prepared.read_anyway == 0


def test_the_detector_knows_chinese_from_english_and_says_when_it_is_not_sure() -> None:
    found = language_detector()
    assert primary_language(found("诺维尔下调全年利润预期，股价大幅下跌") or "") == "zh"
    assert found("Norvale cuts its outlook for the full year and its shares fall sharply") == "en"
    assert found("📉 3.2%") is None


@pytest.mark.parametrize("name", ["runtime.txt", "gpu.txt"])
def test_what_the_images_install_can_tell_languages(name: str) -> None:
    pinned = (Path(__file__).parents[2] / "requirements" / name).read_text(encoding="utf-8")
    assert re.search(r"^py3langid==", pinned, re.MULTILINE)


@given(st.text())
def test_any_text_has_a_route(text: str) -> None:
    rules = LanguageRules(SERVED, others_to_default=False, detect=_DETECTOR)
    assert rules.way(None, text).route in (NO_MODEL, 0, 1, 2)


_DETECTOR = language_detector()


@pytest.mark.parametrize(
    ("wanted", "lang", "admitted"),
    [
        ("en", "en-GB", True),
        ("en", "EN_gb", True),
        ("ENG", "en", True),
        ("en", "eng", True),
        ("zh", "yue", True),
        ("zh", "zh_Hant-TW", True),
        ("zh-TW", "zh_tw", True),
        ("zh-TW", "zh", False),
        ("yue", "zh", False),
        ("yue", "yue-HK", True),
        ("en", "de", False),
        ("en", None, False),
        ("en", "und", False),
        ("und", "und", True),
        ("iw", "he", True),
        ("he", "iw-IL", True),
        (" en ", "en", True),
    ],
)
def test_a_book_takes_a_language_however_it_is_written(wanted: str, lang: str | None, admitted: bool) -> None:
    value = orjson.dumps({"id": "1", "text": "x", "published_at": "2026-01-01T00:00:00Z", "lang": lang})
    document = parse_document(value, record_timestamp_ms=None, limits=DocumentLimits())
    assert isinstance(document, Document)
    assert Selector.of(languages=[wanted]).admits(document, None) is admitted
