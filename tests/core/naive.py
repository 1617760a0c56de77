"""What every window record must say, from the documents alone: a few lines of polars, and nothing of the watch.

Which documents are copies is the rule of `tests.core.test_novelty.sequential`, document by document.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from streamer.core.documents import Document, DocumentLimits, parse_document
from streamer.core.novelty.fingerprints import fingerprint
from streamer.core.records import SourceRecord, content_hash, hash64
from streamer.core.watch_settings import WatchSettings
from tests.core.test_novelty import sequential
from tests.core.worlds import LABELS, LATENESS_MS, probabilities

STORY, COPY, DUPLICATE, LATE = "story", "copy", "duplicate", "late"
SUMS = ("weight", "negative_share", "neutral_share", "positive_share", "sentiment", "square")


def documents_of(world: Sequence[Sequence[SourceRecord]]) -> list[tuple[Document, int | None]]:
    """Every document; of a late one, the watermark that its partition had."""
    found: list[tuple[Document, int | None]] = []
    for records in world:
        newest = None
        for each in records:
            document = parse_document(each.value, record_timestamp_ms=None, limits=DocumentLimits())
            if isinstance(document, Document):
                mark = None if newest is None else newest - LATENESS_MS
                found.append((document, mark if mark is not None and document.published_at_ms < mark else None))
                newest = max(newest or 0, document.published_at_ms)
    return found


def fates(documents: Sequence[Document], book: WatchSettings) -> list[str]:
    """Of documents in canonical order, whether each is a story, a copy or a duplicate."""
    made = fingerprint([document.scored_text for document in documents])
    slots = [document.published_at_ms // book.pane_ms // book.slot_panes for document in documents]
    ids = [hash64(document.id.encode()) for document in documents]
    rule = sequential(book.similarity, list(zip(slots, ids, made.text_hash.tolist(), made.minima, strict=True)))
    return [DUPLICATE if duplicate else COPY if copy else STORY for duplicate, _, copy in rule]


def series_of(document: Document, book: WatchSettings) -> set[str]:
    """The series that a document counts in; every pair of company and topic is one."""
    topic = f"topic:{LABELS['topic'][int(probabilities([document.scored_text])['topic'][0].argmax())]}"
    companies = {f"company:{symbol}" for symbol in document.symbols}
    sectors = {f"sector:{book.sectors[symbol]}" for symbol in document.symbols if symbol in book.sectors}
    return {"all", topic, *companies, *sectors, *(f"{company}|{topic}" for company in companies)}


def rows(world: Sequence[Sequence[SourceRecord]], book: WatchSettings) -> pl.DataFrame:
    """A row for each document and each series that it counts in."""
    found = documents_of(world)
    told = [document for document, late_at in found if late_at is None]
    told.sort(key=lambda document: (document.published_at_ms, document.id.encode(), content_hash(document)))
    fated = [*zip(told, fates(told, book), strict=True), *((each, LATE) for each, late_at in found if late_at)]
    late_at = iter([at for _, at in found if at])
    return pl.DataFrame(
        [
            _row(document, fate, next(late_at) if fate == LATE else document.published_at_ms, book)
            for document, fate in fated
        ]
    ).explode("series")


def _row(document: Document, fate: str, at_ms: int, book: WatchSettings) -> dict[str, object]:
    said = probabilities([document.scored_text])["sentiment"][0]
    shares = said.astype(np.float64).tolist()
    sentiment = shares[2] - shares[0]
    weight = document.weight * book.source_weights.get(document.source or "", 1.0)
    sums = [1.0, *shares, sentiment, sentiment * sentiment]
    return {
        "series": sorted(series_of(document, book)),
        "pane": at_ms // book.pane_ms,
        "time": document.published_at_ms,
        "fate": fate,
        "label": int(said.argmax()),
        "source": document.source or "",
        **{name: round(weight * part * 1e6) for name, part in zip(SUMS, sums, strict=True)},
    }


def spans(found: pl.DataFrame, panes: int) -> pl.DataFrame:
    """What is to be said of the `panes` panes that end with each pane in which a series has anything but duplicates."""
    found = found.filter(pl.col("fate") != DUPLICATE)
    story = pl.col("fate") == STORY
    return (
        found.select("series", end="pane")
        .unique()
        .join(found, on="series")
        .filter((pl.col("pane") <= pl.col("end")) & (pl.col("pane") > pl.col("end") - panes))
        .group_by("series", "end")
        .agg(
            documents=story.sum(),
            copies=(pl.col("fate") == COPY).sum(),
            late=(pl.col("fate") == LATE).sum(),
            negative=(story & (pl.col("label") == 0)).sum(),
            neutral=(story & (pl.col("label") == 1)).sum(),
            positive=(story & (pl.col("label") == 2)).sum(),
            sources=pl.col("source").filter(story).n_unique(),
            first=pl.col("time").filter(story).min(),
            last=pl.col("time").filter(story).max(),
            **{name: pl.col(name).filter(story).sum() for name in SUMS},
        )
    )


def sayings(span: pl.DataFrame) -> dict[tuple[str, int], dict[str, object]]:
    """By series and pane, what a window record says, with means and shares."""
    weight = pl.max_horizontal(pl.col("weight"), 1)
    mean = (pl.col("positive_share") - pl.col("negative_share")) / weight
    variance = pl.max_horizontal(pl.col("square") / weight - mean * mean, 0.0)
    named = span.with_columns(
        mean_sentiment=mean,
        dispersion=variance.sqrt(),
        weight=pl.col("weight") / 1e6,
        shares=pl.struct(**{label: pl.col(f"{label}_share") / weight for label in LABELS["sentiment"]}),
    ).drop("sentiment", "square", *(f"{label}_share" for label in LABELS["sentiment"]))
    return {(row.pop("series"), row.pop("end")): row for row in named.iter_rows(named=True)}
