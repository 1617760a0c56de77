"""Rows that wait for their pane to close, and the batches in which closed panes are worked on.

Blocks are kept as they came; a pane is a list of places in them. So taking a block in costs one sort by pane, and a
snapshot of what is pending is the blocks' own bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.blocks import DigestBlock
from streamer.canonical import canonical_order
from streamer.ragged import Ragged
from streamer.records import hash64
from streamer.runs import run_starts
from streamer.series import series_hash

_NO_SOURCE: Final = hash64(b"")


@dataclass(frozen=True, slots=True)
class Batch:
    """The n documents of some panes in canonical order: by time, then id, then content.

    `pane` int64[n]; `topic`, `model` int64[n] and the rows of `symbols` are places in the tables below (`topic` -1
    for none); `source` uint64[n] hashes the source's name; `weight` float64[n] includes the source's. `place` int64[n]
    and `row` int64[n] say in which of `blocks` a document stands, and where.
    """

    blocks: list[DigestBlock]
    place: NDArray[np.int64]
    row: NDArray[np.int64]
    pane: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    sentiment: NDArray[np.float32]
    weight: NDArray[np.float64]
    source: NDArray[np.uint64]
    topic: NDArray[np.int64]
    model: NDArray[np.int64]
    symbols: Ragged
    id_hash: NDArray[np.uint64]
    text_hash: NDArray[np.uint64]
    fingerprint: NDArray[np.uint16]
    topics: list[str]
    companies: list[str]
    models: list[str]

    def models_of(self, rows: slice) -> str:
        """The models that scored these documents, sorted, joined by commas."""
        if len(self.models) == 1:
            return self.models[0]
        return ",".join(sorted({self.models[model] for model in self.model[rows].tolist()}))


@dataclass(slots=True)
class _Waiting:
    """A block of which `rows_left` rows wait; the hash and weight of each of its sources, that of none at the end."""

    block: DigestBlock
    rows_left: int
    source_hash: NDArray[np.uint64]
    source_weight: NDArray[np.float64]


@dataclass(slots=True)
class PendingRows:
    """The rows of panes that are still open, by pane. `source_weights` multiply the weight of a source's documents."""

    pane_ms: int
    source_weights: Mapping[str, float]
    next_number: int = 0
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    _panes: dict[int, list[tuple[int, NDArray[np.int64]]]] = field(default_factory=dict)

    def add(self, block: DigestBlock, closed_pane: int | None) -> NDArray[np.int64]:
        """Let the rows of `block` wait; int64: those whose pane lies before `closed_pane`, which came too late."""
        number = self.next_number
        self.next_number += 1
        return self._add(number, block, closed_pane)

    def panes_before(self, pane: int) -> list[int]:
        """The panes before `pane` that have rows, ascending."""
        return sorted(waiting for waiting in self._panes if waiting < pane)

    def rows_in(self, pane: int) -> int:
        """How many rows wait in `pane`."""
        return sum(len(rows) for _, rows in self._panes[pane])

    def take(self, panes: Iterable[int]) -> Batch:
        """Remove the rows of `panes` and give them as one batch."""
        rows_of: dict[int, list[NDArray[np.int64]]] = {}
        for pane in panes:
            for number, rows in self._panes.pop(pane):
                rows_of.setdefault(number, []).append(rows)
        held, picked = [], []
        for number, parts in rows_of.items():
            waiting = self._waiting[number]
            rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
            held.append(waiting)
            picked.append(rows)
            waiting.rows_left -= len(rows)
            if not waiting.rows_left:
                del self._waiting[number]
        return self._batch(held, picked)

    def chunks(self) -> dict[str, bytes]:
        """The blocks that hold rows which still wait, one chunk each, in the order in which they came."""
        return {f"block/{number:012d}": waiting.block.encode() for number, waiting in self._waiting.items()}

    def restore(self, chunks: Mapping[str, bytes], closed_pane: int | None) -> None:
        """Take the blocks of `chunks` in again; raises DigestError."""
        for name in sorted(chunks):
            self._add(int(name.removeprefix("block/")), DigestBlock.decode(chunks[name]), closed_pane)

    def _add(self, number: int, block: DigestBlock, closed_pane: int | None) -> NDArray[np.int64]:
        pane = block.time_ms // self.pane_ms
        order = np.argsort(pane, kind="stable")
        ranked = pane[order]
        first_open = 0 if closed_pane is None else int(np.searchsorted(ranked, closed_pane))
        waiting = ranked[first_open:]
        if len(waiting):
            self._waiting[number] = _Waiting(
                block,
                len(waiting),
                np.array([*map(series_hash, block.sources), _NO_SOURCE], dtype=np.uint64),
                np.array([*(self.source_weights.get(name, 1.0) for name in block.sources), 1.0]),
            )
            begins = run_starts(waiting)
            ends = np.append(begins[1:], len(waiting)) + first_open
            for begin, end, name in zip(
                (begins + first_open).tolist(), ends.tolist(), waiting[begins].tolist(), strict=True
            ):
                self._panes.setdefault(name, []).append((number, order[begin:end]))
        return order[:first_open]

    def _batch(self, held: list[_Waiting], picked: list[NDArray[np.int64]]) -> Batch:
        blocks = [waiting.block for waiting in held]
        place = np.repeat(np.arange(len(blocks)), [len(rows) for rows in picked])
        row = np.concatenate(picked)

        def column(name: str) -> NDArray[np.generic]:
            columns = [getattr(waiting.block, name)[rows] for waiting, rows in zip(held, picked, strict=True)]
            return columns[0] if len(columns) == 1 else np.concatenate(columns)

        time_ms = column("time_ms").astype(np.int64)
        order = canonical_order(time_ms, blocks, place, row, column("content_hash").astype(np.uint64))
        parts = list(zip(held, picked, strict=True))
        topics, topic = _merged([(each.block.topics, each.block.topic[rows]) for each, rows in parts])
        symbol_rows = [each.block.symbols.take(rows) for each, rows in parts]
        companies, company = _merged(
            [(block.symbol_table, rows.values) for block, rows in zip(blocks, symbol_rows, strict=True)]
        )
        models, model = _merged(
            [((block.model,), np.zeros(len(rows), dtype=np.int32)) for block, rows in zip(blocks, picked, strict=True)]
        )
        source = np.concatenate([each.source_hash[each.block.source_index[rows]] for each, rows in parts])
        factor = np.concatenate([each.source_weight[each.block.source_index[rows]] for each, rows in parts])
        return Batch(
            blocks=blocks,
            place=place[order],
            row=row[order],
            pane=time_ms[order] // self.pane_ms,
            time_ms=time_ms[order],
            sentiment=column("sentiment").astype(np.float32)[order],
            weight=(column("weight").astype(np.float64) * factor)[order],
            source=source[order],
            topic=topic[order],
            model=model[order],
            symbols=Ragged(company, Ragged.concatenated(symbol_rows).offsets).take(order),
            id_hash=column("id_hash").astype(np.uint64)[order],
            text_hash=column("text_hash").astype(np.uint64)[order],
            fingerprint=column("fingerprint").astype(np.uint16)[order],
            topics=topics,
            companies=companies,
            models=models,
        )


def _merged(parts: list[tuple[tuple[str, ...], NDArray[np.int32]]]) -> tuple[list[str], NDArray[np.int64]]:
    """One table of the names in use of several blocks, and their columns of places in it (-1 stays -1)."""
    table: dict[str, int] = {}
    columns = []
    for names, column in parts:
        used = np.zeros(len(names) + 1, dtype=np.bool_)
        used[column] = True
        places = np.full(len(names) + 1, -1, dtype=np.int64)
        for name in used[:-1].nonzero()[0].tolist():
            places[name] = table.setdefault(names[name], len(table))
        columns.append(places[column])
    return list(table), columns[0] if len(columns) == 1 else np.concatenate(columns)
