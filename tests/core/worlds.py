"""Small invented worlds of documents for the core's tests: partitions of records, a stand-in model, and a run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import hypothesis
import numpy as np
import orjson
from numpy.typing import NDArray

from alerts.desk import Desk
from alerts.dispatch import Told
from alerts.panes import ClosedPane, EvidenceOf
from alerts.rules import RuleSet
from models.model_set import Answer
from streamer.core.blocks import DigestBlock
from streamer.core.documents import DocumentLimits
from streamer.core.privacy.redaction import NOTHING_REDACTED, Redactor
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer
from streamer.core.selection import BookSelection
from streamer.core.watch import Watch, WatchOutput
from streamer.core.watch_settings import WatchSettings
from streamer.core.watermark import PartitionClock
from streamer.timestamps import format_rfc3339

LABELS = {"sentiment": ("negative", "neutral", "positive"), "topic": ("Earnings", "Energy | Oil", "Macro")}
LATENESS_MS = 120_000
START_MS = 1_700_000_000_000 // 60_000 * 60_000


def examples(usual: int) -> int:
    """How many examples to try where `usual` are tried in `make test`; `make acceptance` tries thousands."""
    return max(1, usual * hypothesis.settings().max_examples // 100)


def record(offset: int, **fields: object) -> SourceRecord:
    """A record with a document: `id`, `text` and `published_at` have defaults made of the offset."""
    document = {"id": f"d{offset}", "text": f"text number {offset} of the day", "published_at": START_MS} | fields
    if isinstance(document["published_at"], int):
        document["published_at"] = format_rfc3339(document["published_at"])
    return SourceRecord(offset, None, None, orjson.dumps(document))


def probabilities(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """What a model might say: made of each text's hash alone."""
    digests = np.array([list(hashlib.blake2b(text.encode(), digest_size=6).digest()) for text in texts], np.float32)
    digests = digests.reshape(-1, 6) + 1
    return {
        "sentiment": digests[:, :3] / digests[:, :3].sum(axis=1, keepdims=True),
        "topic": digests[:, 3:] / digests[:, 3:].sum(axis=1, keepdims=True),
    }


def answer(texts: Sequence[str]) -> Answer:
    """`probabilities` as the models' answer."""
    return Answer(probabilities(texts), ("stand-in-1",), [tuple(text.split()[:2]) for text in texts])


def scorer(
    partition: int = 0,
    partitions: int = 1,
    *,
    clock: PartitionClock | None = None,
    redactor: Redactor = NOTHING_REDACTED,
) -> PartitionScorer:
    """A scorer for the book `main` that takes everything."""
    return PartitionScorer(
        "documents",
        partition,
        partitions=partitions,
        books=[BookSelection("main")],
        clock=clock or PartitionClock(LATENESS_MS),
        limits=DocumentLimits(),
        labels=LABELS,
        model="stand-in-1",
        redactor=redactor,
    )


def blocks_of(
    partition: int, partitions: int, records: Sequence[SourceRecord], sizes: Sequence[int]
) -> list[DigestBlock]:
    """The blocks of a partition whose records are scored in batches of `sizes`, then the one that says it is idle."""
    stretches = stretches_of(partition, partitions, records, [[*sizes, len(records)]], {0})
    return [block for stretch in stretches for block in stretch]


def stretches_of(
    partition: int,
    partitions: int,
    records: Sequence[SourceRecord],
    stretches: Sequence[Sequence[int]],
    idle_after: Collection[int],
) -> list[list[DigestBlock]]:
    """The same in stretches, each of batches of these sizes, after some of which the partition is idle for a while."""
    scoring = scorer(partition, partitions)
    made: list[list[DigestBlock]] = []
    at = 0
    for place, sizes in enumerate(stretches):
        blocks = []
        for size in sizes:
            batch = records[at : at + size]
            at += size
            if batch:
                prepared = scoring.prepare(batch)
                scored = scoring.finish(prepared, answer(prepared.texts))
                blocks += [DigestBlock.decode(block) for block in scored.blocks["main"]]
        if place in idle_after:
            blocks.append(DigestBlock.decode(scoring.idle(scoring.position or 0)["main"]))
        made.append(blocks)
    return made


def settings(**changes: object) -> WatchSettings:
    """A book with short windows, every kind of series, and a horizon of an hour."""
    defaults: dict[str, object] = {
        "windows_ms": (120_000, 600_000),
        "company_topics": True,
        "horizon_ms": 3_600_000,
        "source_weights": {"wire": 2.0},
    }
    return WatchSettings(**(defaults | changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Remark:
    """What the chatty desk says of a series in a pane."""

    text: str

    def encode(self) -> bytes:
        """As an alert record does."""
        return self.text.encode()


class ChattyDesk(Desk):
    """Says everything it is shown, evidence included, and stays live for `LIVE_MS` after any documents."""

    LIVE_MS = 240_000

    def __init__(self, book: WatchSettings) -> None:
        super().__init__(RuleSet(), book=book.book, pane_ms=book.pane_ms, windows_ms=book.windows_ms)
        self.live_until_ms = 0
        self.seen_until_ms = 0
        self.dropped: list[int] = []

    def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> Told:
        if len(pane.ids):
            self.live_until_ms = pane.end_ms + self.LIVE_MS
        self.seen_until_ms = pane.end_ms
        remarks: list[Any] = [Remark(f"{pane.start_ms} {pane.windows[:, :, :2].sum(axis=1).tolist()} {self.dropped}")]
        for number, counts in zip(pane.ids.tolist(), pane.counts.tolist(), strict=True):
            said = evidence(number, pane.end_ms - 3_600_000, pane.end_ms)
            remarks.append(Remark(f"{number} {pane.keys[number]} {counts} {said} {model}"))
        return Told(remarks, [])

    def is_live(self) -> bool:
        return self.seen_until_ms < self.live_until_ms

    def drop_series(self, ids: Iterable[int]) -> None:
        self.dropped += ids

    def snapshot(self) -> dict[str, bytes]:
        return {"state": orjson.dumps([self.live_until_ms, self.seen_until_ms, self.dropped])}

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        self.live_until_ms, self.seen_until_ms, self.dropped = orjson.loads(chunks["state"])


class EagerDesk(Desk):
    """The real one, under rules that need little to fire: a `quiet_past`, then a story or two."""

    RULES = RuleSet.from_mapping(
        {
            "learning": {"warm_up": "3h"},
            "rules": [
                {
                    "name": "any",
                    "max_false_alarms": "24 per 1d",
                    "min_negative": 1,
                    "life": {"min_firing": "2m", "resolve_after": "3m", "cool_down": "4m", "repeat": "15m"},
                },
                {"name": "held", "max_false_alarms": "12 per 1d", "min_negative": 2, "life": {"pending": "1m"}},
            ],
        }
    )

    def __init__(self, book: WatchSettings) -> None:
        super().__init__(
            self.RULES, book=book.book, pane_ms=book.pane_ms, windows_ms=book.windows_ms, sectors=book.sectors
        )


@cache
def quiet_past(partition: int) -> list[DigestBlock]:
    """Half a day before the worlds begin with a text every 20 minutes, one of nine negative, in a partition of its own
    (the last one) that is idle from then on: without it the real desk has nothing to compare with."""
    records: list[SourceRecord] = []
    texts = (f"calm day {number}" for number in itertools.count())
    for at_ms in range(START_MS - 12 * 3_600_000, START_MS - 600_000, 1_200_000):
        negative = len(records) % 9 == 0
        text = next(text for text in texts if (probabilities([text])["sentiment"].argmax() == 0) == negative)
        number = len(records)
        symbols = ["AAA"] if number % 2 else []
        records.append(record(number, id=f"past-{number}", text=text, published_at=at_ms, symbols=symbols))
    return blocks_of(partition, partition + 1, records, [])


def new_watch(book: WatchSettings, desk: Callable[[WatchSettings], Desk] = ChattyDesk) -> Watch:
    """A watch with a chatty desk, or another one."""
    return Watch(book, desk(book))


def run(
    watch: Watch, blocks: Sequence[DigestBlock], restart: Callable[[int, Watch], Watch] = lambda _, watch: watch
) -> tuple[Watch, list[WatchOutput]]:
    """Take the blocks in; `restart` may put another watch in the place of the one that took the first n."""
    outputs = []
    for taken, block in enumerate(blocks):
        watch = restart(taken, watch)
        outputs.append(watch.take_in(block))
    return watch, outputs


def said(outputs: Sequence[WatchOutput]) -> list[bytes]:
    """Everything that came out, as bytes: window records, alerts and what is told of them, each kind in order."""
    windows = [record.key + b" " + record.value for output in outputs for record in output.windows()]
    alerts = [alert.encode() for output in outputs for alert in output.alerts]
    return windows + alerts + [told.encode() for output in outputs for told in output.notifications]


def restored(watch: Watch) -> Watch:
    """A copy of a watch by way of its snapshot."""
    chunks: Mapping[str, bytes] = watch.snapshot()
    desk: Callable[[WatchSettings], Desk] = type(watch.desk)
    return Watch.restore(watch.settings, desk(watch.settings), chunks)
