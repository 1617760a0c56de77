"""Scoring texts without Kafka: chunks of lines in, JSON lines out, in the same order.

lines ─► parse ─► predict (one thread; the next chunk is read while the last is with the model) ─► write
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from models.model_set import Answer
from streamer.core.documents import DocumentLimits, Rejection, ScoringText, parse_scoring_text
from streamer.core.languages import NO_MODEL, UNSERVED, LanguageRules, Way, unserved
from streamer.core.score_records import not_scored
from streamer.model import TextScorer
from streamer.offline.lines import Chunk, Line

CHUNK_LINES: Final = 1024
CHUNK_BYTES: Final = 8 << 20
IN_FLIGHT: Final = 2


class Rejected(NamedTuple):
    """A line that holds no text to score, or one that has no score."""

    line: Line
    rejection: Rejection
    file: str | None = None

    def encode(self) -> bytes:
        """One line of JSON: `file` where there are several, `line`, `reason`, `detail`, and the bytes as `original` or
        `original_base64`."""
        record: dict[str, Any] = {} if self.file is None else {"file": self.file}
        record |= {
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
    skipped: int = 0
    other_language: int = 0


def classify_chunks(
    chunks: Iterable[Chunk],
    scorer: TextScorer,
    limits: DocumentLimits,
    *,
    languages: LanguageRules = LanguageRules(),  # noqa: B008 - never changed
    skip_unserved: bool = False,
    write: Callable[[bytes], object],
    reject: Callable[[Rejected], object],
    progress: Callable[[Tally], object],
) -> Tally:
    """Scores every line of `chunks`; holds at most three chunks at once.

    `write` takes the output of whole chunks, `reject` one bad line, `progress` is called after each chunk.
    A text in a language that no model reads is a bad line, or only counted where `skip_unserved`; what the default
    model reads all the same is counted too. A text that a model overflows on is a bad line, told behind those that were
    read since.
    """
    tally = Tally()
    waiting: deque[tuple[list[ScoringText], list[Line], NDArray[np.int32], Future[Answer]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="bearwire-classify") as pool:

        def drain(leave: int) -> None:
            while len(waiting) > leave:
                texts, lines, routes, future = waiting.popleft()
                answer = future.result()
                unscored = answer.unscored
                for row in np.flatnonzero(unscored).tolist():
                    tally.rejected += 1
                    reject(Rejected(lines[row], not_scored(answer, routes[row])))
                rows = np.flatnonzero(~unscored)
                ids = [texts[row].id for row in rows.tolist()]
                write(b"".join(output_lines(ids, answer.only(rows), scorer.labels, routes[rows])))
                tally.scored += len(ids)
                progress(tally)

        try:
            for chunk in chunks:
                texts: list[ScoringText] = []
                lines: list[Line] = []
                ways: list[int] = []
                for line in chunk.lines:
                    parsed = parse_line(line, limits, languages)
                    if isinstance(parsed, Rejection) and parsed.reason == UNSERVED and skip_unserved:
                        tally.skipped += 1
                    elif isinstance(parsed, Rejection):
                        tally.rejected += 1
                        reject(Rejected(line, parsed))
                    else:
                        texts.append(parsed[0])
                        lines.append(line)
                        ways.append(parsed[1].route)
                        tally.other_language += parsed[1].read_anyway
                if texts:
                    routes = np.array(ways, np.int32)
                    future = pool.submit(scorer.predict, [text.scored_text for text in texts], routes)
                    waiting.append((texts, lines, routes, future))
                drain(0 if chunk.source_waits else IN_FLIGHT)
            drain(0)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tally


def parse_line(line: Line, limits: DocumentLimits, languages: LanguageRules) -> tuple[ScoringText, Way] | Rejection:
    """The text of a line and the way to its model; the line's number stands in for a missing id."""
    if line.truncated:
        return Rejection("message_too_large", f"the line is longer than {len(line.value)} bytes")
    parsed = parse_scoring_text(line.value, default_id=str(line.number), limits=limits)
    if isinstance(parsed, Rejection):
        return parsed
    way = languages.way(parsed.lang, parsed.scored_text)
    if way.route == NO_MODEL:
        return unserved(languages.language(parsed.lang, parsed.scored_text))
    return parsed, way


def output_lines(
    ids: Sequence[str], answer: Answer, every: Mapping[str, tuple[str, ...]], routes: NDArray[np.int32]
) -> Iterator[bytes]:
    """One line of JSON per id: `id`, `sentiment` {label: p}, `topic` (any task) {label, score, scores}, `model`."""
    probabilities = answer.probabilities
    models = [answer.versions[route] for route in routes.tolist()]
    rows = {task: np.round(values.astype(np.float64), 6).tolist() for task, values in probabilities.items()}
    best = {task: values.argmax(axis=1).tolist() for task, values in probabilities.items()}
    others = [task for task in rows if task != "sentiment"]
    for row, identity in enumerate(ids):
        record: dict[str, Any] = {"id": identity}
        if "sentiment" in rows:
            record["sentiment"] = dict(zip(every["sentiment"], rows["sentiment"][row], strict=True))
        for task in others:
            values, place, labels = rows[task][row], best[task][row], every[task]
            record[task] = {
                "label": labels[place],
                "score": values[place],
                "scores": dict(zip(labels, values, strict=True)),
            }
        record["model"] = models[row]
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
