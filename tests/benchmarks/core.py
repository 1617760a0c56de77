"""`make bench-core`: how fast the core is stage by stage, and what it keeps in memory.

Each part runs in a process of its own, so that the memory of one is not that of another. Freed memory is given back
before it is measured, as a worker does with every snapshot. The exit status is 1 where a limit of memory or time is not
kept. Times are CPU time of one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from alerts.desk import Desk
from alerts.rules import RuleSet
from streamer.config.settings import KafkaSettings
from streamer.core import watch as watching
from streamer.core.novelty.fingerprints import fingerprint
from streamer.core.watch import Watch
from streamer.core.watch_settings import WatchSettings
from streamer.worker.memory import give_back
from streamer.worker.snapshots import SnapshotWriter, newest_state
from streamer.worker.state_table import StateTable
from tests.benchmarks import core_novelty
from tests.benchmarks.core_panes import many_series_panes
from tests.benchmarks.core_take_in import blocks, peak_mb, resident_mb

FLAT = 1.05
SERIES_MB = 2000.0


def new_watch(settings: WatchSettings) -> Watch:
    """A watch with the default rules."""
    desk = Desk(RuleSet(), book="main", pane_ms=settings.pane_ms, windows_ms=settings.windows_ms)
    return Watch(settings, desk)


class Stopwatch:
    """CPU seconds spent in wrapped functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed under `name`."""
        self.seconds[name] = 0.0

        def timed(*arguments: Any, **named: Any) -> Any:
            begun = process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += process_time() - begun

        return timed


def speed(documents: int) -> bool:
    """Documents per second of every stage, 10 a second of event time, 521 series."""
    watch = new_watch(WatchSettings())
    clock = Stopwatch()
    for name, holder, attribute in (
        ("novelty", watch._novelty, "fold"),
        ("detection", watch.desk, "observe"),
        ("sums of panes", watching, "reduce_batch"),
    ):
        place = type(holder) if name == "novelty" else holder
        setattr(place, attribute, clock.around(name, getattr(place, attribute)))
    taking = writing = 0.0
    records = 0
    for block in blocks(documents, 50_000, 10.0, 500):
        begun = process_time()
        output = watch.take_in(block)
        taken = process_time()
        records += sum(1 for _ in output.windows())
        taking, writing = taking + taken - begun, writing + process_time() - taken
    clock.seconds["windows, sources, evidence"] = taking - sum(clock.seconds.values())
    for name, seconds in clock.seconds.items():
        print(f"  {name}: {documents / seconds:,.0f} documents/s ({seconds / taking:.0%})")
    print(f"  taken in, all of it: {documents / taking:,.0f} documents/s")
    print(f"  window records written: {records:,}, {records / writing:,.0f}/s")
    random = np.random.default_rng(3)
    words = np.array([f"word{number}" for number in range(5000)])
    texts = [" ".join(words[random.integers(0, 5000, 22)]) for _ in range(20_000)]
    begun = process_time()
    fingerprint(texts)
    print(f"  fingerprints of texts of 22 words (in the scorer): {len(texts) / (process_time() - begun):,.0f} texts/s")
    return True


def flat(documents: int) -> bool:
    """Memory after the first tenth against the end; the first tenth is three days, horizon and windows one."""
    watch = new_watch(WatchSettings())
    tenth = documents // 10
    per_second = tenth / (72 * 3600)
    marks = []
    for block in blocks(documents, tenth // 20, per_second, 500):
        watch.take_in(block)
        if block.to_offset % tenth == 0:
            give_back()
            marks.append(resident_mb())
    growth = marks[-1] / marks[0]
    print(f"  {documents:,} documents, MB after each tenth: {' '.join(f'{mark:.0f}' for mark in marks)}")
    print(f"  the end is {growth:.3f} of the first tenth, allowed {FLAT}")
    return growth <= FLAT


class Changelog(NamedTuple):
    """A file in place of a table's changelog on a broker: msgpack, a key and a value after the other."""

    file: Path

    def send(self, partition: int, key: bytes, value: bytes | None, **how: Any) -> asyncio.Future[None]:
        """Write an entry; it is acknowledged at once."""
        with self.file.open("ab") as stream:
            entry = msgspec.msgpack.encode((key, value))
            stream.write(len(entry).to_bytes(4, "big") + entry)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    def read(self) -> dict[bytes, bytes]:
        """What it holds."""
        entries: dict[bytes, bytes] = {}
        with self.file.open("rb") as stream:
            while length := stream.read(4):
                entry = stream.read(int.from_bytes(length, "big"))
                key, value = msgspec.msgpack.decode(entry, type=tuple[bytes, bytes | None])
                if value is None:
                    entries.pop(key, None)
                else:
                    entries[key] = value
        return entries


async def written_down(watch: Watch, changelog: Changelog) -> int:
    """Write a watch down twice as a worker does; returns the bytes of its snapshot."""
    table = StateTable(SimpleNamespace(data={}, send_changelog=changelog.send), KafkaSettings(), "")
    writer = SnapshotWriter("main", epoch=1, settings="")
    for _ in range(2):
        chunks = watch.snapshot()
        writes = writer.plan(chunks, 0, [])
        await table.put(0, writes.pieces)
        await table.put(0, [writes.manifest])
        writer.done()
        await table.remove(0, writes.removals)
        writer.removed()
        size = sum(map(len, chunks.values()))
        del chunks, writes
        give_back()
    return size


def restored(file: Path) -> tuple[float, float]:
    """Read a state and restore the watch as a worker does that takes a book over: seconds, and the peak in MB."""
    begun = perf_counter()
    state, _ = newest_state(Changelog(file).read(), "main")
    assert state is not None
    settings = WatchSettings(company_topics=True)
    desk = Desk(RuleSet(), book="main", pane_ms=settings.pane_ms, windows_ms=settings.windows_ms)
    Watch.restore(settings, desk, state.chunks)
    return perf_counter() - begun, peak_mb()


def many_series(documents: int) -> bool:
    """Memory of a book with 100,000 series: 4,900 companies by 20 topics."""
    watch = new_watch(WatchSettings(company_topics=True))
    for block in blocks(documents, 50_000, 100.0, 4900, favourites=1.0):
        watch.take_in(block)
    give_back()
    resident = resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        changelog = Changelog(Path(folder) / "changelog")
        snapshot = asyncio.run(written_down(watch, changelog)) / 1e6
        peak = peak_mb()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            seconds, peak_restoring = process.submit(restored, changelog.file).result()
    print(f"  {len(watch.series):,} series after {documents:,} documents: {resident:.0f} MB resident")
    print(f"  snapshot {snapshot:.0f} MB, peak with it {peak:.0f} MB, allowed {SERIES_MB:.0f}")
    print(f"  restored in {seconds:.1f} s, reading it from a file included; peak {peak_restoring:.0f} MB")
    return max(peak, peak_restoring) <= SERIES_MB and len(watch.series) >= 100_000


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="make bench-core ARGS=")
    parser.add_argument("--documents", type=int, default=2_000_000, help="for the speeds")
    parser.add_argument("--memory-documents", type=int, default=5_000_000)
    parser.add_argument("--series-documents", type=int, default=2_000_000)
    parser.add_argument("--panes", type=int, default=144, help="of 15 minutes; the last sixth is timed")
    parser.add_argument("--texts", type=Path, help="a .jsonl.gz of documents: recall and precision of folding")
    parser.add_argument("--only", choices=("speed", "memory", "series", "panes"))
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    parts: dict[str, tuple[Callable[[int], bool], int]] = {
        "speed": (speed, options.documents),
        "memory": (flat, options.memory_documents),
        "series": (many_series, options.series_documents),
        "panes": (many_series_panes, options.panes),
    }
    kept = True
    for name, (part, documents) in parts.items():
        if options.only in (None, name):
            print(f"{name}: {(part.__doc__ or '').splitlines()[0]}", flush=True)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                kept = process.submit(part, documents).result() and kept
    if options.texts:
        core_novelty.main(str(options.texts))
    sys.exit(0 if kept else 1)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
