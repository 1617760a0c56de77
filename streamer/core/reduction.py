"""Closed panes reduced to sums: per pane and series, in whole micro-units, so that no order of addition matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from alerts.panes import COPIES, DOCUMENTS, FIELDS, NEGATIVE
from streamer.core.pending import Batch
from streamer.core.ragged import Ragged
from streamer.core.runs import run_numbers, run_starts
from streamer.core.series import ALL, SeriesIndex, pair_hash, series_hash
from streamer.core.story_times import NO_TIME
from streamer.core.strongest import STRONGEST
from streamer.core.watch_settings import WatchSettings

_DENSE_CODES: Final = 1 << 24
_MICRO: Final = 1e6
_SHIFT: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Reduced:
    """Per (pane, series) of a batch, g of them, sorted by pane, then series number.

    `counts` int64[g, F] as in `alerts.panes.FIELDS`; `first_ms`, `last_ms` int64[g] of its stories,
    `NO_TIME` where it has copies alone; `source_group` int64[s],
    `source_hash` uint64[s]: the distinct sources of each group's stories, sorted by group; `strongest` int64[g,
    STRONGEST] documents, the most negative stories first, -1 for none; `late` int64[g] late documents, of which a group
    may have no others. `unfollowed` counts how often a document found no series because the book has as many as it may.
    """

    pane: NDArray[np.int64]
    series: NDArray[np.int64]
    counts: NDArray[np.int64]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    source_group: NDArray[np.int64]
    source_hash: NDArray[np.uint64]
    strongest: NDArray[np.int64]
    late: NDArray[np.int64]
    unfollowed: int

    @property
    def told(self) -> NDArray[np.bool_]:
        """bool[g]: whether a group has stories or copies."""
        told: NDArray[np.bool_] = (self.counts[:, DOCUMENTS] > 0) | (self.counts[:, COPIES] > 0)
        return told


def document_counts(batch: Batch, copy: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64[n + l, F]: what each document, and each late one after them, adds to the sums of its series. A copy counts
    as a copy and as nothing else, a late one not at all."""
    counts = np.zeros((len(copy) + len(batch.late), len(FIELDS)), dtype=np.int64)
    counts[: len(copy)][copy, COPIES] = 1
    rows = np.flatnonzero(~copy)
    probabilities, weight = batch.sentiment[rows].astype(np.float64), batch.weight[rows]
    counts[rows, DOCUMENTS] = 1
    counts[rows, NEGATIVE + batch.sentiment[rows].argmax(axis=1)] = 1
    sentiment = probabilities[:, 2] - probabilities[:, 0]
    counts[rows, 5] = np.rint(weight * _MICRO)
    counts[rows, 6:9] = np.rint(probabilities * weight[:, None] * _MICRO)
    counts[rows, 9] = np.rint(weight * sentiment * sentiment * _MICRO)
    return counts


def reduce_batch(
    batch: Batch, keep: NDArray[np.int64], copy: NDArray[np.bool_], index: SeriesIndex, settings: WatchSettings
) -> Reduced:
    """Reduce the documents `keep` int64[k] of a batch, of which `copy` bool[n] are copies, and the late ones; new
    series are numbered."""
    everything = _with_late(batch)
    late_rows = np.arange(len(batch.pane), len(everything.pane))
    row, series, unfollowed = memberships(everything, np.concatenate((keep, late_rows)), index, settings)
    panes, pane_of = np.unique(everything.pane, return_inverse=True) if len(late_rows) else _runs(batch.pane)
    width = len(index.keys)
    packed = np.sort(((pane_of[row] * width + series).astype(np.uint64) << _SHIFT) | row.astype(np.uint64))
    by_group = (packed & _LOW).astype(np.int64)
    codes = (packed >> _SHIFT).astype(np.int64)
    begins, group_of = run_starts(codes), run_numbers(codes)
    edges = np.append(begins, len(codes))
    member = sparse.csr_matrix(
        (np.ones(len(codes), dtype=np.int64), by_group, edges), shape=(len(begins), len(everything.pane))
    )
    counts = member @ document_counts(batch, copy)
    untold = np.concatenate((copy, np.ones(len(late_rows), dtype=np.bool_)))
    time_ms = np.concatenate((batch.time_ms, np.zeros(len(late_rows), dtype=np.int64)))
    first_ms = np.minimum.reduceat(np.where(untold, np.iinfo(np.int64).max, time_ms)[by_group], begins)
    last_ms = np.maximum.reduceat(np.where(untold, NO_TIME, time_ms)[by_group], begins)
    first_ms[counts[:, DOCUMENTS] == 0] = NO_TIME
    source_group, source_hash = _distinct_sources(batch, untold, group_of, by_group)
    return Reduced(
        pane=panes[codes[begins] // width],
        series=codes[begins] % width,
        counts=counts,
        first_ms=first_ms,
        last_ms=last_ms,
        source_group=source_group,
        source_hash=source_hash,
        strongest=_strongest(batch, untold, group_of, by_group, len(begins)),
        late=np.bincount(group_of[by_group >= len(copy)], minlength=len(begins)),
        unfollowed=unfollowed,
    )


@dataclass(frozen=True, slots=True)
class Mentions:
    """What n documents are about: their `pane` and `topic` int64[n], -1 for none, and rows of `symbols`, in the tables
    `topics` and `companies`."""

    pane: NDArray[np.int64]
    topic: NDArray[np.int64]
    symbols: Ragged
    topics: list[str]
    companies: list[str]


def _with_late(batch: Batch) -> Mentions:
    """The documents of a batch and its late ones after them."""
    late = batch.late
    return Mentions(
        np.concatenate((batch.pane, late.pane)),
        np.concatenate((batch.topic, late.topic)),
        Ragged.concatenated([batch.symbols, late.symbols]) if len(late) else batch.symbols,
        batch.topics,
        batch.companies,
    )


class _Sectors:
    """The sectors of the companies of a batch: their `names`, in order, and each company's place among them or -1."""

    def __init__(self, batch: Mentions, settings: WatchSettings) -> None:
        found = [settings.sectors.get(company) for company in batch.companies] if settings.sectors else []
        self.names = sorted({sector for sector in found if sector is not None})
        place = {name: number for number, name in enumerate(self.names)}
        self._of_company = np.array([-1 if sector is None else place[sector] for sector in found], dtype=np.int64)

    def rows_of(
        self, symbol_row: NDArray[np.int64], company: NDArray[np.int64], kept: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(document, sector) of kept documents, each pair once; of each named company: its document and its number."""
        sector = self._of_company[company]
        there = kept[symbol_row] & (sector >= 0)
        pairs = np.unique(symbol_row[there] * len(self.names) + sector[there])
        return pairs // len(self.names), pairs % len(self.names)


def memberships(
    batch: Mentions, keep: NDArray[np.int64], index: SeriesIndex, settings: WatchSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(document, series number) for every series that a kept document counts in, and how many found no number.

    New series are numbered as far as the index has room. While at it a series is a code: 0 for `all`, then one per
    topic, per sector, per company, and per pair of company and topic. A document counts once in a sector, however many
    companies of it it names.
    """
    kept = np.zeros(len(batch.pane), dtype=np.bool_)
    kept[keep] = True
    sectors = _Sectors(batch, settings)
    broad, topics, companies = len(batch.topics) + len(sectors.names), len(batch.topics), len(batch.companies)
    followed = np.array([not settings.companies or name in settings.companies for name in batch.companies], np.bool_)
    topical = keep[batch.topic[keep] >= 0]
    symbol_row = np.repeat(np.arange(len(kept)), batch.symbols.lengths)
    chosen = kept[symbol_row] & followed[batch.symbols.values]
    company_row, company = symbol_row[chosen], batch.symbols.values[chosen]
    rows = [keep, topical, company_row]
    codes = [np.zeros(len(keep), dtype=np.int64), 1 + batch.topic[topical], 1 + broad + company]
    if sectors.names:
        sector_row, sector = sectors.rows_of(symbol_row, batch.symbols.values, kept)
        rows.append(sector_row)
        codes.append(1 + topics + sector)
    if settings.company_topics:
        paired = batch.topic[company_row] >= 0
        rows.append(company_row[paired])
        codes.append(1 + broad + companies + company[paired] * topics + batch.topic[rows[-1]])
    row, code = np.concatenate(rows), np.concatenate(codes)

    present, place = _distinct(code, 1 + broad + companies + companies * topics)
    hashes = _code_hashes(present, batch, sectors.names)
    numbers = index.find(hashes)
    addable = (numbers < 0) & ((present <= broad) | (index.room_for_companies > 0))
    if addable.any():
        first = np.full(len(present), np.iinfo(np.int64).max, dtype=np.int64)
        unknown = numbers[place] < 0
        np.minimum.at(first, place[unknown], batch.pane[row[unknown]])
        missing = np.flatnonzero(addable).tolist()
        keys = [_code_key(int(present[number]), batch, sectors.names) for number in missing]
        panes = first[missing].tolist()
        index.add({int(hashes[m]): (pane, key) for m, pane, key in zip(missing, panes, keys, strict=True)})
        numbers = index.find(hashes)
    series = numbers[place]
    followed = series >= 0
    if followed.all():
        return row, series, 0
    return row[followed], series[followed], int(len(row) - followed.sum())


def _code_hashes(codes: NDArray[np.int64], batch: Mentions, sectors: list[str]) -> NDArray[np.uint64]:
    topic_hash = np.array([series_hash(f"topic:{label}") for label in batch.topics], dtype=np.uint64)
    company_hash = np.array([series_hash(f"company:{name}") for name in batch.companies], dtype=np.uint64)
    sector_hash = np.array([series_hash(f"sector:{name}") for name in sectors], dtype=np.uint64)
    plain = np.concatenate((np.array([ALL], dtype=np.uint64), topic_hash, sector_hash, company_hash))
    pair = codes[codes >= len(plain)] - len(plain)
    topics = max(1, len(batch.topics))
    hashes = pair_hash(company_hash[pair // topics], topic_hash[pair % topics])
    return np.concatenate((plain[codes[codes < len(plain)]], hashes))


def _code_key(code: int, batch: Mentions, sectors: list[str]) -> str:
    topics, companies = len(batch.topics), len(batch.companies)
    broad = topics + len(sectors)
    if code == 0:
        return "all"
    if code <= topics:
        return f"topic:{batch.topics[code - 1]}"
    if code <= broad:
        return f"sector:{sectors[code - 1 - topics]}"
    if code <= broad + companies:
        return f"company:{batch.companies[code - 1 - broad]}"
    company, topic = divmod(code - 1 - broad - companies, topics)
    return f"company:{batch.companies[company]}|topic:{batch.topics[topic]}"


def _distinct(codes: NDArray[np.int64], space: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of `codes` (below `space`), ascending, and the place of each code among them."""
    if space > _DENSE_CODES:
        return np.unique(codes, return_inverse=True)
    flags = np.zeros(space, dtype=np.bool_)
    flags[codes] = True
    return np.flatnonzero(flags), (np.cumsum(flags) - 1)[codes]


def _runs(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of an ascending array (not empty), and the number of each element's."""
    return values[run_starts(values)], run_numbers(values)


def _distinct_sources(
    batch: Batch, untold: NDArray[np.bool_], group_of: NDArray[np.int64], by_group: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Each group's distinct sources of stories; who only copies, or is late, is not independent."""
    story = ~untold[by_group]
    group_of, by_group = group_of[story], by_group[story]
    hashes, source = np.unique(batch.source, return_inverse=True)
    pairs = np.sort(group_of * len(hashes) + source[by_group])
    pairs = pairs[run_starts(pairs)]
    return pairs // len(hashes), hashes[pairs % len(hashes)]


def _strongest(
    batch: Batch,
    untold: NDArray[np.bool_],
    group_of: NDArray[np.int64],
    by_group: NDArray[np.int64],
    groups: int,
) -> NDArray[np.int64]:
    """int64[groups, STRONGEST]: the most negative stories of each group, ties in canonical order, -1 for none."""
    n = max(1, len(batch.pane))
    negative = np.ascontiguousarray(batch.sentiment[:, 0]).view(np.uint32).astype(np.uint64)
    by_rank = (np.sort(((_LOW - negative) << _SHIFT) | np.arange(len(negative), dtype=np.uint64)) & _LOW).astype(
        np.int64
    )
    rank = np.empty(len(by_rank), dtype=np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    story = ~untold[by_group]
    ranked = np.sort(group_of[story] * n + rank[by_group[story]])
    group = ranked // n
    within = np.arange(len(group)) - run_starts(group)[run_numbers(group)]
    best = within < STRONGEST
    strongest = np.full((groups, STRONGEST), -1, dtype=np.int64)
    strongest[group[best], within[best]] = by_rank[ranked[best] % n]
    return strongest
