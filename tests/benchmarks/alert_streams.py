"""A year of labelled texts with surges put in: the background of the alert benchmark.

Background: the times and companies of real tweets (StockNet), one per story (exact text after removing links, mentions
and "RT" counts once within a day). Labels come from scores where a file of them is given; else they are drawn: every
company has its own share of negative texts, which drifts from day to day, and texts of one company and hour agree
more than chance. Topics are drawn from a fixed uneven distribution where no scores are given.

What a surge is. A surge of k times on a series brings, on top of the background, k times the negative texts of that
series' average day within the surge's length, and at least `LEAST` of them: fewer would not be an event that a desk
calls a surge, whatever the ratio (a company with one negative text a week has "ten times its rate" with a single one).
85 % of a surge's texts read negative, the rest neutral. A flash comes front-loaded (exponential), a slow one evenly.
Every other decoy is the same with positive in place of negative, and 3 % of its texts read negative by mistake. The
rest are syndicated copies: one story, all of its copies negative, edited as copies are (`core_novelty.EDITS`), of
which the stream holds what the real novelty fold leaves over.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamer.core.novelty.fingerprints import normalised_words
from tests.alerts.streams import DAY_MS, HOUR_MS, MINUTE_MS, NEGATIVE, NEUTRAL, POSITIVE, Texts
from tests.benchmarks.core_novelty import EDITS, SIMILARITY, folded

LEAST = 8
COPIES = (10, 60)
"""Copies of a syndicated story, from and to."""
RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0)
LENGTHS_MS = (15 * MINUTE_MS, HOUR_MS, 4 * HOUR_MS, 12 * HOUR_MS, DAY_MS)
TOPICS = 20
_NOISE = re.compile(r"https?://\S+|@\w+|\bRT\b|[^\w$#]+")


@dataclass(frozen=True)
class Background:
    """Stories: `times_ms` int64[n] ascending, `labels` int64[n], the companies (ragged), topic and text of each."""

    times_ms: NDArray[np.int64]
    labels: NDArray[np.int64]
    companies: list[tuple[str, ...]]
    topics: list[str]
    texts: list[str]


@dataclass(frozen=True)
class Surge:
    """One surge or decoy put into the stream."""

    series: str
    start_ms: int
    length_ms: int
    ratio: float
    flash: bool
    kind: Literal["negative", "positive", "copies"]
    texts: int

    @property
    def decoy(self) -> bool:
        """Whether an alert on it would be wrong."""
        return self.kind != "negative"


def read_background(path: Path, scores: Path | None, seed: int) -> Background:
    """The stories of a StockNet file; labels from `scores` (JSONL of `bearwire classify`), else drawn with `seed`."""
    rng = np.random.default_rng(seed)
    given = _read_scores(scores) if scores else {}
    told: dict[str, int] = {}
    times, labels, companies, topics, texts = [], [], [], [], []
    taste: dict[str, float] = {}
    mood: dict[tuple[str, int], float] = {}
    weights = rng.dirichlet(np.full(TOPICS, 1.0))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = sorted((json.loads(line) for line in file), key=lambda row: (row["published_at"], row["id"]))
    for row in rows:
        time_ms = round(datetime.fromisoformat(row["published_at"]).timestamp() * 1000)
        story = _NOISE.sub(" ", row["text"]).strip().lower()
        if time_ms - told.get(story, -DAY_MS) < DAY_MS:
            continue
        told[story] = time_ms
        symbols = tuple(row["symbols"])
        if row["id"] in given:
            label, topic = given[row["id"]]
        else:
            first = symbols[0] if symbols else ""
            own = taste.setdefault(first, float(rng.beta(4, 16)))
            odds = np.log(own / (1 - own))
            odds += mood.setdefault((first, time_ms // DAY_MS), 0.4 * float(rng.standard_normal()))
            odds += mood.setdefault((first + "/", time_ms // HOUR_MS), 0.6 * float(rng.standard_normal()))
            negative = 1 / (1 + np.exp(-odds))
            label = NEGATIVE if rng.random() < negative else POSITIVE if rng.random() < 0.35 else NEUTRAL
            topic = f"T{rng.choice(TOPICS, p=weights)}"
        times.append(time_ms)
        labels.append(label)
        companies.append(symbols)
        topics.append(topic)
        texts.append(row["text"])
    return Background(np.array(times, np.int64), np.array(labels, np.int64), companies, topics, texts)


def _read_scores(path: Path) -> dict[str, tuple[int, str]]:
    found = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            parts = row["sentiment"]
            label = max(range(3), key=lambda i: parts[("negative", "neutral", "positive")[i]])
            found[row["id"]] = (label, row["topic"]["label"])
    return found


def plan(background: Background, seed: int, surges: int, decoys: int, warm_days: int) -> list[Surge]:
    """Surges and decoys on companies and topics, three days apart on one series, none in the first `warm_days`."""
    rng = np.random.default_rng(seed)
    first, last = int(background.times_ms[0]), int(background.times_ms[-1])
    days = (last - first) / DAY_MS
    negative: dict[str, int] = {}
    total: dict[str, int] = {}
    for label, symbols, topic in zip(background.labels, background.companies, background.topics, strict=True):
        for name in (*(f"company:{symbol}" for symbol in symbols), f"topic:{topic}"):
            total[name] = total.get(name, 0) + 1
            negative[name] = negative.get(name, 0) + int(label == NEGATIVE)
    names = sorted(name for name, count in total.items() if count >= 50)
    found: list[Surge] = []
    while len(found) < surges + decoys:
        name = names[int(rng.integers(len(names)))]
        start = first + int(rng.uniform(warm_days, days - 3) * DAY_MS)
        if any(abs(other.start_ms - start) < 3 * DAY_MS and other.series == name for other in found):
            continue
        ratio = RATIOS[int(rng.integers(len(RATIOS)))]
        length = LENGTHS_MS[int(rng.integers(len(LENGTHS_MS)))]
        texts = max(round(ratio * negative[name] / days), LEAST)
        kind: Literal["negative", "positive", "copies"] = "negative"
        if len(found) >= surges:
            kind = "copies" if len(found) % 2 else "positive"
            texts = int(rng.integers(*COPIES)) if kind == "copies" else texts
        found.append(Surge(name, start, length, ratio, bool(rng.integers(2)), kind, texts))
    return found


def _left_of_copies(background: Background, copies: int, rng: np.random.Generator) -> int:
    """How many stories are left of one that is copied so often, after the novelty fold: 1 where all copies fold."""
    text = ""
    while len(normalised_words(text)) < 8:
        text = background.texts[int(rng.integers(len(background.texts)))]
    edits = list(EDITS.values())
    edited = [" ".join(edits[int(rng.integers(len(edits)))](text.split(), rng)) for _ in range(copies)]
    return len(np.unique(folded([text, *edited], np.zeros(copies + 1, np.int64), SIMILARITY)))


def inject(background: Background, surges: list[Surge], seed: int) -> Texts:
    """The background with these surges, as labelled texts. A company's surge has one topic, a topic's one company."""
    rng = np.random.default_rng(seed + 1)
    times, labels = [background.times_ms], [background.labels]
    companies, topics = list(background.companies), list(background.topics)
    known_topics = sorted(set(background.topics))
    known_companies = sorted({symbol for symbols in background.companies for symbol in symbols})
    for surge in surges:
        texts = round(surge.texts / 0.85) if surge.kind != "copies" else _left_of_copies(background, surge.texts, rng)
        place = np.minimum(rng.exponential(0.3, texts), rng.random(texts)) if surge.flash else rng.random(texts)
        times.append(np.sort(surge.start_ms + (place * surge.length_ms).astype(np.int64)))
        drawn = rng.random(texts)
        if surge.kind == "copies":
            labels.append(np.full(texts, NEGATIVE))
        elif surge.kind == "positive":
            labels.append(np.where(drawn < 0.82, POSITIVE, np.where(drawn < 0.97, NEUTRAL, NEGATIVE)))
        else:
            labels.append(np.where(drawn < 0.85, NEGATIVE, NEUTRAL))
        kind, _, name = surge.series.partition(":")
        spread = kind == "topic"
        topic = name if spread else known_topics[int(rng.integers(len(known_topics)))]
        for _ in range(texts):
            symbol = known_companies[int(rng.integers(len(known_companies)))] if spread else name
            companies.append((symbol,))
            topics.append(topic)
    at, label = np.concatenate(times), np.concatenate(labels)
    order = np.argsort(at, kind="stable")
    keys: dict[str, int] = {"all": 0}
    text_of, series_of = [], []
    for number, place_of in enumerate(order.tolist()):
        names = ("all", f"topic:{topics[place_of]}", *(f"company:{symbol}" for symbol in companies[place_of]))
        for key in names:
            text_of.append(number)
            series_of.append(keys.setdefault(key, len(keys)))
    return Texts(
        list(keys), at[order], label[order].astype(np.int64), np.array(text_of, np.int64), np.array(series_of, np.int64)
    )
