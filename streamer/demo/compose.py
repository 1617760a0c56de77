"""Composes `stream.jsonl.gz` and `surges.json` from the hand-written texts; the same texts give the same bytes.

    python -m streamer.demo.compose

Each line of the stream is the value of one message, in the order of publishing; an empty line is a null value.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Final

from streamer.demo.malformed import malformed_values
from streamer.demo.sources import choose_source, republish, source_address
from streamer.demo.stream import STREAM
from streamer.demo.surges import SURGES
from streamer.demo.texts import Line, Style, read_texts
from streamer.demo.timeline import HOUR, MINUTE, START_MS, STORIES, UNTOLD_UNTIL, Story, moment, news_time

SEED: Final = 20260302
LATE: Final = 25
REPEATS: Final = 15
COPIES_PER_TEXT: Final[dict[Style, float]] = {"w": 1.2, "p": 1.0, "s": 0.5, "b": 0.0, "r": 0.0}
_FORMATS: Final = ("utc", "utc", "milliseconds", "offset")


@dataclass(frozen=True, slots=True)
class Item:
    """One document to publish; `at_ms` places it in the stream and differs from `published_ms` where it is late."""

    at_ms: int
    published_ms: int
    text: str
    source: str
    style: Style
    symbols: tuple[str, ...]
    story: str | None = None


def compose() -> tuple[list[bytes], list[dict[str, object]]]:
    """The stream's values in the order of publishing, and the surges as `surges.json` holds them."""
    rng = Random(SEED)  # noqa: S311 - chance that can be repeated, nothing secret
    sections: dict[str, list[Line]] = defaultdict(list)
    for line in read_texts():
        sections[line.section].append(line)
    items: list[Item] = []
    for story in STORIES:
        items += _told(story, sections.pop(story.section), rng)
    for lines in sections.values():
        items += _spread(lines, rng)
    items = [_whole_seconds(item) for item in sorted(items, key=lambda item: (item.at_ms, item.text))]
    items = _with_late(items, rng)
    surges = [_surge(story, items) for story in STORIES if story.kind != "neutral"]
    values = _with_repeats(_encode(items, rng), rng)
    return _with_malformed(values, rng), surges


def _told(story: Story, lines: list[Line], rng: Random) -> list[Item]:
    originals = [
        Item(at, at, line.text, choose_source(line.style, rng), line.style, line.symbols, story.name)
        for line, at in zip(lines, story.times(len(lines), rng), strict=True)
    ]
    copies = []
    for original in originals:
        for _ in range(_copies(story.copies if COPIES_PER_TEXT[original.style] else 0.0, rng)):
            delay = int(min(rng.lognormvariate(0, 0.8) * (story.end_ms - story.start_ms) / 14, 3 * HOUR))
            copies.append(_copy(original, original.at_ms + delay, rng))
    return originals + [copy for copy in copies if copy.at_ms < story.end_ms]


def _spread(lines: list[Line], rng: Random) -> list[Item]:
    items = []
    for line in lines:
        at = _place(line, rng)
        original = Item(at, at, line.text, choose_source(line.style, rng), line.style, line.symbols)
        items.append(original)
        for _ in range(_copies(COPIES_PER_TEXT[line.style], rng)):
            delay = int(rng.lognormvariate(0, 1.1) * 14 * MINUTE)
            items.append(_copy(original, at + min(delay, 5 * HOUR), rng))
    return [item for item in items if item.at_ms < moment(6, 21)]


def _place(line: Line, rng: Random) -> int:
    if line.day is not None and line.hour is not None:
        return moment(line.day, line.hour) + int(rng.random() * 1.8 * HOUR)
    if line.day is not None:
        return news_time(moment(line.day, 6 if line.day < 6 else 8), moment(line.day, 22 if line.day < 6 else 18), rng)
    end = min((UNTOLD_UNTIL[symbol] for symbol in line.symbols if symbol in UNTOLD_UNTIL), default=moment(6, 18))
    return news_time(START_MS, end, rng)


def _copies(mean: float, rng: Random) -> int:
    """Most texts are passed on once or not at all, a few by everybody: geometric with this mean."""
    count = 0
    while count < 9 and rng.random() < mean / (1 + mean):
        count += 1
    return count


def _copy(original: Item, at_ms: int, rng: Random) -> Item:
    source, text = republish(original.text, original.style, original.source, rng)
    style: Style = "s" if source.startswith("@") else original.style
    return replace(original, at_ms=at_ms, published_ms=at_ms, text=text, source=source, style=style)


def _whole_seconds(item: Item) -> Item:
    """Publishers date by the second; finer times would be lost in some formats, and with them the order."""
    return replace(item, at_ms=item.at_ms // 1000 * 1000, published_ms=item.published_ms // 1000 * 1000)


def _with_late(items: list[Item], rng: Random) -> list[Item]:
    """Moves some plain documents hours down the stream; they keep the time that they were published at."""
    movable = [
        index
        for index, item in enumerate(items)
        if item.story is None and item.style != "s" and item.at_ms < moment(5, 20)
    ]
    chosen = sorted(rng.sample(movable, LATE))
    delayed = [replace(items[index], at_ms=items[index].at_ms + int(rng.uniform(4, 20) * HOUR)) for index in chosen]
    kept = [item for index, item in enumerate(items) if index not in set(chosen)]
    return sorted(kept + delayed, key=lambda item: (item.at_ms, item.text))


def _surge(story: Story, items: Iterable[Item]) -> dict[str, object]:
    times = [item.at_ms for item in items if item.story == story.name]
    return {
        "name": story.name, "kind": story.kind, "shape": story.shape,
        "series": story.series, "related": story.related,
        "start": _stamp(min(times), "utc"),
        "peak": _stamp(story.peak_ms, "utc"), "end": _stamp(story.end_ms, "utc"),
        "documents": len(times),
    }  # fmt: skip


def _encode(items: list[Item], rng: Random) -> list[bytes]:
    values = []
    for number, item in enumerate(items, start=1):
        date = _stamp(item.published_ms, "utc")[:10]
        prefix = "sq" if item.style == "s" else "".join(word[0] for word in item.source.lower().split())
        document: dict[str, object] = {
            "id": f"{prefix}-{date.replace('-', '')}-{number:05d}",
            "text": item.text,
            "published_at": _stamp(item.published_ms, "milliseconds" if item.style == "s" else rng.choice(_FORMATS)),
            "source": item.source,
            "lang": "en",
        }
        if item.style != "s" or rng.random() < 0.8:
            document["url"] = source_address(item.source, date, number)
        if item.symbols:
            document["symbols"] = item.symbols
        if item.style == "s" and rng.random() < 0.2:
            document |= {"weight": 0.5, "likes": rng.randrange(400)}
        values.append(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    return values


def _stamp(ms: int, style: str) -> str:
    whole, rest = divmod(ms, 1000)
    if style == "offset":
        return datetime.fromtimestamp(whole + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%S+01:00")
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:03d}Z" if style == "milliseconds" else f"{text}Z"


def _with_repeats(values: list[bytes], rng: Random) -> list[bytes]:
    """A scraper that restarts sends what it has just sent: exact repeats, a message or two later."""
    repeated = set(rng.sample(range(len(values)), REPEATS))
    result: list[bytes] = []
    for index, value in enumerate(values):
        result.append(value)
        if index in repeated:
            result.append(value)
    return result


def _with_malformed(values: list[bytes], rng: Random) -> list[bytes]:
    bad = malformed_values()
    rng.shuffle(bad)
    places = sorted(rng.sample(range(60, len(values)), len(bad)))
    result: list[bytes] = []
    position = 0
    for place, value in zip(places, bad, strict=True):
        result += [*values[position:place], value]
        position = place
    return result + values[position:]


def main() -> None:
    """Writes both files beside this module."""
    values, surges = compose()
    with STREAM.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream:
        stream.writelines(value + b"\n" for value in values)
    SURGES.write_text(json.dumps(surges, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{STREAM.name}: {len(values)} messages, {STREAM.stat().st_size} bytes; {SURGES.name}: {len(surges)} surges")


if __name__ == "__main__":
    main()
