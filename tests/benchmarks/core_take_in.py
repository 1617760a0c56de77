"""How fast a watch takes blocks in, and what it keeps: `python -m tests.benchmarks.core_take_in --help`.

The documents are made up: three in ten are copies, each has a topic and up to two of the companies, favourites far
more often than others; one in fifty comes too late. No detection, so that the figures are those of novelty, panes,
windows and evidence.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from alerts.desk import Desk
from alerts.dispatch import Told
from alerts.panes import ClosedPane, EvidenceOf
from alerts.rules import RuleSet
from streamer.core.blocks import MISSED, SELECTED, DigestBlock
from streamer.core.ragged import Ragged
from streamer.core.watch import Watch
from streamer.core.watch_settings import WatchSettings

START_MS = 1_700_000_000_000
ID_BYTES, EXCERPT_BYTES, SOURCES, TOPICS = 13, 100, 500, 20


class SilentDesk(Desk):
    """Says nothing and remembers nothing."""

    def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> Told:
        return Told([], [])

    def is_live(self) -> bool:
        return False

    def snapshot(self) -> dict[str, bytes]:
        return {}

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        return


def blocks(
    documents: int, size: int, per_second: float, companies: int, *, favourites: float = 3.0
) -> Iterator[DigestBlock]:
    """Blocks of `size` documents that come at a steady rate of event time; `favourites` 1 names all companies alike."""
    random = np.random.default_rng(1)
    symbols = tuple(f"S{number}" for number in range(companies))
    for first in range(0, documents, size):
        records = min(size, documents - first)
        late = records // 50
        n = records - late
        number = np.arange(first, first + n)
        time_ms = START_MS + (number * (1000 / per_second)).astype(np.int64) + random.integers(0, 60_000, n)
        ids = np.char.encode(np.char.mod("doc-%09d", number))
        fingerprint = random.integers(0, 1 << 16, (n, 32)).astype(np.uint16)
        text_hash = random.integers(0, 1 << 63, n).astype(np.uint64)
        copied, original = random.random(n) < 0.3, random.integers(0, n, n)
        fingerprint[copied], text_hash[copied] = fingerprint[original[copied]], text_hash[original[copied]]
        sentiment = random.dirichlet((1, 2, 1), n).astype(np.float32)
        symbol_offsets = np.concatenate(([0], np.cumsum(random.integers(0, 3, n))))
        yield DigestBlock(
            book="main",
            source="documents",
            partition=0,
            partitions=1,
            from_offset=first,
            to_offset=first + records,
            watermark_ms=int(time_ms.max()) - 300_000,
            idle=False,
            model="none",
            topics=tuple(f"T{topic}" for topic in range(TOPICS)),
            symbol_table=symbols,
            sources=tuple(f"source-{source}" for source in range(SOURCES)),
            langs=(),
            lateness_ms=300_000,
            record_offsets=np.arange(first, first + records),
            fates=np.repeat(np.array([SELECTED, MISSED], np.uint8), [n, late]),
            late_at_ms=np.sort(random.integers(int(time_ms.min()), int(time_ms.max()), late)) - 300_000,
            late_topic=random.integers(0, TOPICS, late).astype(np.int32),
            late_symbols=Ragged(random.integers(0, companies, late).astype(np.int32), np.arange(late + 1)),
            time_ms=time_ms,
            sentiment=sentiment,
            topic=random.integers(0, TOPICS, n).astype(np.int32),
            topic_p=np.full(n, 0.5, np.float32),
            source_index=random.integers(0, SOURCES, n).astype(np.int32),
            lang_index=np.full(n, -1, np.int32),
            weight=np.ones(n),
            fingerprint=fingerprint,
            id_hash=random.integers(0, 1 << 63, n).astype(np.uint64),
            text_hash=text_hash,
            content_hash=text_hash,
            id=Ragged(np.frombuffer(ids.tobytes(), np.uint8), np.arange(n + 1) * ID_BYTES),
            excerpt=Ragged(np.full(n * EXCERPT_BYTES, ord("x"), np.uint8), np.arange(n + 1) * EXCERPT_BYTES),
            url=Ragged(np.empty(0, np.uint8), np.zeros(n + 1, np.int64)),
            words=Ragged(np.empty(0, np.uint8), np.zeros(n + 1, np.int64)),
            symbols=Ragged(
                (companies * random.random(symbol_offsets[-1]) ** favourites).astype(np.int32), symbol_offsets
            ),
        )


def resident_mb() -> float:
    """Memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """The most memory that this process had, MB. (`ru_maxrss` also knows that of the process which started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def main() -> None:
    """Print documents per second of CPU time, and memory after every tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--block", type=int, default=50_000)
    parser.add_argument("--per-second", type=float, default=100.0, help="documents per second of event time")
    parser.add_argument("--companies", type=int, default=500)
    parser.add_argument("--company-topics", action="store_true")
    parser.add_argument("--horizon-hours", type=float, default=24.0)
    parser.add_argument("--window-hours", type=float, default=24.0, help="the longest window")
    options = parser.parse_args()
    settings = WatchSettings(
        company_topics=options.company_topics,
        horizon_ms=round(options.horizon_hours * 3_600_000),
        windows_ms=(900_000, 3_600_000, round(options.window_hours * 3_600_000)),
    )
    desk = SilentDesk(RuleSet(), book="main", pane_ms=settings.pane_ms, windows_ms=settings.windows_ms)
    watch = Watch(settings, desk)
    taking = writing = 0.0
    records = 0
    tenth = options.documents // 10
    started = perf_counter()
    for block in blocks(options.documents, options.block, options.per_second, options.companies):
        begun = process_time()
        output = watch.take_in(block)
        taken = process_time()
        records += sum(1 for _ in output.windows())
        taking, writing = taking + taken - begun, writing + process_time() - taken
        if (block.to_offset % tenth) < options.block:
            print(f"{block.to_offset:>10,} documents: {resident_mb():7.0f} MB, {len(watch.series):,} series")
    print(
        f"{options.documents / taking:,.0f} documents/s of CPU time taken in; {records:,} window records written at "
        f"{records / max(writing, 1e-9):,.0f}/s; {perf_counter() - started:.0f} s in all; {watch.counts}"
    )
    begun = process_time()
    snapshot = watch.snapshot()
    size = sum(map(len, snapshot.values())) / 1e6
    print(f"snapshot: {size:.1f} MB in {len(snapshot)} chunks, {process_time() - begun:.2f} s")


if __name__ == "__main__":
    main()
