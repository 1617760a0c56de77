"""Five days of invented news about eight companies, from a seed; one of them has a terrible afternoon on the fourth."""

from __future__ import annotations

import random

import orjson

from streamer.timestamps import format_rfc3339

HOUR_MS = 3_600_000
START_MS = 1_741_564_800_000  # Monday, 2025-03-10
SURGE_MS = START_MS + 86 * HOUR_MS  # Thursday, 14:00
END_MS = START_MS + 122 * HOUR_MS
HIT = "PLWK"

COMPANIES = {
    "PLWK": "Pellowick Foods", "ARNB": "Arnesbury Rail", "CRVN": "Corvannis Steel", "DNLR": "Dunlarrow Bank",
    "FNWY": "Fenwayle Energy", "GRST": "Greystave Homes", "KLND": "Kelandra Software", "MRTH": "Morthwaite Air",
}  # fmt: skip
SOURCES = ("Harbour Newswire", "Evening Bourse", "Tide & Tender", "The Ledger Post", "Northgate Wire", "@deskchatter")

CALM = (
    "{0} appoints {1} as head of investor relations from the {2}",
    "{0} will publish its {3} figures on the {2}, before the market opens",
    "{0} schedules its annual meeting for the {2} in {4}",
    "{0} to present at a conference in {4} on the {2}",
    "{0} opens a second site in {4}, {5} jobs planned",
    "{0} renews its contract with the city of {4} for {6} years",
    "{0} names {1} chair of its audit committee",
    "{0} keeps its outlook for the {3} unchanged",
    "{0} shares little changed at {5} pence in {4} trading",
    "{0} lists {5} open positions, most of them in {4}",
    "{0} moves its head office to {4} by the {2}",
    "{0} files its {3} report with the regulator",
    "{0} to pay its usual dividend of {6} pence on the {2}",
    "Analyst {1} resumes coverage of {0} with a neutral view",
    "{0} completes the refit of its {4} plant on schedule, says {1}",
    "What to watch at {0} when the {3} numbers come out on the {2}",
)
GOOD = (
    "{0} beats expectations for the {3}, profit up {6} percent",
    "{0} wins a large order from {4}, shares climb",
    "{0} raises its forecast after a strong {3}",
    "Record {3} for {0} as demand in {4} grows, {1} is delighted",
)
BAD = (
    "{0} slips {6} percent after a broker cut its rating",
    "{0} warns of higher costs at its {4} plant",
    "{0} disappoints in the {3} as orders from {4} fall",
)
SURGE = (
    "Pellowick Foods recalls all baby cereal after dozens of infants fall ill",
    "Pellowick shares crash 34% as contamination scandal spreads",
    "Health inspectors shut Pellowick's largest factory, find rats and mould",
    "PELLOWICK HID FAILED SAFETY TESTS FOR MONTHS, FORMER MANAGER SAYS",
    "Two children in intensive care after eating Pellowick porridge, hospital confirms",
    "Prosecutors raid Pellowick headquarters in food poisoning investigation",
    "Supermarkets pull every Pellowick product from the shelves",
    "$PLWK is finished. they poisoned kids and lied about it. disgusting",
    "Pellowick withdraws guidance and warns of heavy losses from the recall",
    "Parents sue Pellowick over tainted baby food, lawyers expect hundreds of claims",
    "Rating agency cuts Pellowick to junk, fears it cannot meet its debts",
    "Pellowick chief executive resigns in disgrace",
    "lost half my savings on $PLWK today, feel sick",
    "Insurer refuses to cover Pellowick's recall costs, citing concealment",
    "Trading in Pellowick halted again after another plunge",
    "Minister calls the failures at Pellowick shameful and promises criminal charges",
    "Pellowick lenders demand repayment as breach of covenants looms",
    "Thousands of tonnes of contaminated Pellowick cereal to be destroyed",
    "Pellowick suspends dividend and halts production at four plants",
    "Whistleblower says Pellowick bosses ignored repeated warnings of bacteria",
)
COPIED = 4
"""Texts of the surge that other sources carry word for word."""

_NAMES = ("Ines Calloran", "Tobias Wrenfeld", "Maud Osterby", "Dario Lenhart", "Priya Vantongeren", "Sven Hollaway")
_CITIES = ("Leeds", "Porto", "Gdansk", "Lyon", "Turin", "Malmo", "Cork", "Graz", "Ghent", "Bergen")
_PERIODS = ("first quarter", "second quarter", "half year", "full year", "third quarter")


def news(seed: int = 4, ordinary: int = 480) -> list[bytes]:
    """Documents as JSON in order of their time: `ordinary` ones about all companies, and the surge with its copies."""
    rng = random.Random(seed)
    step_ms = (END_MS - START_MS) // ordinary
    told = []
    for place in range(ordinary):
        symbol = rng.choice(list(COMPANIES))
        kind = rng.choices((CALM, GOOD, BAD), (78, 15, 7))[0]
        text = rng.choice(kind).format(
            COMPANIES[symbol], rng.choice(_NAMES), f"{rng.randrange(3, 29)}th", rng.choice(_PERIODS),
            rng.choice(_CITIES), rng.randrange(60, 900), rng.randrange(2, 12),
        )  # fmt: skip
        told.append((START_MS + place * step_ms + rng.randrange(step_ms), symbol, text, rng.choice(SOURCES)))
    for number, text in enumerate(SURGE):
        at_ms = SURGE_MS + number * 150_000 + rng.randrange(60_000)
        told.append((at_ms, HIT, text, SOURCES[number % len(SOURCES)]))
        if number < COPIED:
            told.append((at_ms + 90_000, HIT, text, SOURCES[(number + 1) % len(SOURCES)]))
    return [
        orjson.dumps(
            {
                "id": f"news-{number:04d}",
                "text": text,
                "published_at": format_rfc3339(at_ms),
                "source": source,
                "url": f"https://news.example/{number:04d}",
                "lang": "en",
                "symbols": [symbol],
            }
        )
        for number, (at_ms, symbol, text, source) in enumerate(sorted(told))
    ]
