"""Groups: one story that hits five companies and three topics is one notification that lists them.

    alert fires ─► its routes ─► in each: the group that rests on the same stories, or a new one
    group ─wait─► first notification ─interval─► next, if something changed ─repeat─► again, if nothing did

Two alerts rest on the same stories where enough of the newest negative stories of one are among those of the other. An
alert on a company brings what it rests on now; what is broad (`all`, topics, sectors) only what it fired on, so that it
does not draw into its group whatever comes later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from alerts.announcing import notification
from alerts.durations import DAY_MS
from alerts.notifications import Notification, group_id
from alerts.records import AlertRecord
from alerts.routes import Settings

SHARED = 0.25
"""Share of the smaller set of stories that two alerts of one group have in common."""

MOST_MEMBERS = 500
_HOLD_MS = DAY_MS


class Alert(msgspec.Struct):
    """An alert as the desk knows it: its newest record, the stories it rests on, and the groups that it is in.

    `sequence` numbers its records; `muted` says that something mutes it now.
    """

    record: AlertRecord
    stories: tuple[int, ...]
    groups: list[str] = []
    sequence: int = 0
    muted: bool = False


class Group(msgspec.Struct):
    """One group. `told` maps its alerts to the severity last told, "" before; -1 stands for "not yet" in times."""

    id: str
    settings: Settings
    values: tuple[str, ...]
    told: dict[str, str] = {}
    sequence: int = 0
    waiting_ms: int = -1
    told_ms: int = -1


class Groups:
    """All groups of a book, by id, oldest first. `severities` are in order, mildest first."""

    def __init__(self) -> None:
        self.severities: Sequence[str] = ()
        self.language = "en"
        self.groups: dict[str, Group] = {}
        self._by_story: dict[int, dict[str, None]] | None = None

    def join(
        self, alert: Alert, labels: Mapping[str, str], routes: Sequence[Settings], known: Mapping[str, Alert]
    ) -> None:
        """Put a firing alert into a group of each of its routes in which it is not yet; `known` are all alerts."""
        paths = {self.groups[name].settings.path for name in alert.groups}
        for settings in routes:
            if settings.receivers and settings.path not in paths:
                values = tuple(labels.get(name, "") for name in settings.group_by)
                group = self._group_for(alert, settings, values, known)
                if group is None:
                    name = group_id(alert.record.book, settings.path, values, alert.record.id)
                    group = self.groups[name] = Group(name, settings, values, {})
                group.told[alert.record.id] = ""
                alert.groups.append(group.id)
        self.index(alert)

    def index(self, alert: Alert) -> None:
        """Note that the groups of an alert rest on its stories as they are now."""
        if self._by_story is not None:
            for story in alert.stories:
                self._by_story.setdefault(story, {}).update(dict.fromkeys(alert.groups))

    def forget_index(self) -> None:
        """Time has moved: which groups rest on which stories is looked up anew where it is asked."""
        self._by_story = None

    def _group_for(
        self, alert: Alert, settings: Settings, values: tuple[str, ...], known: Mapping[str, Alert]
    ) -> Group | None:
        if not settings.stories:
            return next((group for group in self.groups.values() if _open(group, settings, values)), None)
        best, shared = None, 0
        stories = frozenset(alert.stories)
        for group in self._resting_on(alert.stories, known):
            if _open(group, settings, values):
                most = _most_shared(stories, group, known)
                if most > shared:
                    best, shared = group, most
        return best

    def _resting_on(self, stories: Sequence[int], known: Mapping[str, Alert]) -> list[Group]:
        """The groups that rest on one of these stories, oldest first."""
        if self._by_story is None:
            self._by_story = {}
            for alert in known.values():
                self.index(alert)
        names = {name for story in stories for name in self._by_story.get(story, ())}
        return [group for name, group in self.groups.items() if name in names] if names else []

    def tell(self, now_ms: int, known: Mapping[str, Alert], calendars: frozenset[str]) -> Iterator[Notification]:
        """The notifications that are due; members that are done with leave, and so do empty groups."""
        for group in list(self.groups.values()):
            if not group.settings.muted_by(calendars):
                told = self._tell(group, now_ms, known)
                if told is not None:
                    yield told
            self._part(group, now_ms, known)
            if not group.told:
                del self.groups[group.id]

    def _tell(self, group: Group, now_ms: int, known: Mapping[str, Alert]) -> Notification | None:
        heard = [known[member] for member in group.told if not known[member].muted]
        firing = [alert.record for alert in heard if alert.record.state == "firing"]
        ended = [alert.record for alert in heard if alert.record.state == "resolved"]
        if not firing:
            group.waiting_ms = -1
        elif group.waiting_ms < 0:
            group.waiting_ms = now_ms
        if group.sequence == 0:
            due = bool(firing) and now_ms - group.waiting_ms >= group.settings.wait_ms
        else:
            since = now_ms - group.told_ms
            news = any(group.told[record.id] for record in ended) or any(
                self._rank(record.severity) > self._rank(group.told[record.id]) for record in firing
            )
            again = bool(firing) and since >= group.settings.repeat_ms > 0
            due = (news and since >= group.settings.interval_ms) or again
        if not due:
            return None
        group.sequence += 1
        group.told_ms = now_ms
        for record in firing:
            group.told[record.id] = record.severity
        for record in ended:
            del group.told[record.id]
        return notification(
            [*firing, *ended], group=group.id, sequence=group.sequence, receivers=group.settings.receivers,
            at_ms=now_ms, severities=self.severities, language=self.language,
        )  # fmt: skip

    def _part(self, group: Group, now_ms: int, known: Mapping[str, Alert]) -> None:
        """Let go of resolved alerts that nobody was told of, and of those whose end could not be told for long."""
        for member, told in list(group.told.items()):
            record = known[member].record
            if record.state == "resolved" and (not told or now_ms - (record.resolved_at_ms or 0) >= _HOLD_MS):
                del group.told[member]

    def _rank(self, severity: str) -> int:
        """How severe; 0 for what was not told yet."""
        return 1 + self.severities.index(severity) if severity in self.severities else int(bool(severity))


def _open(group: Group, settings: Settings, values: tuple[str, ...]) -> bool:
    return group.settings.path == settings.path and group.values == values and len(group.told) < MOST_MEMBERS


def _most_shared(stories: frozenset[int], group: Group, known: Mapping[str, Alert]) -> int:
    most = 0
    for member in group.told:
        most = max(most, _shared(stories, known[member].stories))
        if most == len(stories):
            break
    return most


def _shared(one: frozenset[int], other: tuple[int, ...]) -> int:
    """How many stories are in both, 0 where that is too few for the two to be about the same."""
    common = len(one.intersection(other))
    return common if common >= SHARED * max(1, min(len(one), len(other))) else 0
