"""Finds phone numbers, and leaves prices, dates, counts, tickers and securities' numbers alone. Pure.

Digits alone are no phone number: it takes a `+` and a country's code, the grouping of North America or China, or a word
such as `tel` before it; and no unit after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_UNIT: Final = r"(?! ?(?:[元股万亿手吨]|美元|港元|人民币|shares|yuan|dollars|euros|users|units|USD|CNY|RMB|EUR))"
_AFTER: Final = rf"(?![0-9A-Za-z%])(?![.,/-][0-9]){_UNIT}"
_BEFORE: Final = r"(?<![0-9A-Za-z$€£¥￥.,+/-])"
_INTERNATIONAL: Final = re.compile(
    rf"(?<![0-9A-Za-z+])(?:\+|00(?=(?:1|33|44|49|86)[ -]))(?:[0-9][ .()-]{{0,2}}){{7,14}}[0-9]{_AFTER}"
)
_NORTH_AMERICA: Final = re.compile(
    rf"{_BEFORE}(?:1[ .-])?(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}(?P<gap>[.-]))"
    rf"[2-9][0-9]{{2}}(?(gap)(?P=gap)|[ .-])[0-9]{{4}}{_AFTER}"
)
_CHINA_MOBILE: Final = re.compile(rf"{_BEFORE}1[3-9][0-9](?P<gap>[ -]?)[0-9]{{4}}(?P=gap)[0-9]{{4}}{_AFTER}")
_CHINA_FIXED: Final = re.compile(rf"{_BEFORE}\(?0[1-9][0-9]{{1,2}}\)?[ -][2-8][0-9]{{6,7}}{_AFTER}")
_NAMED: Final = re.compile(
    r"(?:\b(?:tel|telephone|fax|whatsapp)\b(?: (?:no|number))?[.:]{0,2}"
    r"|\b(?:phone|mobile|cell|hotline)(?:(?: (?:no|number))?[.:]{1,2}| number)"
    r"|\bcall(?: us)? (?:at|on)\b"
    r"|(?:电话|手机|致电|热线|传真|联系方式)(?:号码)?(?:为|是|[:：])?)"
    rf" {{0,2}}(\(?[0-9+](?:[ .()/-]{{0,2}}[0-9]){{6,14}}){_AFTER}",
    re.IGNORECASE,
)
_DATE: Final = re.compile(r"(?:19|20)[0-9]{2}[ ./-][01]?[0-9][ ./-][0-3]?[0-9]")


def phone_spans(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each phone number; they may overlap."""
    for match in _INTERNATIONAL.finditer(text):
        length = international_length(match[0])
        if length:
            yield match.start(), match.start() + length
    for pattern in (_NORTH_AMERICA, _CHINA_MOBILE, _CHINA_FIXED):
        for match in pattern.finditer(text):
            yield match.span()
    for match in _NAMED.finditer(text):
        if not _DATE.match(match[1]):
            yield match.span(1)


def international_length(text: str) -> int:
    """How many characters of `text`, which begins with `+` or `00`, are a phone number (E.164); 0 where none is.

    In North America's and China's plans a number's length is known, so digits after it stay.
    """
    places = [place for place, each in enumerate(text) if "0" <= each <= "9"]
    places = places if text.startswith("+") else places[2:]
    digits = "".join(text[place] for place in places)
    if digits.startswith("1"):
        return _cut(places, 11, text) if digits[1] >= "2" else 0
    if digits.startswith("861"):
        return _cut(places, 13, text)
    is_grouped = places[-1] - places[0] >= len(places)
    return places[-1] + 1 if digits[0] != "0" and (9 if is_grouped else 10) <= len(digits) <= 15 else 0


def _cut(places: list[int], count: int, text: str) -> int:
    """The length of `text` up to its digit number `count`, 0 where it has fewer or the same run of digits goes on."""
    if len(places) < count:
        return 0
    end = places[count - 1] + 1
    return end if end == len(text) or not text[end].isdigit() else 0
