"""The hand-written texts that the bundled stream is composed of (tab-separated files in `texts/`).

A line `# name` opens a section: a topic, or the story of a surge. Every other line is
`companies TAB mark TAB text`, where companies is `-` or tickers joined by commas, and the mark is a style
(w wire, p paper, s social post, b blog, r notice), a tone (- 0 +) and optionally `@day` or `@day.hour`:
the day of the stream (1 is Monday) and the UTC hour that the text belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

Style = Literal["w", "p", "s", "b", "r"]
Tone = Literal["-", "0", "+"]

TEXTS = Path(__file__).with_name("texts")

_MARK = re.compile(r"(?P<style>[wpsbr])(?P<tone>[-0+])(?:@(?P<day>[1-6])(?:\.(?P<hour>\d{1,2}))?)?")


@dataclass(frozen=True, slots=True)
class Line:
    """One hand-written text with what its author noted about it."""

    section: str
    symbols: tuple[str, ...]
    style: Style
    tone: Tone
    day: int | None
    hour: int | None
    text: str


def read_texts(folder: Path = TEXTS) -> list[Line]:
    """Reads every `*.tsv` of the folder, in the order of the file names.

    Raises ValueError that names the file and the line where one is not understood.
    """
    return [line for path in sorted(folder.glob("*.tsv")) for line in _read_file(path)]


def _read_file(path: Path) -> Iterator[Line]:
    section: str | None = None
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if raw.startswith("# "):
            section = raw[2:].strip()
            continue
        columns = raw.split("\t")
        mark = _MARK.fullmatch(columns[1]) if len(columns) == 3 else None
        if section is None or mark is None or not columns[2].strip():
            where = f"{path.name}:{number}"
            raise ValueError(f"{where}: expected a section, then `companies TAB mark TAB text`, got {raw!r}")
        yield Line(
            section=section,
            symbols=() if columns[0] == "-" else tuple(columns[0].split(",")),
            style=cast(Style, mark["style"]),
            tone=cast(Tone, mark["tone"]),
            day=int(mark["day"]) if mark["day"] else None,
            hour=int(mark["hour"]) if mark["hour"] else None,
            text=columns[2],
        )
