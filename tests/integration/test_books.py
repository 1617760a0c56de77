"""Several books over several workers: each is watched in one place, and somebody else takes over from who dies."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from pathlib import Path

import pytest

from streamer.worker.embedded import free_port
from tests.integration.deployment import OUTPUTS, Deployment, WorkerProcess, until
from tests.integration.stream import documents

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

HOUR_MS = 3_600_000
RULES = {"learning": {"warm_up": "6h"}, "rules": [{"name": "surge"}]}
BOOKS = [
    {"name": "main", "windows": ["15m", "1h"], "rules": RULES},
    {"name": "wires", "select": {"sources": ["wire-1", "wire-2", "wire-3"]}, "windows": ["20m"]},
    {"name": "pairs", "windows": ["1h"], "company_topics": True},
]
HALF_A_YEAR_LATER = """
from aiokafka.consumer.subscription_state import SubscriptionState

measured = SubscriptionState.fetcher_idle_time.fget


def half_a_year_later(state):
    idle = measured(state)
    return idle + 180 * 86_400 if idle > 2 else idle


SubscriptionState.fetcher_idle_time = property(half_a_year_later)
"""
"""A `sitecustomize` for workers whose consumer believes, once it fetched nothing for 2 s, that it was half a year."""

LATE_AND_BUSY = """
import asyncio
import time

from aiokafka.consumer.fetcher import Fetcher
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import Consumer

answered, fetched, sought = Fetcher._proc_fetch_request, Consumer._getmany, Recovery._seek_offsets


async def answered_late(fetcher, *request):
    try:
        await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        return False
    return await answered(fetcher, *request)


async def fetched_patiently(consumer, active_partitions, timeout):
    return await fetched(consumer, active_partitions, 10.0)


async def sought_by_a_busy_loop(recovery, *where):
    await sought(recovery, *where)
    time.sleep(1.0)


Fetcher._proc_fetch_request, Consumer._getmany = answered_late, fetched_patiently
Recovery._seek_offsets = sought_by_a_busy_loop
"""
"""A `sitecustomize` for workers whose broker takes 0.2 s for a fetch, which wait for ten, and whose event loop is busy
for a second once a recovery has gone back to the beginning of the changelog. A fetch that began before the rebalance is
answered then."""


class Watched:
    """A worker, and which books it says that it watches."""

    def __init__(self, deployment: Deployment, number: int, *, role: str = "all") -> None:
        self.port = free_port()
        self.process: WorkerProcess = deployment.worker(
            "--role", role, "--set", "web.enabled=true", "--set", f"web.port={self.port}", number=number
        )

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def books(self) -> set[str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return set()
        # A book that is being opened is not watched yet: it has written no state.
        return {
            line.split('"')[1] for line in lines if line.startswith("bearwire_snapshot_bytes{") and line[-2:] != " 0"
        }


async def test_books_are_spread_over_workers_and_taken_over_from_one_that_dies(
    kafka: str, tiny_bundle: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        kafka,
        tmp_path,
        model__bundle=tiny_bundle,
        topics__documents__partitions=1,  # so that a pause between two lots of documents makes none too late
        time__pane_seconds=300,
        time__idle_timeout_seconds=3,
        books=BOOKS,
    )
    deployment.idempotent = True
    names = {str(book["name"]) for book in BOOKS}
    first = Watched(deployment, 1)
    await until(deployment.has_topics, "the topics exist", worker=first.process)
    second = Watched(deployment, 2)

    async def spread() -> bool:
        one, other = first.books(), second.books()
        return bool(one) and bool(other) and one | other == names and not one & other

    async def accounted() -> bool:
        return (await deployment.accounted_for())["all"] == published

    async def same() -> bool:
        return all([await deployment.latest(topic) == expected[topic] for topic in OUTPUTS])

    await until(spread, "each worker watches a book of its own", worker=second.process)
    start = int(time.time() * 1000) - 50 * HOUR_MS
    stream = list(documents(3000, seed=8, partitions=1, start_ms=start, step_ms=48 * HOUR_MS // 3000, surge_every=400))
    published = await deployment.publish(stream[:1500])
    await until(accounted, "the first half is accounted for", worker=second.process)
    first.process.kill()

    async def taken_over() -> bool:
        return second.books() == names

    await until(taken_over, "the other worker watches every book", worker=second.process)
    published += await deployment.publish(stream[1500:])
    await until(accounted, "everything is accounted for", worker=second.process)
    expected, _ = await deployment.backtest()
    assert {key.split(b"/")[0].decode() for key in expected["windows"]} == names
    await until(same, "what the books say is what a backtest says", worker=second.process)
    assert second.process.finish() == 0, second.process.tail()


async def test_a_fetch_that_waits_through_a_rebalance_takes_nothing_from_the_recovery_after_it(
    kafka: str, tiny_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Faust's own consumer the recovery waits for ever (`streamer/worker/faust_consumer.py`)."""
    deployment = Deployment(kafka, tmp_path, model__bundle=tiny_bundle, books=BOOKS)
    deployment.idempotent = True
    (tmp_path / "sitecustomize.py").write_text(LATE_AND_BUSY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    first = Watched(deployment, 1, role="watch")

    names = {str(book["name"]) for book in BOOKS}

    async def watches_all() -> bool:
        return first.books() == names

    await until(watches_all, "one worker watches every book", worker=first.process)
    second = Watched(deployment, 2, role="watch")

    async def spread() -> bool:
        one, other = first.books(), second.books()
        return bool(other) and one | other == names and not one & other and first.is_ready()

    await until(spread, "each worker watches books of its own", seconds=120, worker=first.process)
    assert first.process.finish() == 0, first.process.tail()
    assert second.process.finish() == 0, second.process.tail()


async def test_whoever_stood_by_for_half_a_year_takes_the_book_over(
    kafka: str, tiny_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(
        kafka,
        tmp_path,
        model__bundle=tiny_bundle,
        topics__documents__partitions=1,
        time__pane_seconds=300,
        time__idle_timeout_seconds=3,
    )
    deployment.idempotent = True
    scorer = deployment.worker("--role", "score", number=0)
    await until(deployment.has_topics, "the topics exist", worker=scorer)
    (tmp_path / "sitecustomize.py").write_text(HALF_A_YEAR_LATER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    workers = [Watched(deployment, number, role="watch") for number in (1, 2)]

    async def one_stands_by() -> bool:
        return sorted(map(len, map(Watched.books, workers))) == [0, 1] and all(map(Watched.is_ready, workers))

    await until(one_stands_by, "one watches the book and the other is ready", worker=workers[0].process)
    await asyncio.sleep(10)
    assert await one_stands_by()
    watching, standing_by = sorted(workers, key=lambda worker: len(worker.books()), reverse=True)
    watching.process.kill()

    async def taken_over() -> bool:
        return standing_by.books() == {"main"}

    await until(taken_over, "who stood by watches the book", seconds=60, worker=standing_by.process)
    start = int(time.time() * 1000) - 10 * HOUR_MS
    await deployment.publish(documents(500, seed=9, partitions=1, start_ms=start, step_ms=60_000))
    expected, _ = await deployment.backtest()

    async def same() -> bool:
        return all([await deployment.latest(topic) == expected[topic] for topic in OUTPUTS])

    await until(same, "what it says is what a backtest says", worker=standing_by.process)
    assert standing_by.process.finish() == 0, standing_by.process.tail()
    assert scorer.finish() == 0, scorer.tail()
