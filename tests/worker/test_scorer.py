"""In which order a batch is handed to the broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamer.config import BookSettings, Config
from streamer.languages import LanguageRules
from streamer.records import Counts
from streamer.scoring import ScoredBatch
from streamer.worker.inference import InferenceQueue
from streamer.worker.publishing import Publisher, PublishError
from streamer.worker.scorer import Scorer
from streamer.worker.status import WorkerStatus
from tests.core.worlds import LABELS, answer


class Refusing(Publisher):
    """A publisher whose broker refuses one value and takes all others."""

    def __init__(self, refused: bytes) -> None:
        super().__init__({})
        self.refused = refused
        self.handed: list[tuple[int | None, bytes | None]] = []

    async def send(self, topic: str, value: bytes | None, *, partition: int | None = None, **how: Any) -> Any:
        """Hand over one record; its future says at once what became of it."""
        self.handed.append((partition, value))
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if value == self.refused:
            sent.set_exception(PublishError("too large"))
        else:
            sent.set_result(None)
        return sent


@pytest.mark.parametrize(("refused", "handed"), [(b"a1", 2), (b"a2", 4), (b"none", 5)])
async def test_no_block_of_a_book_follows_one_that_was_refused(refused: bytes, handed: int) -> None:
    status = WorkerStatus("score")
    inference = InferenceQueue(lambda texts, routes: answer(texts))
    config = Config(books=(BookSettings(name="a"), BookSettings(name="b")))
    scoring = Scorer(config, inference, status, labels=LABELS, model="none", languages=LanguageRules())
    publisher = scoring._publisher = Refusing(refused)
    batch = ScoredBatch([], [], [], {"a": [b"a1", b"a2", b"a3"], "b": [b"b1", b"b2"]}, Counts(), 9, "")
    try:
        if refused == b"none":
            await scoring._produce(batch)
        else:
            with pytest.raises(PublishError):
                await scoring._produce(batch)
    finally:
        inference.close()
    assert publisher.handed == [(0, b"a1"), (1, b"b1"), (0, b"a2"), (1, b"b2"), (0, b"a3")][:handed]
    assert status.produce_failures == (refused != b"none")
