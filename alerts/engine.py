"""The engine of one book: closed panes in, alert records out. Pure; decided on event time alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alerts.panes import ClosedPane, EvidenceOf
from alerts.records import AlertRecord
from alerts.rules import RuleSet


class AlertEngine:
    """Watches every series of a book by its rules."""

    def __init__(self, rules: RuleSet, *, book: str, pane_ms: int, windows_ms: tuple[int, ...]) -> None:
        self.rules = rules

    def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> list[AlertRecord]:
        """The changes that this pane causes, in a fixed order. Panes come in order of time."""
        return []

    def is_live(self) -> bool:
        """Whether quiet panes must be observed too, because an alert may change with time alone."""
        return False

    def drop_series(self, ids: Iterable[int]) -> None:
        """Forget these series; their ids may be given to others."""

    def snapshot(self) -> dict[str, bytes]:
        """The whole state in named chunks."""
        return {}

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Take over the state of `snapshot`, to continue bit-identically."""
