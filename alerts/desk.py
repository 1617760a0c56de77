"""The alerts of one book: what the engine decides, and who is told of it. Pure; decided on event time alone.

pane ─► engine ─► changes of alerts ─► dispatch ─► records, notifications
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alerts.dispatch import Dispatch, Told
from alerts.engine import AlertEngine
from alerts.packing import StateError, pack, unpack
from alerts.panes import ClosedPane, Evidence, EvidenceOf
from alerts.rules import RuleSet
from alerts.silences import Silence

_CHUNK = "dispatch"


class Desk:
    """The alerts of a book under one rule set. Raises RulesError where a rule does not fit the book."""

    def __init__(
        self, rules: RuleSet, *, book: str, pane_ms: int, windows_ms: tuple[int, ...], silences: Iterable[Silence] = ()
    ) -> None:
        self.rules, self.book, self.pane_ms, self.windows_ms = rules, book, pane_ms, windows_ms
        self.engine = AlertEngine(rules, book=book, pane_ms=pane_ms, windows_ms=windows_ms)
        self.dispatch = Dispatch(rules, silences)

    def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> Told:
        """What this pane causes. Panes come in order of time; quiet ones only while `is_live`."""
        stories: dict[str, tuple[int, ...]] = {}

        def noted(series: int, start_ms: int, end_ms: int) -> Evidence:
            said = evidence(series, start_ms, end_ms)
            stories[pane.keys[series]] = said.stories
            return said

        changes = self.engine.observe(pane, noted, model)
        return self.dispatch.tell(pane.end_ms, changes, stories)

    def is_live(self) -> bool:
        """Whether quiet panes must be observed too, because something may change with time alone."""
        return bool(self.dispatch.alerts) or self.engine.is_live()

    def drop_series(self, ids: Iterable[int]) -> None:
        """Forget these series; their ids may be given to others."""
        self.engine.drop_series(ids)

    def snapshot(self) -> dict[str, bytes]:
        """The whole state in named chunks."""
        return {_CHUNK: pack(self.dispatch.dump(), {}), **self.engine.snapshot()}

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Take over the state of `snapshot`, to continue bit-identically. Raises StateError where it does not fit."""
        if _CHUNK not in chunks:
            raise StateError(f"alert state: the chunk {_CHUNK} is missing")
        self.engine.restore(chunks)
        self.dispatch.load(unpack(chunks[_CHUNK])[0])
