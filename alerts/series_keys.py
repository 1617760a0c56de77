"""What a series key says: `all`, `topic:Earnings`, `sector:Energy`, `company:XOM` or `company:XOM|topic:Oil | Gas`.

Topic labels may hold bars themselves, so a key is cut at `|topic:` only.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

_TOPIC_OF_COMPANY = "|topic:"
_KINDS = ("all", "topic", "sector", "company")
_WILD = frozenset("*?[]")


def parts_of(key: str) -> list[tuple[str, str]]:
    """Kind and name of each part: `[("company", "XOM"), ("topic", "Earnings")]`; empty for `all`."""
    company, bar, topic = key.partition(_TOPIC_OF_COMPANY)
    pieces = [company, f"topic:{topic}"] if bar else [key]
    return [(kind, name) for kind, _, name in (piece.partition(":") for piece in pieces) if name]


def kind_of(key: str) -> str:
    """`all`, `topic`, `sector`, `company` or `company|topic`."""
    return "|".join(kind for kind, _ in parts_of(key)) or "all"


def pattern_problem(pattern: str) -> str | None:
    """Why a shell pattern fits no series key there can be, and what may have been meant; None where it may fit one."""
    kind, _, name = pattern.partition(":")
    if pattern == "all" or not _WILD.isdisjoint(kind):
        return None
    near = [kind] if kind in _KINDS else difflib.get_close_matches(kind.lower(), _KINDS, n=1)
    if not near:
        return f"no series is like {pattern!r}; they are all, topic:…, sector:…, company:… and company:…|topic:…"
    meant = "all" if near == ["all"] else f"{near[0]}:{name or '*'}"
    company, bar, topic = meant.partition("|")
    part, colon, label = topic.partition(":")
    if near == ["company"] and bar and _WILD.isdisjoint(part):
        meant = f"{company}|topic:{(label if colon else topic) or '*'}"
    return None if meant == pattern else f"no series is like {pattern!r}; did you mean {meant!r}?"


def sector_of(key: str, sectors: Mapping[str, str]) -> str | None:
    """The sector of a company's series, or of a topic of it, where `sectors` (company to sector) has one."""
    company, _, _ = key.partition(_TOPIC_OF_COMPANY)
    kind, _, name = company.partition(":")
    return sectors.get(name) if kind == "company" else None


def parents_of(key: str, sectors: Mapping[str, str]) -> tuple[str, ...]:
    """The series whose past a new one leans on, the nearest first; the first of them that there is counts.

    A company's topic leans on its company, a company on its sector, everything else on `all`.
    """
    company, bar, _ = key.partition(_TOPIC_OF_COMPANY)
    if bar:
        return (company,)
    if key == "all":
        return ()
    sector = sector_of(key, sectors)
    return ("all",) if sector is None else (f"sector:{sector}", "all")
