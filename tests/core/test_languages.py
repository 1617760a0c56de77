"""Which model reads a document is decided by its language alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.documents import DocumentLimits
from streamer.language_detection import language_detector
from streamer.languages import NO_MODEL, LanguageRules, primary_language
from streamer.records import SourceRecord
from streamer.scoring import PartitionScorer
from streamer.watermark import PartitionClock
from tests.core import worlds

SERVED = (("en",), ("zh",), ("de", "fr"))


def detect(text: str) -> str | None:
    return {"bonjour": "fr", "ciao": "it"}.get(text)


@pytest.mark.parametrize(
    ("tag", "language"),
    [("zh-Hant-TW", "zh"), ("zh_CN", "zh"), ("yue", "zh"), ("EN", "en"), ("nb-NO", "no"), ("iw", "he")],
)
def test_a_language_is_known_by_its_primary_subtag(tag: str, language: str) -> None:
    assert primary_language(tag) == language


def test_what_a_document_says_comes_before_what_its_text_looks_like() -> None:
    rules = LanguageRules(SERVED, detect=detect)
    assert rules.route("zh-CN", "bonjour") == 1
    assert rules.route(None, "bonjour") == 2
    assert rules.route("und", "bonjour") == 2
    assert rules.route(None, "?") == 0


@pytest.mark.parametrize(("to_default", "route"), [(True, 0), (False, NO_MODEL)])
def test_a_language_that_no_model_reads(to_default: bool, route: int) -> None:
    rules = LanguageRules(SERVED, others_to_default=to_default, detect=detect)
    assert rules.route("it", "x") == route
    assert rules.route(None, "ciao") == route


def test_with_one_model_for_everything_no_language_is_looked_for() -> None:
    def never(text: str) -> str:
        raise AssertionError(text)

    assert LanguageRules((("en",),), detect=never).route(None, "bonjour") == 0


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


def test_the_detector_knows_chinese_from_english_and_says_when_it_is_not_sure() -> None:
    found = language_detector()
    assert primary_language(found("诺维尔下调全年利润预期，股价大幅下跌") or "") == "zh"
    assert found("Norvale cuts its outlook for the full year and its shares fall sharply") == "en"
    assert found("📉 3.2%") is None


@given(st.text())
def test_any_text_has_a_route(text: str) -> None:
    rules = LanguageRules(SERVED, others_to_default=False, detect=_DETECTOR)
    assert rules.route(None, text) in (NO_MODEL, 0, 1, 2)


_DETECTOR = language_detector()
