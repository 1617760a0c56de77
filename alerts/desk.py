"""The alerts of one book: what the engine decides, and who is told of it. Pure; decided on event time alone.

pane ─► engine ─► changes of alerts ─► dispatch ─► records, notifications
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from alerts.dispatch import Dispatch, Told
from alerts.engine import AlertEngine
from alerts.packing import StateError, pack, unpack
from alerts.panes import ClosedPane, EvidenceOf
from alerts.rules import RulesError, RuleSet
from alerts.silences import Silence

_CHUNK = "alerts/desk"


class Desk:
    """The alerts of a book under one rule set. Raises RulesError where a rule does not fit the book.

    `sectors` maps companies to their sectors.
    """

    def __init__(
        self, rules: RuleSet, *, book: str, pane_ms: int, windows_ms: tuple[int, ...],
        silences: Iterable[Silence] = (), sectors: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.book, self.pane_ms, self.windows_ms = book, pane_ms, windows_ms
        self.sectors = sectors or {}
        self.rules = rules
        self.engine = self._engine(rules)
        self.dispatch = Dispatch(rules, silences)

    def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> Told:
        """What this pane causes. Panes come in order of time; quiet ones only while `is_live`."""
        return self.dispatch.tell(pane.end_ms, self.engine.observe(pane, evidence, model))

    def take_silences(self, asked: Iterable[Silence], clock_ms: int | None) -> list[Silence]:
        """Take in silences when the book's clock stands at `clock_ms`; those that are news, as they take effect."""
        return self.dispatch.take_silences(asked, self.book, clock_ms)

    def take_rules(self, rules: RuleSet, clock_ms: int | None) -> Told:
        """Go by other rules from `clock_ms` on. Raises RulesError, and changes nothing, where they do not fit the book.

        What was learned stays (see `AlertEngine.restore`); alerts that no rule stands behind any more end.
        """
        if rules == self.rules:
            return Told([], [])
        engine = self._engine(rules)
        orphans = engine.restore(self.engine.snapshot(), changed_ms=clock_ms)
        ended = self.dispatch.end(clock_ms, orphans, "rules_changed") if clock_ms is not None else Told([], [])
        self.rules, self.engine = rules, engine
        self.dispatch.take_rules(rules)
        return ended

    def _engine(self, rules: RuleSet) -> AlertEngine:
        return AlertEngine(
            rules, book=self.book, pane_ms=self.pane_ms, windows_ms=self.windows_ms, sectors=self.sectors
        )

    def is_live(self) -> bool:
        """Whether quiet panes must be observed too, because something may change with time alone."""
        return bool(self.dispatch.alerts) or self.engine.is_live()

    def held_series(self, now_ms: int) -> set[int]:
        """The series whose ids nobody else may have at `now_ms`: an alert on them is live, or they rest from one."""
        return self.engine.held_series(now_ms)

    def drop_series(self, ids: Iterable[int]) -> None:
        """Forget these series, none of which is held; their ids may be given to others."""
        self.engine.drop_series(ids)

    def snapshot(self) -> dict[str, bytes]:
        """The whole state in named chunks."""
        values = {"rules": msgspec.to_builtins(self.rules), "dispatch": self.dispatch.dump()}
        return {_CHUNK: pack(values, {}), **self.engine.snapshot()}

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Take over the state of `snapshot` with the rules that it had, to continue bit-identically.

        Raises StateError where it does not fit.
        """
        if _CHUNK not in chunks:
            raise StateError(f"alert state: the chunk {_CHUNK} is missing")
        values, _ = unpack(chunks[_CHUNK])
        try:
            self.rules = RuleSet.from_mapping(values["rules"])
            self.engine = self._engine(self.rules)
        except RulesError as error:
            raise StateError(f"alert state: its rules do not fit this version or book: {error.in_one_line}") from error
        self.dispatch.take_rules(self.rules)
        self.engine.restore(chunks)
        self.dispatch.load(values["dispatch"])
