"""Routes: which receivers are told of an alert, in what groups, and how often. A tree, as in Alertmanager.

An alert takes the first route whose matchers fit, and goes on to the next only past one that says `continue`; within a
route it takes the routes inside it by the same rule, and the route itself where none of them fits. What a route leaves
out it has from the one around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from alerts.durations import parse_duration_ms
from alerts.labels import Matchers, Patterns, matchers_of, matches


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One route as it is written.

    `match` maps labels to patterns; `receivers` are names of sinks, `["*"]` all of them, `[]` none; `group_by` labels
    part groups; with `stories` alerts share a group only where they rest on the same stories. `group_wait` is how long
    a new group waits for more before it is told, `group_interval` the least time between two notifications about it,
    `repeat_interval` how often it is told again while nothing changes. Nothing is sent while one of the calendars
    `mute` holds, or where `active` is given, while none of those does.
    """

    match: dict[str, Patterns] = {}
    receivers: tuple[str, ...] | None = None
    group_by: tuple[str, ...] | None = None
    stories: bool | None = None
    group_wait: str | None = None
    group_interval: str | None = None
    repeat_interval: str | None = None
    mute: tuple[str, ...] | None = None
    active: tuple[str, ...] | None = None
    continue_: bool = msgspec.field(default=False, name="continue")
    routes: tuple[Route, ...] = ()

    def inherit(self, parent: Route) -> Route:
        """This route with what it leaves out filled in from `parent`."""
        given = {
            name: own if (own := getattr(self, name)) is not None else getattr(parent, name) for name in _INHERITED
        }
        return msgspec.structs.replace(self, **given)

    def walk(self, path: str = "route") -> Iterator[tuple[str, Route]]:
        """This route and those inside it, each with where it stands."""
        yield path, self
        for number, route in enumerate(self.routes):
            yield from route.walk(f"{path}.routes[{number}]")


_INHERITED = (
    "receivers", "group_by", "stories", "group_wait", "group_interval", "repeat_interval", "mute", "active",
)  # fmt: skip

ROOT = Route(
    receivers=("*",), group_by=(), stories=True, group_wait="2m", group_interval="10m", repeat_interval="6h",
    mute=(), active=(),
)  # fmt: skip
"""What the outermost route has where it says nothing."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One route with everything filled in. `path` tells routes apart; times in milliseconds."""

    path: str
    receivers: tuple[str, ...]
    group_by: tuple[str, ...]
    stories: bool
    wait_ms: int
    interval_ms: int
    repeat_ms: int
    mute: tuple[str, ...]
    active: tuple[str, ...]

    def muted_by(self, calendars: frozenset[str]) -> tuple[str, ...]:
        """What keeps it from sending while these calendars hold; empty when nothing does."""
        muting = tuple(f"calendar:{name}" for name in self.mute if name in calendars)
        if self.active and not calendars.intersection(self.active):
            muting += tuple(f"calendar:!{name}" for name in self.active)
        return muting


class Node(NamedTuple):
    """A route ready for use."""

    matchers: Matchers
    go_on: bool
    settings: Settings
    inner: tuple[Node, ...]


def compiled(route: Route) -> Node:
    """The tree with everything inherited and parsed."""
    return _node(msgspec.structs.replace(route.inherit(ROOT), match={}), "")


def routed(node: Node, labels: Mapping[str, str]) -> list[Settings]:
    """The routes that an alert with these labels takes, in order."""
    taken: list[Settings] = []
    for inner in node.inner:
        if matches(inner.matchers, labels):
            taken += routed(inner, labels)
            if not inner.go_on:
                break
    return taken or [node.settings]


def _node(route: Route, path: str) -> Node:
    settings = Settings(
        path=path,
        receivers=route.receivers or (),
        group_by=route.group_by or (),
        stories=bool(route.stories),
        wait_ms=parse_duration_ms(route.group_wait or "0m"),
        interval_ms=parse_duration_ms(route.group_interval or "0m"),
        repeat_ms=parse_duration_ms(route.repeat_interval or "0m"),
        mute=route.mute or (),
        active=route.active or (),
    )
    inner = tuple(_node(one.inherit(route), f"{path}/{number}") for number, one in enumerate(route.routes))
    return Node(matchers_of(route.match), route.continue_, settings, inner)
