"""Score records: one scored document as JSON, for people, consumers and replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.blocks import DigestBlock
from streamer.core.documents import Document, Rejection
from streamer.core.records import KeyedRecord
from streamer.escaping import escaped, quoted
from streamer.timestamps import format_rfc3339

if TYPE_CHECKING:
    from models.model_set import Answer

NOT_SCORED = "not_scored"
SENTIMENTS = ("negative", "neutral", "positive")


@dataclass(frozen=True, slots=True)
class Scored:
    """Probabilities of n texts: `sentiment` float32[n, 3] and, where there is a topic task, `topics` float32[n, T].

    `topic` int32[n] is the most likely label's place in `labels` (-1 without a topic task), `topic_p` its probability.
    """

    labels: tuple[str, ...]
    sentiment: NDArray[np.float32]
    topics: NDArray[np.float32] | None
    topic: NDArray[np.int32]
    topic_p: NDArray[np.float32]

    @classmethod
    def of(cls, probabilities: Mapping[str, NDArray[np.float32]], labels: tuple[str, ...], n: int) -> Scored:
        """From the probabilities by task. Raises ValueError where their shapes are not those of n texts."""
        sentiment = probabilities["sentiment"]
        if sentiment.shape != (n, 3):
            raise ValueError(f"sentiment probabilities have shape {sentiment.shape}, expected ({n}, 3)")
        topics = probabilities["topic"] if labels else None
        if topics is None:
            return cls((), sentiment, None, np.full(n, -1, np.int32), np.zeros(n, np.float32))
        if topics.shape != (n, len(labels)):
            raise ValueError(f"topic probabilities have shape {topics.shape}, expected ({n}, {len(labels)})")
        return cls(labels, sentiment, topics, topics.argmax(axis=1).astype(np.int32), topics.max(axis=1))

    def topic_labels(self) -> list[str | None]:
        """The most likely topic of each text, None without a topic task."""
        return [None if place < 0 else self.labels[place] for place in self.topic.tolist()]


def not_scored(answer: Answer, route: int) -> Rejection:
    """Why a text of this route whose probabilities are no numbers has no score."""
    model = quoted(answer.versions[route])
    return Rejection(NOT_SCORED, escaped(f"model {model} overflows on this text; export it in a higher precision"))


def score_record(
    document: Document, scored: Scored, row: int, source: str, partition: int, offset: int, model: str, late: bool
) -> bytes:
    """The JSON of one scored document: keys in this order, probabilities with six decimals."""
    record: dict[str, object] = {
        "id": document.id,
        "published_at": format_rfc3339(document.published_at_ms),
        "sentiment": dict(zip(SENTIMENTS, _rounded(scored.sentiment[row]), strict=True)),
    }
    if scored.topics is not None:
        values = _rounded(scored.topics[row])
        place = int(scored.topic[row])
        scores = dict(zip(scored.labels, values, strict=True))
        record["topic"] = {"label": scored.labels[place], "score": values[place], "scores": scores}
    record |= {
        "model": model,
        "late": late,
        "origin": {"topic": source, "partition": partition, "offset": offset},
        "symbols": document.symbols,
        "source": document.source,
        "lang": document.lang,
        "weight": document.weight,
    }
    return orjson.dumps(record)


def late_row_record(block: DigestBlock, row: int) -> KeyedRecord:
    """The late record of row `row` of a block whose pane had closed: a score record, as far as a digest holds it."""
    identity = block.id.text(row)
    place = int(block.topic[row])
    source, lang = int(block.source_index[row]), int(block.lang_index[row])
    symbols = block.symbols.values[block.symbols.offsets[row] : block.symbols.offsets[row + 1]]
    record: dict[str, object] = {
        "id": identity,
        "published_at": format_rfc3339(int(block.time_ms[row])),
        "sentiment": dict(zip(SENTIMENTS, _rounded(block.sentiment[row]), strict=True)),
    }
    if place >= 0:
        record["topic"] = {"label": block.topics[place], "score": _rounded(block.topic_p[row : row + 1])[0]}
    record |= {
        "model": block.model,
        "late": True,
        "origin": {"topic": block.source, "partition": block.partition, "offset": int(block.offsets[row])},
        "symbols": [block.symbol_table[symbol] for symbol in symbols.tolist()],
        "source": None if source < 0 else block.sources[source],
        "lang": None if lang < 0 else block.langs[lang],
        "weight": float(block.weight[row]),
    }
    return KeyedRecord(identity.encode("utf-8", "replace"), orjson.dumps(record))


def _rounded(values: NDArray[np.float32]) -> list[float]:
    rounded: list[float] = np.round(values.astype(np.float64), 6).tolist()
    return rounded
