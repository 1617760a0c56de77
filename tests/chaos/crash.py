"""Crash equality: workers and the broker are killed at random, and what comes out must not show it.

A stream of shuffled, late, repeated and poisonous documents runs over 8 partitions into a few worker processes with
two books. In the end every document is accounted for, and the windows and alerts (last write wins by key) are,
byte for byte, those of one calm process over the same topic. Outputs are read as the deliverer reads them: committed.
A worker may end by itself where the broker is away for too long; one that ends in a stall or by a defect of its own
fails the run.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamer.kafka.topic_reader import open_consumer, partitions_of
from tests.brokers.kraft import KafkaCluster
from tests.chaos.nursery import ForkedWorker, Nursery
from tests.integration.deployment import OUTPUTS, Deployment, Latest, until
from tests.integration.stream import documents

PARTITIONS = 8
SESSION_SECONDS = 4
PAUSE_SECONDS = 2.5 * SESSION_SECONDS
IDLE_SECONDS = 30
COPIES = 0.15
_SLICE_SECONDS = 0.5
BOOKS = [
    {"name": "main", "windows": ["15m", "1h"]},
    {
        "name": "wires",
        "select": {"sources": ["wire-1", "wire-2", "wire-3"]},
        "windows": ["20m"],
        "company_topics": True,
    },
]
PANE_SECONDS = 300
DEFECTS = ("nothing was done for", "AssertionError", "Traceback (most recent call last)")
"""What a worker that ended by itself must not have said in its last lines."""
RULES = {"learning": {"warm_up": "6h"}, "rules": [{"name": "surge", "life": {"min_firing": "2m"}}]}


@dataclass
class Report:
    """What a run did and found."""

    seed: int
    documents: int = 0
    kills: int = 0
    pauses: int = 0
    broker_kills: int = 0
    scalings: int = 0
    ended: int = 0
    recovery_seconds: list[float] = field(default_factory=list)
    takeover_seconds: list[float] = field(default_factory=list)
    restore_seconds: list[float] = field(default_factory=list)
    fates: dict[str, int] = field(default_factory=dict)
    copies: int = 0
    windows: int = 0
    alerts: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The report for people."""
        return [
            f"seed {self.seed}: {self.documents} documents, {self.kills} workers killed, {self.pauses} paused, "
            f"{self.broker_kills} broker kills, {self.scalings} scalings, {self.ended} ended by themselves "
            f"in {self.seconds:.0f} s",
            f"accounted for: {self.fates}; equal to the calm run: {self.windows} windows with {self.copies} copies, "
            f"{self.alerts} alerts",
            f"recovery (kill until every partition is scored again): {spread(self.recovery_seconds)}",
            f"books of those killed, watched again: {spread(self.takeover_seconds)}; "
            f"restoring a state: {spread(self.restore_seconds)}",
        ]


def spread(seconds: Sequence[float]) -> str:
    """Median and maximum, in words."""
    ordered = sorted(seconds)
    if not ordered:
        return "none"
    return f"p50 {ordered[len(ordered) // 2]:.1f} s, max {ordered[-1]:.1f} s of {len(ordered)}"


class CrashRun:
    """One run on a single-node Kafka of its own. `chances` are drawn from the seed alone; timings are not."""

    def __init__(self, folder: Path, bundle: str, *, seed: int, documents: int, kills: int, say: Any = print) -> None:
        self.report = Report(seed)
        self._rng = random.Random(seed)
        self._documents = documents
        self._kills = kills
        self._say = say
        self._folder = folder
        self._bundle = bundle
        self._workers: list[ForkedWorker] = []
        self._started = 0
        self._scored_at: list[list[float]] = [[] for _ in range(PARTITIONS)]
        self._killed_at: list[float] = []
        self._killed: list[tuple[float, Path]] = []
        self._published = asyncio.Event()

    async def run(self) -> Report:
        """Everything, to the comparison. Raises AssertionError where the crashes show."""
        began = time.monotonic()
        with KafkaCluster(self._folder / "kafka") as self._kafka, Nursery() as self._nursery:
            books = [{**book, "rules": RULES} for book in BOOKS]
            self._deployment = Deployment(
                self._kafka.bootstrap_servers,
                self._folder,
                model__bundle=self._bundle,
                topics__documents__partitions=PARTITIONS,
                time__pane_seconds=PANE_SECONDS,
                time__idle_timeout_seconds=IDLE_SECONDS,
                worker__session_timeout_seconds=SESSION_SECONDS,
                worker__rebalance_timeout_seconds=10,
                worker__fetch_max_records=200,
                worker__stall_timeout_seconds=120,
                novelty__similarity=0.5,
                books=books,
            )
            self._deployment.idempotent = True
            try:
                await self._run()
            except BaseException:
                for worker in self._workers:
                    self._say(f"--- {worker.log}:\n{worker.tail(15)}")
                raise
            finally:
                for worker in self._workers:
                    worker.resume()
                    worker.kill()
        self.report.recovery_seconds = self._recoveries()
        openings = [opening for log in sorted(self._folder.glob("worker-*.log")) for opening in openings_in(log)]
        self.report.restore_seconds = [opening.seconds for opening in openings]
        self.report.takeover_seconds = takeovers(self._killed, openings)
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _run(self) -> None:
        self._scale(1)
        await until(self._deployment.has_topics, "the topics exist", worker=self._workers[0])
        watching = asyncio.create_task(self._watch_scores())
        publishing = asyncio.create_task(self._publish())
        try:
            self._scale(3)
            await self._break_things()
            self._published.set()
            await publishing
            self._scale(2)
            await self._compare()
        finally:
            watching.cancel()
            publishing.cancel()
            await asyncio.gather(watching, publishing, return_exceptions=True)

    def _plan(self) -> list[str]:
        plan = ["kill"] * self._kills
        plan += ["pause"] * max(1, self._kills // 8) + ["broker"] * max(1, self._kills // 30)
        return plan + ["scale"] * max(2, self._kills // 10)

    async def _break_things(self) -> None:
        """Kill until there were enough kills; now and then pause a worker, scale, and once kill the broker."""
        plan = self._plan()
        self._rng.shuffle(plan)
        sizes = [1, 4, 2, 3]
        for step, action in enumerate(plan):
            await asyncio.sleep(self._rng.uniform(1.0, 8.0))
            self._replace_the_dead()
            victim = self._rng.choice(self._workers)
            if action == "kill":
                self._say(f"{step}/{len(plan)} kill {victim.pid}")
                victim.kill()
                self._workers.remove(victim)
                self.report.kills += 1
                self._killed_at.append(time.monotonic())
                self._killed.append((time.time(), victim.log))
                self._start()
            elif action == "pause":
                self._say(f"{step}/{len(plan)} pause {victim.pid}")
                if len(self._workers) < 2:
                    self._start()  # who is paused past its session has a successor when it wakes
                victim.pause()
                await asyncio.sleep(PAUSE_SECONDS)
                victim.resume()
                self.report.pauses += 1
            elif action == "broker":
                self._say(f"{step}/{len(plan)} kill the broker")
                self._kafka.kill()
                await asyncio.sleep(self._rng.uniform(0.0, 4.0))
                await asyncio.to_thread(self._kafka.start)
                self.report.broker_kills += 1
            else:
                size = sizes[self.report.scalings % len(sizes)]
                self._say(f"{step}/{len(plan)} scale to {size}")
                self._scale(size)
                self.report.scalings += 1

    def _recoveries(self) -> list[float]:
        """For each kill, the seconds until every partition had been scored again.

        Kills follow one another quickly, so a recovery may contain further kills.
        """
        found = []
        for killed_at in self._killed_at:
            places = [bisect_right(times, killed_at) for times in self._scored_at]
            if all(place < len(times) for place, times in zip(places, self._scored_at, strict=True)):
                firsts = [times[place] for place, times in zip(places, self._scored_at, strict=True)]
                found.append(max(firsts) - killed_at)
        return found

    async def _publish(self) -> None:
        """Publish steadily until everything was published and nothing is broken any more."""
        hours = 72
        records = list(
            documents(
                self._documents,
                seed=self.report.seed,
                partitions=PARTITIONS,
                start_ms=int(time.time() * 1000) - (hours + 2) * 3_600_000,
                step_ms=hours * 3_600_000 // self._documents,
                surge_every=max(1, self._documents // 12),
                copies=COPIES,
            )
        )
        size = max(1, round(len(records) * _SLICE_SECONDS / self._expected_seconds()))
        for at in range(0, len(records), size):
            self.report.documents += await self._deployment.publish(records[at : at + size])
            if not self._published.is_set():
                await asyncio.sleep(_SLICE_SECONDS)

    def _expected_seconds(self) -> float:
        """About how long things are broken for, so that documents keep coming all the while."""
        extra = {"pause": PAUSE_SECONDS, "broker": 8.0}
        return sum(4.5 + extra.get(action, 0.0) for action in self._plan())

    async def _watch_scores(self) -> None:
        while True:
            try:
                async with open_consumer(self._deployment.config.kafka) as consumer:
                    consumer.assign(await partitions_of(consumer, self._deployment.config.topics.scores.name))
                    await consumer.seek_to_end()
                    while True:
                        for records in (await consumer.getmany(timeout_ms=200)).values():
                            for record in records:
                                origin = msgspec.json.decode(record.value)["origin"]
                                self._scored_at[origin["partition"]].append(time.monotonic())
            except Exception as error:
                self._say(f"(the observer starts again: {error})")
                await asyncio.sleep(1)

    async def _compare(self) -> None:
        async def all_out() -> bool:
            self._replace_the_dead()
            self.report.fates = dict(await self._deployment.accounted_for())
            return self.report.fates["all"] == self.report.documents

        async def same(topic: str) -> bool:
            return await self._deployment.latest(topic) == expected[topic]

        try:
            await until(all_out, "every document is accounted for", seconds=240)
        except AssertionError:
            self._say(f"{self.report.documents} documents, {self.report.fates}")
            raise
        expected, counts = await self._deployment.backtest()
        for topic in OUTPUTS:
            try:
                await until(lambda topic=topic: same(topic), f"the {topic} are those of the calm run", seconds=120)
            except AssertionError:
                _say_difference(self._say, topic, expected[topic], await self._deployment.latest(topic))
                raise
        fates = self.report.fates
        assert (fates["scores"], fates["late"], fates["dead_letters"]) == (counts.scored, counts.late, counts.dead)
        self.report.windows, self.report.alerts = len(expected["windows"]), len(expected["alerts"])
        self.report.copies = copies_in(expected["windows"])
        assert self.report.windows, "there were no windows to compare"
        assert self.report.alerts, "there were no alerts to compare"
        assert self.report.copies > 0.5 * COPIES * self.report.documents, "hardly a copy was folded"
        for worker in self._workers:
            worker.terminate()
        await until(self._all_gone, "the workers stop gracefully", seconds=60)
        assert all(worker.tail(1) == "exit 0" for worker in self._workers)

    async def _all_gone(self) -> bool:
        return not any(worker.alive for worker in self._workers)

    def _scale(self, size: int) -> None:
        while len(self._workers) > size:
            self._workers.pop(self._rng.randrange(len(self._workers))).terminate()
        while len(self._workers) < size:
            self._start()

    def _start(self) -> None:
        self._started += 1
        log = self._folder / f"worker-{self._started:03d}.log"
        self._workers.append(self._nursery.start(self._deployment.file, log))

    def _replace_the_dead(self) -> None:
        """As a supervisor would: a worker that ended by itself is started again, and its last words are shown.

        Raises AssertionError where they tell of a stall or a defect.
        """
        for worker in [worker for worker in self._workers if not worker.alive]:
            self._say(f"worker {worker.pid} ended by itself:\n{worker.tail(4)}")
            if why := defect(worker.tail(60)):
                raise AssertionError(f"worker {worker.pid} ended by itself, {why}:\n{worker.tail(60)}")
            self._workers.remove(worker)
            self._start()
            self.report.ended += 1


def defect(log: str) -> str | None:
    """What is wrong with a worker that ended by itself and whose log ends so; None where its end was in order.

    A broker that is away for longer than a request may take is a reason to end, whatever Faust logs on the way. Where
    the clients do not let go a worker ends at once behind its last line, and the nursery cannot note its status.
    """
    last = log.splitlines()[-1] if log else ""
    if last.startswith("bearwire: Kafka"):
        return None
    if not re.search(r"^exit [1-9]\d*$", last):
        return "without a last line"
    if re.search(r"^bearwire: Kafka.*\nexit \d+$", log, re.MULTILINE):
        return None
    said = [words for words in DEFECTS if words in log]
    return f"which said {said[0]!r}" if said else None


class Opening(NamedTuple):
    """That a worker began to watch a book: when (Unix seconds), which one, and how long its state took to restore."""

    at: float
    book: str
    log: Path
    seconds: float


def openings_in(log: Path) -> list[Opening]:
    """The openings that a worker's log tells of, in order."""
    found = re.findall(r"^(\S+)Z INFO .* watching book (\w+) .* restored in ([\d.]+) s$", log.read_text(), re.MULTILINE)
    return [
        Opening(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp(), book, log, float(seconds))
        for at, book, seconds in found
    ]


def takeovers(killed: Sequence[tuple[float, Path]], openings: Sequence[Opening]) -> list[float]:
    """For each book of each worker killed (when, and its log), the seconds until it was watched again."""
    found = []
    for at, log in killed:
        for book in {opening.book for opening in openings}:
            of_book = sorted(opening for opening in openings if opening.book == book)
            before = [opening for opening in of_book if opening.at <= at]
            after = [opening for opening in of_book if opening.at > at]
            if before and after and before[-1].log == log:
                found.append(after[0].at - at)
    return found


def copies_in(windows: Latest) -> int:
    """How many copies the window records of the first book's widest series say were folded."""
    prefix = f"{BOOKS[0]['name']}/all@".encode()
    return sum(msgspec.json.decode(value or b"")["copies"] for key, value in windows.items() if key.startswith(prefix))


def _say_difference(say: Any, topic: str, expected: Any, found: Any) -> None:
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = [key for key in expected.keys() & found.keys() if expected[key] != found[key]]
    say(f"{topic}: {len(expected)} expected, {len(missing)} missing, {len(extra)} extra, {len(other)} different")
    for key in [*sorted(missing)[:2], *sorted(extra)[:2], *sorted(other)[:3]]:
        say(f"  {key!r}\n    expected {expected.get(key)!r}\n    found    {found.get(key)!r}")
