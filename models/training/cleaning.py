"""What is wrong with labelled texts, said aloud: duplicates, contradictions, and leaks between the splits.

Two texts are near-duplicates when they are equal after lower-casing and dropping everything but letters:
retweets, other links, other figures in a template. A group of near-duplicates never lies on both sides of a
split, else validation would measure memory.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
from msgspec import Struct

from models.training.recipe import Task
from models.training.sources import Example
from models.training.tokenisation import CASHTAG, WEB_ADDRESS

_URL = re.compile(WEB_ADDRESS)
_TICKER = re.compile(CASHTAG)
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_SPACE = re.compile(r"\s+")


class CleaningReport(Struct, frozen=True, kw_only=True):
    """Counts of rows of one task: what came in, what was dropped and why, what is left per split and label.

    `conflicting` rows to train on had a text that others give another label: outvoted, or all where no label has most.
    `near_across` validation rows are near-duplicates of rows to train on, as `split: random` leaves them. Of rows that
    were given to validate or measure on nothing is dropped: `held_duplicates` repeat one of the same set,
    `held_conflicting` contradict another of it, and `measured_validation` rows to measure on are near-duplicates of
    validation rows. `other_tasks` rows to validate or measure on are near-duplicates of rows that another task trains
    on, which the encoder that both share then learns.
    Rows with HTML entities, web addresses and cashtags are kept; the recipe's `normalisation` says what of these
    the model sees.
    """

    task: str
    rows: int
    html_entities: int
    urls: int
    cashtags: int
    empty: int
    duplicates: int
    conflicting: int
    leaked: int
    measured_overlap: int
    near_across: int
    held_duplicates: int = 0
    held_conflicting: int = 0
    measured_validation: int = 0
    other_tasks: int = 0
    train: dict[str, int]
    validation: dict[str, int]


class Split(NamedTuple):
    """The examples of one task by their use, and what cleaning did."""

    train: list[Example]
    validation: list[Example]
    measure: dict[str, list[Example]]
    report: CleaningReport


def exact_key(text: str) -> str:
    """Equal for texts that differ in links, HTML entities, case and spacing only."""
    return _SPACE.sub(" ", _URL.sub(" ", html.unescape(text))).strip().lower()


def near_key(text: str) -> str:
    """Equal for near-duplicates; falls back to `exact_key` where a text has no letters."""
    exact = exact_key(text)
    return _NOT_LETTERS.sub("", exact) or exact


def clean_and_split(
    task: Task, examples: Sequence[Example], *, validation: float, seed: int, apart: bool = True
) -> Split:
    """Drop what must not be learned from and split off validation, stratified by source and label, as `seed` decides.

    Of exact duplicates the first stays; where they contradict each other the majority's label does, and with
    no majority all go. Training rows that are near-duplicates of a given validation row are dropped as leaks.
    """
    learn = [e for e in examples if e.source.use == "train" and e.text.strip()]
    given = [e for e in examples if e.source.use == "validation" and e.text.strip()]
    measured: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.source.use == "measure":
            measured[example.source.name or example.source.path or example.source.dataset].append(example)
    kept, duplicates, conflicting = _resolve(learn)
    held_back = {near_key(e.text) for e in given}
    clean = [e for e in kept if near_key(e.text) not in held_back]
    if given:
        train, part = clean, given
    else:
        train, part = _stratified(clean, validation, seed, near_key if apart else exact_key)
    seen, validating = ({near_key(e.text) for e in rows} for rows in (train, part))
    held = [_repeated(rows) for rows in (given, *measured.values())]
    report = CleaningReport(
        task=task.name,
        rows=len(examples),
        html_entities=sum(html.unescape(e.text) != e.text for e in examples),
        urls=sum(_URL.search(e.text) is not None for e in examples),
        cashtags=sum(_TICKER.search(e.text) is not None for e in examples),
        empty=sum(not e.text.strip() for e in examples),
        duplicates=duplicates,
        conflicting=conflicting,
        leaked=len(kept) - len(clean),
        measured_overlap=sum(near_key(e.text) in seen for rows in measured.values() for e in rows),
        near_across=sum(near_key(e.text) in seen for e in part),
        held_duplicates=sum(repeats for repeats, _ in held),
        held_conflicting=sum(conflicts for _, conflicts in held),
        measured_validation=sum(near_key(e.text) in validating for rows in measured.values() for e in rows),
        train=_by_label(task, train),
        validation=_by_label(task, part),
    )
    return Split(train, part, dict(measured), report)


def between_tasks(splits: dict[str, Split]) -> dict[str, Split]:
    """The splits of tasks that share an encoder, with what each holds back and another learns counted in its report."""
    learned = {name: {near_key(e.text) for e in split.train} for name, split in splits.items()}
    counted = {}
    for name, split in splits.items():
        others = set().union(*(keys for other, keys in learned.items() if other != name))
        held = chain(split.validation, *split.measure.values())
        report = msgspec.structs.replace(split.report, other_tasks=sum(near_key(e.text) in others for e in held))
        counted[name] = split._replace(report=report)
    return counted


def _resolve(examples: list[Example]) -> tuple[list[Example], int, int]:
    """One example per exact key; how many repeats went, and how many rows for their label: outvoted or unresolved."""
    kept: list[Example] = []
    duplicates = conflicting = 0
    for group in _by_text(examples):
        votes = Counter(e.label for e in group).most_common()
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            conflicting += len(group)
            continue
        kept.append(next(e for e in group if e.label == votes[0][0]))
        duplicates += votes[0][1] - 1
        conflicting += len(group) - votes[0][1]
    return kept, duplicates, conflicting


def _repeated(examples: list[Example]) -> tuple[int, int]:
    """How many rows repeat an earlier one with its label, and how many have a text that others give another label."""
    repeats = conflicts = 0
    for group in _by_text(examples):
        labels = {e.label for e in group}
        repeats += len(group) - len(labels)
        conflicts += len(group) if len(labels) > 1 else 0
    return repeats, conflicts


def _by_text(examples: list[Example]) -> list[list[Example]]:
    """The examples in groups of equal exact keys, in the order in which these first come."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[exact_key(example.text)].append(example)
    return list(groups.values())


def _stratified(
    examples: list[Example], share: float, seed: int, key: Callable[[str], str]
) -> tuple[list[Example], list[Example]]:
    """Train and validation texts: of every label of every source the share whose hashed keys come first.

    A hash and no shuffle, so that more texts in one source leave the split of the others as it was, and models trained
    before and after can be compared, or teach each other, without one having learned what the other is judged by.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[key(example.text)].append(example)
    strata: dict[tuple[int, int], list[str]] = defaultdict(list)
    numbers: dict[int, int] = {}
    for name, group in groups.items():
        source = numbers.setdefault(id(group[0].source), len(numbers))
        strata[source, group[0].label].append(name)
    held: set[str] = set()
    for keys in strata.values():
        wanted = round(share * sum(len(groups[name]) for name in keys))
        for name in sorted(keys, key=lambda name: _draw(seed, name)):
            if wanted <= 0:
                break
            held.add(name)
            wanted -= len(groups[name])
    train = [e for e in examples if key(e.text) not in held]
    return train, [e for e in examples if key(e.text) in held]


def _draw(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()


def _by_label(task: Task, examples: list[Example]) -> dict[str, int]:
    counts = Counter(e.label for e in examples)
    return {label: counts[number] for number, label in enumerate(task.labels)}
