"""The bundled stream: what it promises to hold, and that it can be made again from the texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from streamer.core.documents import Document, DocumentLimits, Rejection, parse_document
from streamer.demo.compose import LATE, REPEATS, compose
from streamer.demo.malformed import malformed_values
from streamer.demo.stream import read_messages, read_values
from streamer.demo.surges import read_surges
from streamer.demo.texts import read_texts
from streamer.demo.timeline import DAY, DAYS, START_MS, STORIES, moment

ALLOWED_LATENESS_MS = 300_000
TOPICS = {
    "Analyst Update", "Fed | Central Banks", "Company | Product News", "Treasuries | Corporate Debt", "Dividend",
    "Earnings", "Energy | Oil", "Financials", "Currencies", "General News | Opinion", "Gold | Metals | Materials",
    "IPO", "Legal | Regulation", "M&A | Investments", "Macro", "Markets", "Politics", "Personnel Change",
    "Stock Commentary", "Stock Movement",
}  # fmt: skip
WELL_KNOWN = {
    "AAPL", "MSFT", "GOOG", "GOOGL", "AMZN", "META", "TSLA", "NVDA", "AMD", "INTC", "NFLX", "DIS", "XOM", "CVX", "BP",
    "SHEL", "JPM", "BAC", "GS", "MS", "WFC", "HSBC", "UBS", "BA", "CAT", "GE", "GM", "PFE", "MRK", "KO", "PEP", "WMT",
    "TGT", "COST", "V", "MA", "PYPL", "ORCL", "IBM", "CSCO", "QCOM", "TSM", "ASML", "SAP", "TM", "VOD", "RIO", "BHP",
    "NKE", "MCD",
}  # fmt: skip
REAL_NAMES = re.compile(
    r"\b(Apple|Microsoft|Google|Amazon|Tesla|Nvidia|Netflix|Disney|Exxon|Chevron|JPMorgan|Goldman|Morgan Stanley|HSBC|"
    r"Boeing|Pfizer|Walmart|Reuters|Bloomberg|Wirecard|Volkswagen|Toyota|Siemens|Nestle|LVMH|Maersk|BlackRock|Moody's)\b"
)


@pytest.fixture(scope="module")
def values() -> list[bytes | None]:
    return read_values()


@pytest.fixture(scope="module")
def documents(values: list[bytes | None]) -> list[Document]:
    parsed = (parse_document(value, record_timestamp_ms=None, limits=DocumentLimits()) for value in values)
    return [each for each in parsed if isinstance(each, Document)]


@pytest.fixture(scope="module")
def rejections(values: list[bytes | None]) -> list[Rejection]:
    parsed = (parse_document(value, record_timestamp_ms=None, limits=DocumentLimits()) for value in values)
    return [each for each in parsed if isinstance(each, Rejection)]


def test_it_is_what_the_texts_compose_to(values: list[bytes | None]) -> None:
    composed, surges = compose()
    assert values == [value or None for value in composed]
    written = json.loads((read_texts.__globals__["TEXTS"].parent / "surges.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(surges))


def test_it_holds_a_few_thousand_messages_over_six_days(documents: list[Document]) -> None:
    assert 2_800 <= len(documents) <= 3_400
    days = Counter((document.published_at_ms - START_MS) // DAY for document in documents)
    assert sorted(days) == list(range(DAYS))
    assert days[5] < days[0] / 3, "the weekend is quiet"


def test_nights_are_quiet(documents: list[Document]) -> None:
    hours = Counter((document.published_at_ms - START_MS) // 3_600_000 % 24 for document in documents)
    assert max(hours[hour] for hour in range(5)) * 5 < min(hours[hour] for hour in range(9, 17))


def test_more_than_1500_texts_are_written_by_hand_and_all_differ() -> None:
    texts = [line.text for line in read_texts()]
    assert len(texts) > 1_500
    assert len({re.sub(r"[^a-z0-9]", "", text.lower()) for text in texts}) == len(texts)


def test_no_two_texts_are_one_template_with_the_names_and_numbers_changed() -> None:
    def bare(text: str) -> str:
        return re.sub(r"\W+", " ", re.sub(r"[A-Z$][\w'&.-]*|[\d.,%]+", "", text)).strip()

    shapes = Counter(bare(line.text) for line in read_texts() if len(bare(line.text).split()) >= 6)
    assert shapes.most_common(1)[0][1] <= 2


def test_every_topic_is_told_and_the_tones_are_mixed_as_in_real_news() -> None:
    lines = read_texts()
    sections = Counter(line.section for line in lines)
    assert TOPICS - set(sections) == set()
    assert min(sections[topic] for topic in TOPICS) >= 40
    plain = Counter(line.tone for line in lines if line.section in TOPICS)
    assert plain["0"] > plain["+"] > 0
    assert plain["0"] > plain["-"] > 0
    assert 0.4 < plain["0"] / plain.total() < 0.65


def test_many_companies_and_sources_appear(documents: list[Document]) -> None:
    assert len({symbol for document in documents for symbol in document.symbols}) >= 25
    assert len({document.source for document in documents}) >= 50


def test_companies_and_tickers_are_invented(documents: list[Document]) -> None:
    symbols = {symbol for document in documents for symbol in document.symbols}
    cashtags = {tag for document in documents for tag in re.findall(r"\$([A-Z]{1,5})\b", document.text)}
    assert not (symbols | cashtags) & WELL_KNOWN
    assert [document.text for document in documents if REAL_NAMES.search(document.text)] == []
    assert all(document.url is None or ".example/" in document.url for document in documents)


def test_documents_come_in_order_except_the_late_ones(documents: list[Document]) -> None:
    newest, behind = 0, []
    for document in documents:
        if document.published_at_ms < newest:
            behind.append(newest - document.published_at_ms)
        newest = max(newest, document.published_at_ms)
    assert len(behind) - LATE in range(3), "a repeat of a late document is late as well"
    assert min(behind) > 10 * ALLOWED_LATENESS_MS


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_late_documents_are_late_however_the_topic_is_partitioned(partitions: int) -> None:
    newest: dict[int, int] = {}
    late = 0
    for message in read_messages():
        if message.key is None or message.published_at_ms is None:
            continue
        partition = sum(message.key) % partitions
        late += message.published_at_ms < newest.get(partition, 0) - ALLOWED_LATENESS_MS
        newest[partition] = max(newest.get(partition, 0), message.published_at_ms)
    assert LATE <= late <= LATE + 2


def test_bad_messages_are_of_many_kinds(rejections: list[Rejection]) -> None:
    assert len(rejections) == len(malformed_values()) >= 40
    assert {rejection.reason for rejection in rejections} >= {
        "tombstone", "invalid_json", "invalid_utf8", "not_an_object", "missing_field", "wrong_type", "empty_text",
        "bad_timestamp", "bad_weight", "too_deep", "text_too_large",
    }  # fmt: skip


def test_bad_messages_fit_a_line_and_a_default_kafka_message() -> None:
    assert all(b"\n" not in value and len(value) < 1_000_000 for value in malformed_values())


def test_a_restarted_scraper_repeats_itself(documents: list[Document]) -> None:
    repeats = len(documents) - len({document.id for document in documents})
    assert repeats == REPEATS


def test_there_are_hostile_texts_to_escape(documents: list[Document]) -> None:
    texts = "\n".join(document.text for document in documents)
    assert "<script>" in texts
    assert "[bold red]" in texts


def test_the_surges_lie_within_the_stream_after_the_quiet_days() -> None:
    surges = read_surges()
    assert [surge.kind for surge in surges].count("negative") == 3
    assert {surge.shape for surge in surges if surge.kind == "negative"} == {"flash", "half-day", "slow"}
    assert [surge.kind for surge in surges].count("positive") == 1
    for surge in surges:
        assert moment(3) <= surge.start_ms < surge.end_ms < moment(6)
        assert surge.start < surge.peak < surge.end


def test_every_surge_is_told_by_many_sources_in_its_own_series(documents: list[Document]) -> None:
    for surge in read_surges():
        tickers = {series.removeprefix("company:") for series in surge.series if series.startswith("company:")}
        told = [
            document
            for document in documents
            if tickers & set(document.symbols) and surge.start_ms <= document.published_at_ms <= surge.end_ms
        ]
        assert len(told) >= 25
        assert len({document.source for document in told}) >= 15


def test_surges_are_one_sided_in_what_they_say() -> None:
    sign = {"negative": "-", "positive": "+", "neutral": "0"}
    lines: dict[str, Any] = {story.section: story for story in STORIES}
    for line in read_texts():
        if line.section in lines:
            assert line.tone == sign[lines[line.section].kind], line.text


def test_no_company_has_a_surge_of_bad_news_that_the_truth_does_not_know() -> None:
    told = {story.section for story in STORIES} | {"flash-aftermath"}
    bad = Counter(
        (symbol, line.day)
        for line in read_texts()
        if line.section not in told and line.tone == "-" and line.day is not None
        for symbol in line.symbols
    )
    assert bad.most_common(1)[0][1] <= 6
