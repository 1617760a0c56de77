"""What the documentation shows: its pages, their code, and the commands in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_PIPE = re.compile(r' (?:\||&&) (?=(?:[^"]*"[^"]*")*[^"]*$)')  # not between double quotes
_WORD_ENDS = {"|", ">", ">>", "<", "&&", "||", ";", "&", "2>", "\\"}


class Shown(NamedTuple):
    """A piece of code on a page. `language` is that of a fence, "" for none or for indented code."""

    page: str
    language: str
    code: str


class Command(NamedTuple):
    """A `bearwire` command line. `whole` says that it stands on a line of its own, to be copied and run."""

    page: str
    text: str
    words: tuple[str, ...]
    whole: bool


def blocks() -> Iterator[Shown]:
    """Every block of code of every page but the generated ones' help texts."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT))
        if name == "docs/reference/cli.md":
            continue
        for language, code in _FENCE.findall(text):
            yield Shown(name, language, code)
        for code in re.findall(r"(?:^(?: {4}.*)?\n)+", _FENCE.sub("", text), re.MULTILINE):
            if code.strip():
                yield Shown(name, "", re.sub(r"^ {4}", "", code, flags=re.MULTILINE))


def inline() -> Iterator[Shown]:
    """Every piece of code within a line."""
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in _INLINE.findall(text):
            yield Shown(str(page.relative_to(ROOT)), "", code)


def commands() -> Iterator[Command]:
    """Every command line that begins with `bearwire`."""
    for shown in blocks():
        if shown.language in ("", "sh", "bash", "console"):
            for line in shown.code.replace("\\\n", " ").splitlines():
                yield from _commands(shown.page, line.strip().removeprefix("$ "), whole=True)
    for shown in inline():
        yield from _commands(shown.page, shown.code, whole=False)


def make_targets() -> Iterator[tuple[str, str]]:
    """(page, target) of every `make TARGET`."""
    for shown in (*blocks(), *inline()):
        for target in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)\b", shown.code if shown.language != "yaml" else ""):
            yield shown.page, target


def _commands(page: str, line: str, *, whole: bool) -> Iterator[Command]:
    for part in _PIPE.split(line):
        match = re.match(r"(?:[A-Z_]+=\S+ )*bearwire( .*)?$", part.strip())
        if match is None:
            continue
        words: list[str] = []
        for word in shlex.split((match[1] or ""), comments=True):
            if word in _WORD_ENDS:
                break
            words.append(word)
        yield Command(page, part.strip(), tuple(words), whole)
