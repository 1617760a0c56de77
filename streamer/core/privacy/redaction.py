"""Takes what identifies a person out of a text before others see it: addresses, phone, card and identity numbers.

The scan is linear in the text: every pattern is anchored at a digit or an `@` and looks a bounded way to either side.
It is a privacy step against what slips into news, not a defence against somebody who wants to smuggle a number out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from streamer.core.privacy.number_checks import is_card, is_iban, is_resident_id, is_ssn
from streamer.core.privacy.phone_numbers import phone_spans

Span = tuple[int, int]
_LOOK_AHEAD: Final = 160
"""Characters beyond a cut that are looked at, so that a number across it is seen whole; the longest is an e-mail's."""

_MANY_DIGITS: Final = re.compile(r"[0-9](?:[A-Z .()\-/]{0,5}[0-9]){6}")
_DIGIT_GROUPS: Final = re.compile(
    r"(?<![0-9A-Za-z])(?<![0-9][.,])[0-9]{3,}(?:[ -][0-9]{3,})*(?![0-9A-Za-z])(?![.,][0-9])"
)
_SSN: Final = re.compile(r"(?<![0-9A-Za-z-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9A-Za-z-])")
_SSN_NAMED: Final = re.compile(
    r"(?:\bSSN|\b[Ss]ocial [Ss]ecurity(?: [Nn]umber| [Nn]o\.?)?)(?: is|:| #)? ?"
    r"([0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4})(?![0-9])"
)
_RESIDENT: Final = re.compile(r"(?<![0-9A-Za-z])[1-8][0-9]{16}[0-9Xx](?![0-9A-Za-z])")
_IBAN: Final = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}")
# Latin, Greek and Cyrillic alone: Chinese, say, goes on without a space before and after an address.
_LETTERS: Final = r"A-Za-z\u00c0-\u024f\u0370-\u052f\u1e00-\u1fff"
_IN_LOCAL: Final = re.compile(rf"[{_LETTERS}0-9._%+'-]")
_DOMAIN_LABEL: Final = f"[{_LETTERS}0-9][{_LETTERS}0-9-]{{0,62}}"
_DOMAIN: Final = re.compile(rf"{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL}){{1,8}}")
_MOST_LOCAL: Final = 64
_GROUP: Final = re.compile(r"[0-9]+")
_LEAST_CARD_DIGITS: Final = 13
_MOST_CARD_DIGITS: Final = 19
# One character for one, so that places stay the same: full-width letters, digits and signs, unusual hyphens and spaces.
_FULL_WIDTH: Final = "".join(chr(0xFEE0 + code) for code in range(ord("!"), ord("~") + 1) if chr(code).isalnum())
_UNUSUAL: Final = _FULL_WIDTH + "＠＋（）－．‐‑‒–—\u00ad\u00a0\u2007\u202f\u3000"
_PLAIN: Final = str.maketrans(_UNUSUAL, unicodedata.normalize("NFKC", _FULL_WIDTH) + "@+()-.------    ")
_HAS_UNUSUAL: Final = re.compile(f"[{_UNUSUAL}]")


class Redactor:
    """Redacts the kinds that it was made for: of `email`, `phone`, `card`, `identity`. Pure, and may be shared."""

    def __init__(self, kinds: Iterable[str]) -> None:
        chosen = frozenset(kinds)
        finders: dict[str, Callable[[str], Iterator[Span]]] = {
            "card": _card_spans, "identity": _identity_spans, "phone": phone_spans
        }  # fmt: skip
        self._email = "email" in chosen
        # In this order: a card number is no phone number.
        self._numbers = tuple((kind, find) for kind, find in finders.items() if kind in chosen)

    def excerpt(self, text: str, limit: int) -> str:
        """The first `limit` characters of `text`, redacted; what stands across the cut is seen whole."""
        head = text[: limit + _LOOK_AHEAD]
        found = self._found(head)
        return text[:limit] if not found else _replaced(head, found, limit)[:limit]

    def redact(self, text: str) -> str:
        """All of `text`, redacted."""
        found = self._found(text)
        return text if not found else _replaced(text, found, len(text))

    def link(self, url: str) -> str:
        """`url` without e-mail addresses; numbers stay, since they are mostly the names of articles."""
        if not self._email or ("@" not in url and "%40" not in url):
            return url
        plain = url.replace("%40", "@")
        found = [(start, end, "email") for start, end in _email_spans(plain)]
        return _replaced(plain, found, len(plain)) if found else url

    def _found(self, text: str) -> list[tuple[int, int, str]]:
        """Non-overlapping (start, end, kind), in order."""
        if not text.isascii() and _HAS_UNUSUAL.search(text) is not None:
            text = text.translate(_PLAIN)
        found: list[tuple[int, int, str]] = []
        if self._email and "@" in text:
            found += [(start, end, "email") for start, end in _email_spans(text)]
        if self._numbers and _MANY_DIGITS.search(text) is not None:
            for kind, find in self._numbers:
                for start, end in find(text):
                    if all(end <= a or start >= b for a, b, _ in found):
                        found.append((start, end, kind))
        return sorted(found)


def _replaced(text: str, found: list[tuple[int, int, str]], limit: int) -> str:
    """The first `limit` characters of `text`, with each span that begins there as `[kind]`."""
    parts: list[str] = []
    at = 0
    for start, end, kind in found:
        if start >= limit:
            break
        parts += [text[at:start], f"[{kind}]"]
        at = end
    parts.append(text[at:limit])
    return "".join(parts)


def _email_spans(text: str) -> Iterator[Span]:
    done = 0
    at = text.find("@")
    while at >= 0:
        start = at
        while start > max(done, at - _MOST_LOCAL) and _IN_LOCAL.match(text, start - 1) is not None:
            start -= 1
        domain = _DOMAIN.match(text, at + 1) if start < at else None
        if domain is not None and _is_domain(domain[0]):
            yield start, domain.end()
            done = domain.end()
            at = text.find("@", done)
        else:
            at = text.find("@", at + 1)


def _is_domain(name: str) -> bool:
    last = name.rpartition(".")[2]
    return len(last) >= 2 and not last[0].isdigit()


def _card_spans(text: str) -> Iterator[Span]:
    """A card may stand among other groups of digits: the year before it, its security code after it."""
    for run in _DIGIT_GROUPS.finditer(text):
        groups = list(_GROUP.finditer(text, run.start(), run.end()))
        first = 0
        while first < len(groups):
            last = _card_end(text, groups, first)
            if last is not None:
                yield groups[first].start(), groups[last].end()
                first = last
            first += 1


def _card_end(text: str, groups: list[re.Match[str]], first: int) -> int | None:
    digits = 0
    for last in range(first, len(groups)):
        digits += len(groups[last][0])
        if digits > _MOST_CARD_DIGITS:
            return None
        if digits >= _LEAST_CARD_DIGITS and is_card(text[groups[first].start() : groups[last].end()]):
            return last
    return None


def _identity_spans(text: str) -> Iterator[Span]:
    for match in _SSN.finditer(text):
        if is_ssn(match[0]):
            yield match.span()
    for match in _SSN_NAMED.finditer(text):
        if is_ssn(match[1]):
            yield match.span(1)
    for match in _RESIDENT.finditer(text):
        if is_resident_id(match[0]):
            yield match.span()
    for match in _IBAN.finditer(text):
        length = is_iban(match[0])
        if length:
            yield match.start(), match.start() + length


NOTHING_REDACTED: Final = Redactor(())
