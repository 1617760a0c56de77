"""Scoring texts without Kafka: chunks of lines in, JSON lines out, in the same order.

lines ─► parse ─► predict (one thread; the next chunk is read while the last is with the model) ─► write
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.documents import DocumentLimits, Rejection, ScoringText, parse_scoring_text
from streamer.lines import Chunk, Line

CHUNK_LINES: Final = 1024
CHUNK_BYTES: Final = 8 << 20
IN_FLIGHT: Final = 2


class Scorer(Protocol):
    """What `models.predictor.Predictor` offers."""

    @property
    def version_id(self) -> str:
        """The model's id in every output line."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Task to its labels."""

    def predict(self, texts: Sequence[str]) -> Any:
        """`.probabilities`: task to float32[n_texts, n_labels]."""


class Rejected(NamedTuple):
    """A line that holds no text to score."""

    line: Line
    rejection: Rejection

    def encode(self) -> bytes:
        """One line of JSON: `line`, `reason`, `detail`, and the bytes as `original` or `original_base64`."""
        record: dict[str, Any] = {
            "line": self.line.number,
            "reason": self.rejection.reason,
            "detail": self.rejection.detail,
        }
        try:
            record["original"] = self.line.value.decode("utf-8")
        except UnicodeDecodeError:
            record["original_base64"] = base64.b64encode(self.line.value).decode("ascii")
        if self.line.truncated:
            record["truncated"] = True
        return orjson.dumps(record) + b"\n"


@dataclass(slots=True)
class Tally:
    """What became of the lines so far."""

    scored: int = 0
    rejected: int = 0


def classify_chunks(
    chunks: Iterable[Chunk],
    scorer: Scorer,
    limits: DocumentLimits,
    *,
    write: Callable[[bytes], object],
    reject: Callable[[Rejected], object],
    progress: Callable[[Tally], object],
) -> Tally:
    """Scores every line of `chunks`; holds at most three chunks at once.

    `write` takes the output of whole chunks, `reject` one bad line, `progress` is called after each chunk.
    """
    tally = Tally()
    waiting: deque[tuple[list[str], Future[Any]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="bearwire-classify") as pool:

        def drain(leave: int) -> None:
            while len(waiting) > leave:
                ids, future = waiting.popleft()
                write(b"".join(output_lines(ids, future.result().probabilities, scorer)))
                tally.scored += len(ids)
                progress(tally)

        try:
            for chunk in chunks:
                texts: list[ScoringText] = []
                for line in chunk.lines:
                    parsed = parse_line(line, limits)
                    if isinstance(parsed, Rejection):
                        tally.rejected += 1
                        reject(Rejected(line, parsed))
                    else:
                        texts.append(parsed)
                if texts:
                    future = pool.submit(scorer.predict, [text.scored_text for text in texts])
                    waiting.append(([text.id for text in texts], future))
                drain(0 if chunk.source_waits else IN_FLIGHT)
            drain(0)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tally


def parse_line(line: Line, limits: DocumentLimits) -> ScoringText | Rejection:
    """The text of a line; the line's number stands in for a missing id."""
    if line.truncated:
        return Rejection("message_too_large", f"the line is longer than {len(line.value)} bytes")
    return parse_scoring_text(line.value, default_id=str(line.number), limits=limits)


def output_lines(
    ids: Sequence[str], probabilities: Mapping[str, NDArray[np.float32]], scorer: Scorer
) -> Iterator[bytes]:
    """One line of JSON per id: `id`, `sentiment` {label: p}, `topic` (any task) {label, score, scores}, `model`."""
    rows = {task: np.round(values.astype(np.float64), 6).tolist() for task, values in probabilities.items()}
    best = {task: values.argmax(axis=1).tolist() for task, values in probabilities.items()}
    others = [task for task in rows if task != "sentiment"]
    for row, identity in enumerate(ids):
        record: dict[str, Any] = {"id": identity}
        if "sentiment" in rows:
            record["sentiment"] = dict(zip(scorer.labels["sentiment"], rows["sentiment"][row], strict=True))
        for task in others:
            values, place, labels = rows[task][row], best[task][row], scorer.labels[task]
            record[task] = {
                "label": labels[place],
                "score": values[place],
                "scores": dict(zip(labels, values, strict=True)),
            }
        record["model"] = scorer.version_id
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
