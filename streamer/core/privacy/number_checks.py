"""Which numbers are what they look like: their check digits, lengths and prefixes. Pure."""

from __future__ import annotations

from datetime import date
from typing import Final

# ISO/IEC 7812 issuer prefixes (lowest, highest, as many digits as they have) and the lengths of their cards.
_ISSUERS: Final = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (6011, 6011, (16, 17, 18, 19)),  # Discover
    (644, 649, (16, 17, 18, 19)),
    (65, 65, (16, 17, 18, 19)),
    (62, 62, (16, 17, 18, 19)),  # UnionPay
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (36, 36, (14,)),  # Diners Club
    (38, 39, (14,)),
    (300, 305, (14,)),
    (50, 50, (16, 17, 18, 19)),  # Maestro
    (56, 58, (16, 17, 18, 19)),
)
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS: Final = "10X98765432"
# Lengths by country, from the SWIFT IBAN registry.
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def digits_of(text: str) -> str:
    """The ASCII digits in `text`."""
    return "".join(each for each in text if "0" <= each <= "9")


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = ord(digit) - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def is_card(text: str) -> bool:
    """Whether these digits, with single spaces or hyphens among them, are a payment card's number."""
    digits = digits_of(text)
    return passes_luhn(digits) and any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths for low, high, lengths in _ISSUERS
    )


def is_ssn(text: str) -> bool:
    """Whether these nine digits can be a US social security number."""
    digits = digits_of(text)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def is_resident_id(text: str) -> bool:
    """Whether these 18 characters are a Chinese resident identity number (GB 11643: a birthday and a check)."""
    total = sum((ord(digit) - 48) * weight for digit, weight in zip(text, _WEIGHTS, strict=False))
    if text[17].upper() != _CHECKS[total % 11] or not 11 <= int(text[:2]) <= 83:
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return 1900 <= born.year <= 2099


def is_iban(text: str) -> int:
    """How many characters of `text` are an IBAN (ISO 13616: length by country, modulo 97); 0 where none is.

    `text` begins with the country and may have single spaces; what follows the IBAN is not looked at, but it must
    not go on within the same word.
    """
    length = _IBAN_LENGTHS.get(text[:2], 0)
    compact, at = "", 0
    while at < len(text) and len(compact) < length:
        if text[at] != " ":
            compact += text[at]
        at += 1
    if not length or len(compact) < length or (at < len(text) and text[at] != " "):
        return 0
    value = int("".join(str(int(each, 36)) for each in compact[4:] + compact[:4]))
    return at if value % 97 == 1 else 0
