"""What identifies a person is taken out of texts; what a desk reads them for stays."""

from __future__ import annotations

import time
from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.records import AlertRecord
from streamer.config.privacy_settings import PrivacySettings
from streamer.config.settings import BookSettings, Config
from streamer.core.blocks import DigestBlock
from streamer.core.novelty.fingerprints import fingerprint
from streamer.core.privacy.number_checks import is_card, is_iban, is_resident_id, passes_luhn
from streamer.core.privacy.redaction import Redactor
from streamer.core.records import SourceRecord
from streamer.offline.backtest import Backtest
from tests.core.worlds import answer, scorer
from tests.shell.test_schemas import RULES, stream
from tests.shell.words import WordScorer

ALL = Redactor(("email", "phone", "card", "identity"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Write to jane.o'doe+desk@mail.bank.example.", "Write to [email]."),
        ("请联系zhang.wei@bank.example或致电13800138000。", "请联系[email]或致电[phone]。"),
        ("ｊ@ no, ops＠bank.example yes", "ｊ@ no, [email] yes"),
        ("josé@firma.de, anna@müller.de and иван@почта.рф", "[email], [email] and [email]"),
        ("ｊａｎｅ@example.com, x@exa\u00admple.com", "[email], [email]"),
        ("card 4111 1111 1111 1111 12/27", "card [card] 12/27"),
        ("2023 4111 1111 1111 1111 123", "2023 [card] 123"),
        ("5500-0000-0000-0004, 378282246310005", "[card], [card]"),
        ("４１１１１１１１１１１１１１１１", "[card]"),
        ("call +1 (212) 555-0123 2024", "call [phone] 2024"),
        ("+44 20 7946 0958 or 0044 20 7946 0958", "[phone] or [phone]"),
        ("+8613800138000, +86 138 0013 8000, 138-0013-8000", "[phone], [phone], [phone]"),
        ("010-62345678", "[phone]"),
        ("(212) 555-0123; 212.555.0123; 1-800-555-0199", "[phone]; [phone]; [phone]"),
        ("Tel: 020 7946 0958. Call us on 555 01 23 45", "Tel: [phone]. Call us on [phone]"),
        ("SSN 123-45-6789, social security number 123 45 6789", "SSN [identity], social security number [identity]"),
        ("身份证11010519491231002X号", "身份证[identity]号"),
        ("GB82 WEST 1234 5698 7654 32 then DE89370400440532013000.", "[identity] then [identity]."),
    ],
)  # fmt: skip
def test_what_identifies_a_person_goes(text: str, shown: str) -> None:
    assert ALL.redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "$NRVL fell 12.5% to $1,234.56, @AAPL rose; 3 @ 5.20, 10@5.20, shares@$5.20",
        "revenue of 4,111,111,111 yuan; 1.234.567,89 EUR; 4111111111111 units sold",
        "net inflow +250000000 yuan, +10000000 shares, -12.5%, +12.5%",
        "2026-03-04 10:15:00.000, 20260304, 04.03.2026, 1700000000000, 2019 2020 2021 2022 2023",
        "600519.SH 000001.SZ 0700.HK 00700 12345678 9988.HK BRK.B",
        "ISIN US0378331005, DE0007164600; CUSIP 037833100; LEI 5493001KJTIIGC8Y1R12",
        "between 10.5-12.5 and 100-200-300, call options 7500000, phone 12000000 users, China Mobile 120000000",
        "13800138000元 13800138000股 13800138000 shares",
        "Resolution 2023/1234-5678, case 21-cv-04567, flight CA1234, order 12-345-678",
        "000-45-6789 666-45-6789 123-00-6789 123-45-0000 923-45-6789",
        "11010519491231002x1 110105194912310021 110105194913310020",
        "GB82 WEST 1234 5698 7654 33, XX82 1234 5698 7654 3212",
    ],
)
def test_prices_dates_tickers_and_numbers_that_fail_their_check_stay(text: str) -> None:
    assert ALL.redact(text) == text


@given(st.integers(10**14, 10**15 - 1).map(lambda body: f"4{body:015d}"[:15]))
def test_a_card_is_known_by_its_check_digit(body: str) -> None:
    valid = [digit for digit in "0123456789" if passes_luhn(body + digit)]
    assert len(valid) == 1
    assert ALL.redact(f"No. {body}{valid[0]}") == "No. [card]"
    assert not any(is_card(body + digit) for digit in "0123456789" if digit != valid[0])


@given(st.integers(0, 10**18 - 1))
def test_an_iban_is_known_by_its_check_digits(account: int) -> None:
    body = f"{account:018d}"
    check = 98 - int(body + "131400") % 97
    iban = f"DE{check:02d}{body}"
    assert is_iban(iban) == 22
    other = (check + 1) % 100
    assert is_iban(f"DE{other:02d}{body}") == 0 or other % 97 == check % 97


@given(st.dates(min_value=date(1900, 1, 1)), st.integers(0, 999))
def test_a_resident_id_is_known_by_its_birthday_and_check(born: date, serial: int) -> None:
    body = f"110105{born:%Y%m%d}{serial:03d}"
    valid = [check for check in "0123456789X" if is_resident_id(body + check)]
    assert len(valid) == (1 if int(body[6:10]) <= 2099 else 0)


def test_only_the_chosen_kinds_go() -> None:
    text = "a@b.example +44 20 7946 0958 4111111111111111 123-45-6789"
    assert Redactor(()).redact(text) == text
    assert Redactor(("email",)).redact(text) == "[email] +44 20 7946 0958 4111111111111111 123-45-6789"
    assert Redactor(("card",)).redact(text) == "a@b.example +44 20 7946 0958 [card] 123-45-6789"


def test_what_stands_across_the_cut_is_seen_whole() -> None:
    for secret in ("4111 1111 1111 1111", "jane.doe@a-long-name.of-a-bank.example", "GB82 WEST 1234 5698 7654 32"):
        for before in range(280 - len(secret) - 2, 281):
            excerpt = ALL.excerpt("x" * (before - 1) + " " + secret + " tail", 280)
            assert len(excerpt) <= 280
            for cut in range(5, len(secret)):
                assert secret[:cut] not in excerpt


@given(st.text(st.characters(codec="utf-8"), max_size=600), st.integers(1, 300))
def test_an_excerpt_is_the_beginning_of_the_text_where_there_is_nothing_to_hide(text: str, limit: int) -> None:
    assert len(ALL.excerpt(text, limit)) <= limit
    plain = "".join(each for each in text if each != "@" and each != "＠" and not each.isnumeric())
    assert ALL.excerpt(plain, limit) == plain[:limit]
    assert ALL.redact(plain) == plain


@given(st.text(st.sampled_from("0123456789 -+.()@ab:GB/"), max_size=400))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = ALL.redact(text)
    assert ALL.redact(once) == once


def test_a_link_loses_addresses_and_keeps_its_numbers() -> None:
    assert ALL.link("https://news.example/a/4111111111111111") == "https://news.example/a/4111111111111111"
    assert ALL.link("https://news.example/?to=jane%40bank.example&x=1") == "https://news.example/?to=[email]&x=1"
    assert ALL.link("https://social.example/@desk/%40x") == "https://social.example/@desk/%40x"


HOSTILE = [
    "@", "a@", "a@b.", "1 ", "1", "+1", "4 ", "4111 ", "411 ", "DE89 ", "GB82 WEST 1234 5698 7654 3", "tel: ", "(212) ",
    "1-", "0", "86 ", "+86 1", "00", "123-45-678", "SSN ", "电话", "1\u00a0", "+1(((", "1..", "A1 ", "tel 1 ", "+(",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_texts_cost_a_bounded_time(piece: str) -> None:
    text = (piece * 80_000)[:80_000]
    started = time.perf_counter()
    ALL.redact(text)
    assert time.perf_counter() - started < 2.0, "a pattern that looks back and forth would take minutes"


def record(offset: int, text: str) -> SourceRecord:
    fields = {"id": f"d{offset}", "text": text, "published_at": "2026-03-04T09:00:00Z"}
    fields["url"] = "https://x.example/?a@b.example"
    return SourceRecord(offset, None, None, msgspec.json.encode(fields))


def test_digests_carry_the_redacted_text_and_everything_else_is_that_of_the_text_itself() -> None:
    text = "Norvale says write to jane@bank.example or pay with 4111 1111 1111 1111"
    blocks = []
    for redactor in (ALL, Redactor(())):
        scoring = scorer(redactor=redactor)
        prepared = scoring.prepare([record(0, text)])
        assert prepared.texts == [text]
        batch = scoring.finish(prepared, answer(prepared.texts))
        (encoded,) = next(iter(batch.blocks.values()))
        blocks.append(DigestBlock.decode(encoded))
    redacted, plain = blocks
    assert redacted.excerpt.text(0) == "Norvale says write to [email] or pay with [card]"
    assert redacted.url.text(0) == "https://x.example/?[email]"
    assert plain.excerpt.text(0) == text
    assert redacted.fingerprint.tobytes() == plain.fingerprint.tobytes() == fingerprint([text]).minima.tobytes()
    assert redacted.content_hash.tolist() == plain.content_hash.tolist()


def test_alerts_show_no_address_and_are_else_the_same(surge: list[SourceRecord]) -> None:
    def alerts(kinds: tuple[str, ...]) -> list[AlertRecord]:
        book = BookSettings(windows=(900.0, 3600.0), rules=RULES)
        config = Config(books=(book,), privacy=PrivacySettings(redact=kinds))  # type: ignore[arg-type]
        test = Backtest(config, WordScorer(), source="stream")
        return test.take(0, surge).alerts + test.finish().alerts

    shown, plain = alerts(("email",)), alerts(())
    assert any(each.texts for each in shown)
    assert b"@" not in b"".join(each.encode() for each in shown)
    assert any(b"reporter@wire.example" in each.encode() for each in plain)
    assert [(each.id, each.sequence, each.change) for each in shown] == [(p.id, p.sequence, p.change) for p in plain]


@pytest.fixture(scope="module")
def surge() -> list[SourceRecord]:
    found = []
    for offset, fields in enumerate(stream()):
        fields["text"] = f"{fields['text']} by reporter@wire.example"
        found.append(SourceRecord(offset, None, None, msgspec.json.encode(fields)))
    return found
