"""What the alerts were worth: which true surges they caught, how late, and which alerts were raised for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from alerts.records import AlertRecord
from streamer.demo.surges import Surge

GRACE_MS: Final = 3_600_000
"""How long after a surge's end an alert that fires still counts as being about it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one true surge. `first` is the earliest alert that fired in one of its own series.

    `others` are further alerts that the same story raised. For a positive surge the right outcome is no alert.
    """

    surge: Surge
    first: AlertRecord | None
    others: tuple[AlertRecord, ...]

    @property
    def caught(self) -> bool:
        return self.surge.kind == "negative" and self.first is not None

    @property
    def missed(self) -> bool:
        return self.surge.kind == "negative" and self.first is None

    @property
    def delay_ms(self) -> int | None:
        """Event time from the surge's first text to the alert, None where there is no alert."""
        return None if self.first is None else self.first.at_ms - self.surge.start_ms


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts in the order of the surges, and the alerts that belong to none (or to a positive surge)."""

    verdicts: tuple[Verdict, ...]
    for_nothing: tuple[AlertRecord, ...]


def judge(surges: Sequence[Surge], records: Iterable[AlertRecord]) -> Judgement:
    """Matches every alert that fired with the surge in whose series and time it fired."""
    fired = sorted(
        (record for record in records if record.change == "fired"), key=lambda record: (record.at_ms, record.series)
    )
    verdicts = []
    explained: set[str] = set()
    for surge in surges:
        timely = [record for record in fired if surge.start_ms <= record.at_ms <= surge.end_ms + GRACE_MS]
        own = [record for record in timely if _concerns(record, surge.series)]
        if surge.kind == "positive":
            verdicts.append(Verdict(surge, own[0] if own else None, tuple(own[1:])))
            continue
        related = [record for record in timely if record not in own and _concerns(record, surge.related)]
        explained.update(record.id for record in own + related)
        verdicts.append(Verdict(surge, own[0] if own else None, (*own[1:], *related)))
    return Judgement(tuple(verdicts), tuple(record for record in fired if record.id not in explained))


def _concerns(record: AlertRecord, series: Iterable[str]) -> bool:
    """Whether the alert's series, or a part of it (`company:X|topic:Y`), is one of these."""
    return not {record.series, *record.series.split("|topic:")[:1]}.isdisjoint(series)
