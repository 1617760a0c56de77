"""What a series key says: `all`, `topic:Earnings`, `company:XOM`, or `company:XOM|topic:Legal | Regulation`.

Topic labels may hold bars themselves, so a key is cut at `|topic:` only.
"""

from __future__ import annotations

_TOPIC_OF_COMPANY = "|topic:"


def parts_of(key: str) -> list[tuple[str, str]]:
    """Kind and name of each part: `[("company", "XOM"), ("topic", "Earnings")]`; empty for `all`."""
    company, bar, topic = key.partition(_TOPIC_OF_COMPANY)
    pieces = [company, f"topic:{topic}"] if bar else [key]
    return [(kind, name) for kind, _, name in (piece.partition(":") for piece in pieces) if name]


def kind_of(key: str) -> str:
    """`all`, `topic`, `company` or `company|topic`."""
    return "|".join(kind for kind, _ in parts_of(key)) or "all"


def parent_of(key: str) -> str:
    """The series whose past a new one leans on: its company for a company's topic, else `all`; "" for `all`."""
    company, bar, _ = key.partition(_TOPIC_OF_COMPANY)
    if bar:
        return company
    return "" if key == "all" else "all"
