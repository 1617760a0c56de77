"""Made-up days of texts for the unit tests of rules, and what rules make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.desk import Desk
from alerts.dispatch import Told
from alerts.durations import DAY_MS, parse_duration_ms
from alerts.labels import Patterns, matchers_of
from alerts.panes import FIELDS, ClosedPane, Evidence
from alerts.rules import RuleSet
from alerts.series_keys import sector_of
from alerts.silences import Silence

EPOCH_MS = 1_704_067_200_000
"""When every scenario begins: Monday, 1 January 2024, 00:00 UTC."""

_PANE_MS = 60_000
_STORIES = 128


class Quiet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ordinary days of a test. A text about a company is in its sector as well; `sectors` lists their companies."""

    days: float = 4.0
    texts_per_day: int = 60
    negative_share: float = 0.2
    companies: int = 5
    topics: int = 3
    sectors: dict[str, tuple[str, ...]] = {}

    @property
    def sector_of(self) -> dict[str, str]:
        """Company to sector."""
        return {company: sector for sector, companies in self.sectors.items() for company in companies}


class Burst(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts on one series on top of the ordinary ones; `negative` is the share of them that is.

    `also` are further series that the same texts are in; they are always in `all`.
    """

    series: str
    also: tuple[str, ...] = ()
    after: str
    length: str
    texts: int
    negative: float = 1.0


class TestSilence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A silence for the alerts that fit `match`, between two times since the start."""

    __test__ = False

    match: dict[str, Patterns]
    from_: str = msgspec.field(default="0m", name="from")
    to: str


class _Texts:
    """The texts of a scenario: `at_ms` int64[n] since its beginning, `negative` bool[n], and each one's series."""

    def __init__(self, quiet: Quiet, bursts: Sequence[Burst]) -> None:
        rng = np.random.default_rng(0)
        rows: list[tuple[int, bool, tuple[str, ...]]] = []
        names: tuple[str, ...]
        for _ in range(round(quiet.days * quiet.texts_per_day)):
            names = ("all", f"company:C{rng.integers(quiet.companies)}", f"topic:T{rng.integers(quiet.topics)}")
            names = _with_sectors(names, quiet)
            rows.append((int(rng.random() * quiet.days * DAY_MS), bool(rng.random() < quiet.negative_share), names))
        for burst in bursts:
            start, length = parse_duration_ms(burst.after), parse_duration_ms(burst.length)
            if start + length > _length_ms(quiet):
                raise ValueError(
                    f"the burst on {burst.series} after {burst.after} ends later than the test, a day after its "
                    f"{quiet.days:g} quiet ones; give it more days"
                )
            names = _with_sectors(("all", burst.series, *burst.also), quiet)
            rows += [
                (start + int(rng.random() * length), bool(rng.random() < burst.negative), names)
                for _ in range(burst.texts)
            ]
        rows.sort()
        self.keys = sorted({name for _, _, names in rows for name in names})
        place = {key: number for number, key in enumerate(self.keys)}
        self.panes: dict[int, NDArray[np.int64]] = {}
        self._negative: dict[int, list[tuple[int, int]]] = {}
        for number, (at_ms, negative, names) in enumerate(rows):
            counts = self.panes.setdefault(at_ms // _PANE_MS, np.zeros((len(self.keys), len(FIELDS)), np.int64))
            for name in names:
                counts[place[name], [0, 2 if negative else 3]] += 1
                if negative:
                    self._negative.setdefault(place[name], []).append((EPOCH_MS + at_ms, number))

    def evidence(self, series: int, start_ms: int, end_ms: int) -> Evidence:
        """Every text is a story of its own, from a source of its own."""
        stories = [number for at_ms, number in self._negative.get(series, ()) if start_ms <= at_ms < end_ms]
        return Evidence(sources=len(stories), copies=0, texts=(), stories=tuple(stories[-_STORIES:]))


def replay(
    rules: RuleSet, quiet: Quiet, bursts: Sequence[Burst], silences: Sequence[TestSilence], windows: Sequence[str]
) -> Told:
    """What these rules make of such days. Raises ValueError where a duration or a window is none, and for a burst that
    would go on after the end."""
    windows_ms = tuple(parse_duration_ms(window) for window in windows)
    texts = _Texts(quiet, bursts)
    desk = Desk(
        rules, book="test", pane_ms=_PANE_MS, windows_ms=windows_ms,
        silences=_silences(silences), sectors=quiet.sector_of,
    )  # fmt: skip
    told = Told([], [])
    nothing = np.zeros((len(texts.keys), len(FIELDS)), np.int64)
    sums: NDArray[Any] = np.zeros((len(windows_ms), len(texts.keys), len(FIELDS)), np.int64)
    for pane in range(_length_ms(quiet) // _PANE_MS):
        counts = texts.panes.get(pane, nothing)
        for number, window_ms in enumerate(windows_ms):
            sums[number] += counts - texts.panes.get(pane - window_ms // _PANE_MS, nothing)
        ids = np.flatnonzero(counts[:, 0])
        if len(ids) or desk.is_live():
            start = EPOCH_MS + pane * _PANE_MS
            closed = ClosedPane(start, start + _PANE_MS, ids, counts[ids], sums, texts.keys)
            said = desk.observe(closed, texts.evidence, "rule-test")
            told.alerts.extend(said.alerts)
            told.notifications.extend(said.notifications)
    return told


def _length_ms(quiet: Quiet) -> int:
    """How long a scenario is: its quiet days and one more."""
    return round((quiet.days + 1) * DAY_MS)


def _with_sectors(names: tuple[str, ...], quiet: Quiet) -> tuple[str, ...]:
    """These series, each once, and the sectors of the companies among them."""
    sectors = (sector_of(name, quiet.sector_of) for name in names)
    return tuple(dict.fromkeys((*names, *(f"sector:{sector}" for sector in sectors if sector is not None))))


def _silences(written: Sequence[TestSilence]) -> list[Silence]:
    return [
        Silence(
            id=f"silence-{number}",
            revision=1,
            matchers=matchers_of(silence.match),
            author="test",
            reason="test",
            created_ms=EPOCH_MS,
            starts_ms=EPOCH_MS + parse_duration_ms(silence.from_),
            ends_ms=EPOCH_MS + parse_duration_ms(silence.to),
        )
        for number, silence in enumerate(written)
    ]
