"""A document that the model overflows on becomes a dead letter; everything else of its batch goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.model_set import ModelSet
from models.predictor import Predictor
from streamer.config.settings import Config
from streamer.core.blocks import DEAD, MISSED, SELECTED, DigestBlock
from streamer.core.dead_letters import LETTER_REASONS
from streamer.core.documents import DocumentLimits
from streamer.core.records import Counts, SourceRecord
from streamer.core.scoring import PartitionScorer, ScoredBatch
from streamer.core.selection import BookSelection
from streamer.core.watermark import PartitionClock
from streamer.offline.backtest import Backtest
from streamer.offline.classify import Rejected, Tally, classify_chunks
from streamer.offline.lines import Chunk, Line
from tests.core import worlds
from tests.core.worlds import START_MS, answer, record, scorer
from tests.models.tiny_bundle import write_tiny_bundle

GOOD, BAD = "record profit", "fraud in court"
OLD_MS = START_MS - 10 * worlds.LATENESS_MS


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("odd") / "tiny", overflowing="court")
    return ModelSet([Predictor(bundle, threads=1)])


@pytest.fixture
def scored(models: ModelSet) -> Callable[[Sequence[SourceRecord]], ScoredBatch]:
    """What becomes of one batch of a partition."""

    def run(records: Sequence[SourceRecord]) -> ScoredBatch:
        scoring = PartitionScorer(
            "documents",
            0,
            partitions=1,
            books=[BookSelection("main")],
            clock=PartitionClock(worlds.LATENESS_MS),
            limits=DocumentLimits(),
            labels=models.labels,
            model=models.version_id,
        )
        prepared = scoring.prepare(records)
        return scoring.finish(prepared, models.predict(prepared.texts, prepared.routes))

    return run


def test_alone_it_leaves_a_sound_digest_that_says_what_became_of_it(
    scored: Callable[[Sequence[SourceRecord]], ScoredBatch], models: ModelSet
) -> None:
    bad = record(7, text=BAD)
    batch = scored([bad])
    assert batch.counts == Counts(received=1, dead=1)
    (letter,) = batch.dead
    assert (letter.record, letter.reason) == (bad, "not_scored")
    assert letter.reason in LETTER_REASONS and models.version_id in letter.detail
    assert (batch.scores, batch.late, batch.next_offset) == ([], [], 8)
    (block,) = map(DigestBlock.decode, batch.blocks["main"])
    assert block.fates.tolist() == [DEAD]
    assert (block.from_offset, block.to_offset, len(block)) == (7, 8, 0)


def test_among_good_texts_it_takes_nothing_with_it(scored: Callable[[Sequence[SourceRecord]], ScoredBatch]) -> None:
    records = [
        record(0, text=GOOD),
        record(1, text=BAD),
        SourceRecord(2, None, None, b"no document"),
        record(3, text=GOOD, published_at=OLD_MS),
        record(4, text=BAD, published_at=OLD_MS),
        record(5, text="loss"),
    ]
    batch = scored(records)
    assert batch.counts == Counts(received=6, scored=2, late=1, dead=3)
    assert [(each.record.offset, each.reason) for each in batch.dead] == [
        (1, "not_scored"),
        (2, "invalid_json"),
        (4, "not_scored"),
    ]
    assert [orjson.loads(each.value)["origin"]["offset"] for each in batch.scores] == [0, 5]
    assert [orjson.loads(each.value)["origin"]["offset"] for each in batch.late] == [3]
    (block,) = map(DigestBlock.decode, batch.blocks["main"])
    assert block.fates.tolist() == [SELECTED, DEAD, DEAD, MISSED, DEAD, SELECTED]
    assert [block.id.text(row) for row in range(len(block))] == ["d0", "d5"]
    alone = scored([records[0], records[3], records[5]])
    assert [each.value for each in batch.scores] == [each.value for each in alone.scores]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_whichever_texts_have_no_numbers_every_record_is_counted_once_and_every_block_is_sound(
    odd: list[bool], data: st.DataObject
) -> None:
    scoring = scorer()
    times = [data.draw(st.sampled_from([START_MS, OLD_MS])) for _ in odd]
    prepared = scoring.prepare([record(offset, published_at=at) for offset, at in enumerate(times)])
    said = answer(prepared.texts)
    for row in np.flatnonzero(odd).tolist():
        said.probabilities[data.draw(st.sampled_from(["sentiment", "topic"]))][row, 1] = np.nan
    batch = scoring.finish(prepared, said)
    assert batch.counts.received == len(odd) == sum(batch.counts[1:])
    assert [each.record.offset for each in batch.dead] == np.flatnonzero(odd).tolist()
    (block,) = map(DigestBlock.decode, batch.blocks["main"])
    assert block.counts == batch.counts
    assert all(each is not None for line in batch.scores for each in orjson.loads(line.value)["sentiment"].values())


def test_a_backtest_goes_on_and_hands_it_out_as_a_dead_letter(models: ModelSet) -> None:
    backtest = Backtest(Config(), models, source="documents")
    texts = [GOOD, BAD, GOOD, BAD]
    records = [record(offset, text=f"{text} {offset}") for offset, text in enumerate(texts)]
    output = backtest.take(0, records)
    output.dead += backtest.finish().dead
    assert [(each.record.offset, each.reason) for each in output.dead] == [(1, "not_scored"), (3, "not_scored")]
    assert backtest.counts == Counts(received=4, scored=2, dead=2)


def test_classify_rejects_its_line_and_scores_the_others(models: ModelSet) -> None:
    texts = [GOOD, BAD, "", "loss"]
    lines = [Line(number, orjson.dumps({"text": text})) for number, text in enumerate(texts, 1)]
    written: list[bytes] = []
    rejected: list[Rejected] = []
    tally = classify_chunks(
        [Chunk(lines[:2], False), Chunk([Line(9, orjson.dumps({"text": BAD}))], False), Chunk(lines[2:], False)],
        models,
        DocumentLimits(),
        write=written.append,
        reject=rejected.append,
        progress=lambda tally: None,
    )
    assert tally == Tally(scored=2, rejected=3)
    assert [orjson.loads(line)["id"] for line in b"".join(written).splitlines()] == ["1", "4"]
    assert {(each.line.number, each.rejection.reason) for each in rejected} == {
        (2, "not_scored"),
        (9, "not_scored"),
        (3, "empty_text"),
    }
