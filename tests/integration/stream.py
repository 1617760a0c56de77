"""A made-up stream of documents with everything that can be wrong with one, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import orjson

from streamer.timestamps import format_rfc3339

Record = tuple[int | None, bytes | None, bytes | None]

COMPANIES = ("Aldermoor", "Brackwell", "Cindervale", "Dunmere", "Eastholt", "Farrowgate", "Glenmarch", "Hollowby")
CALM = (
    "{0} says new product launch in the market",
    "{0} reports earnings with profit for today",
    "{0} company shares record quarter guidance",
    "{0} settles in court and says it wins",
    "{0} launch of the product for its market",
)
BAD = (
    "{0} company reports loss and lawsuit in court",
    "{0} shares plunges on fraud lawsuit today",
    "{0} says bankrupt with loss for the quarter",
)
SYLLABLES = "ba cor den fil gra hum jos kel lor mav nis pol qua rem sut tiv".split()  # noqa: SIM905
POISON: tuple[bytes | None, ...] = (
    None,
    b"",
    b"{not json",
    b"\xff\xfe\x00bad",
    b"[]",
    b'{"id": 7}',
    b'{"id": "x", "text": "", "published_at": "2026-01-05T00:00:00Z"}',
    b'{"id": "x", "text": "y", "published_at": "yesterday"}',
    b"[" * 20_000,
)


def documents(
    count: int,
    *,
    seed: int,
    partitions: int,
    start_ms: int,
    step_ms: int,
    surge_every: int = 4000,
    copies: float = 0.0,
) -> Iterator[Record]:
    """`count` records over `partitions`: shuffled within half a minute, 2 % late, 3 % repeated, 1 % poison.

    Every `surge_every` records one company has a surge of negative texts. `copies` of them are retweets, syndication
    and light edits of one of the last texts, by any source in any partition; each text then has words of its own, so
    that what is no copy does not fold under the default similarity.
    """
    rng = random.Random(seed)
    recent: list[Record] = []
    told: list[tuple[str, str]] = []
    for number in range(count):
        partition = rng.randrange(partitions)
        chance = rng.random()
        if chance < 0.01:
            value = rng.choice(POISON)
            yield partition, None if value is not None else b"gone", value
            continue
        if chance < 0.04 and recent:
            yield rng.choice(recent)
            continue
        at = start_ms + number * step_ms - rng.randrange(30_000)
        if chance < 0.06:
            at -= rng.randrange(600_000, 7_200_000)
        in_surge = number % surge_every > surge_every * 0.85
        company = COMPANIES[(number // surge_every) % len(COMPANIES)] if in_surge else rng.choice(COMPANIES)
        text = rng.choice(BAD if in_surge and rng.random() < 0.8 else CALM).format(company) + f" {number}"
        if copies and told and rng.random() < copies:
            text, company = rng.choice(told)
            text = _edited(text, rng)
        elif copies:
            text += " " + " ".join("".join(rng.choices(SYLLABLES, k=3)) for _ in range(10))
            told.append((text, company))
            del told[:-200]
        document = {
            "id": f"{seed}-{number}",
            "text": text,
            "published_at": format_rfc3339(at),
            "source": f"wire-{rng.randrange(12)}",
            "symbols": [company[:4].upper()],
        }
        record = (partition, document["id"].encode(), orjson.dumps(document))  # type: ignore[attr-defined]
        recent.append(record)
        del recent[:-200]
        yield record


def _edited(text: str, rng: random.Random) -> str:
    """A copy as the world makes them."""
    words = text.split()
    match rng.randrange(5):
        case 0:
            return f"RT @desk{rng.randrange(99)}: {text}"
        case 1:
            return f"{text} https://example.invalid/{rng.randrange(999)}"
        case 2:
            return f"BREAKING: {text}"
        case 3:
            words[rng.randrange(len(words))] = "otherwise"
        case _:
            del words[rng.randrange(len(words))]
    return " ".join(words)
