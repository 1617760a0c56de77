"""One story is one notification, however many series it hits; what is sent when, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from alerts.dispatch import Dispatch, Told
from alerts.records import Decided
from alerts.rules import RulesError, RuleSet
from tests.alerts.lives import changed, minute_of, play

STORY = (11, 12, 13, 14)
OTHER = (21, 22, 23)
HIT = [f"company:C{n}" for n in range(5)] + ["topic:Oil", "topic:Fraud", "topic:Strikes"]


def dispatch(**mapping: Any) -> Dispatch:
    return Dispatch(RuleSet.from_mapping({"rules": [{"name": "surge", "labels": {"desk": "energy"}}]} | mapping))


def listed(told: Told) -> list[tuple[int, str, list[str]]]:
    """Minute, status and series of every notification."""
    return [(minute_of(n), n.status, sorted(alert.series for alert in n.alerts)) for n in told.notifications]


def test_a_story_that_hits_five_companies_and_three_topics_is_one_notification_that_lists_them() -> None:
    said = play(dispatch(), [Decided(changed(series, 1 + n % 3), STORY) for n, series in enumerate(HIT)], 30)
    assert listed(said) == [(3, "firing", sorted(HIT))]
    told = said.notifications[0]
    assert {record.group for record in said.alerts} == {told.group}
    assert told.title.startswith("[firing warning] negative surge in 8 series: companies C")
    assert "and 1 more; topics" in told.title
    assert told.labels == {"rule": "surge", "kind": "surge"}
    assert told.receivers == ("*",)


def test_another_story_at_the_same_time_is_another_notification() -> None:
    changes = [Decided(changed("company:A", 1), STORY), Decided(changed("company:B", 1), OTHER)]
    assert [series for _, _, series in listed(play(dispatch(), changes, 30))] == [["company:A"], ["company:B"]]


def test_what_is_broad_does_not_draw_in_what_comes_after_it_fired() -> None:
    changes = [
        Decided(changed("all", 1), STORY),
        Decided(changed("company:A", 2), STORY),
        Decided(changed("all", 60, "repeated", since=1), (*STORY, *OTHER)),
        Decided(changed("company:B", 61), OTHER),
    ]
    said = play(dispatch(), changes, 80)
    groups = {record.series: record.group for record in said.alerts}
    assert groups["all"] == groups["company:A"] != groups["company:B"]


def test_a_company_hit_later_by_the_story_as_it_goes_on_joins_the_same_group() -> None:
    changes = [
        Decided(changed("company:A", 1), STORY),
        Decided(changed("company:A", 60, "severity_up", severity="high", since=1), (31, 32, 33)),
        Decided(changed("company:B", 61), (32, 33, 34)),
    ]
    said = play(dispatch(), changes, 90)
    assert len({record.group for record in said.alerts}) == 1
    assert listed(said)[-1] == (70, "firing", ["company:A", "company:B"])


def test_labels_part_groups_and_without_stories_they_alone_do() -> None:
    route = {"group_by": ["topic"], "stories": False}
    changes = [
        Decided(changed("company:A|topic:Oil", 1)),
        Decided(changed("company:B|topic:Oil", 1)),
        Decided(changed("company:B|topic:Law", 1)),
    ]
    said = play(dispatch(route=route), changes, 10)
    assert [series for _, _, series in listed(said)] == [
        ["company:A|topic:Oil", "company:B|topic:Oil"],
        ["company:B|topic:Law"],
    ]
    assert said.notifications[0].labels["topic"] == "Oil"


def test_a_group_waits_then_tells_then_keeps_its_interval_then_repeats() -> None:
    route = {"group_wait": "5m", "group_interval": "30m", "repeat_interval": "2h"}
    changes = [
        Decided(changed("company:A", 10), STORY),
        Decided(changed("company:B", 14), STORY),
        Decided(changed("company:C", 16), STORY),
        Decided(changed("company:D", 17), STORY),
    ]
    said = play(dispatch(route=route), changes, 300)
    both, all_four = ["company:A", "company:B"], ["company:A", "company:B", "company:C", "company:D"]
    assert listed(said) == [
        (15, "firing", both),
        (45, "firing", all_four),
        (165, "firing", all_four),
        (285, "firing", all_four),
    ]
    assert [n.sequence for n in said.notifications] == [1, 2, 3, 4]
    assert len({n.id for n in said.notifications}) == 4


def test_the_end_is_told_once_and_then_the_group_is_forgotten() -> None:
    changes = [
        Decided(changed("company:A", 1), STORY),
        Decided(changed("company:B", 1), STORY),
        Decided(changed("company:A", 20, "resolved", since=1), STORY),
        Decided(changed("company:B", 40, "resolved", since=1), STORY),
    ]
    state = dispatch()
    said = play(state, changes, 200)
    assert listed(said) == [
        (3, "firing", ["company:A", "company:B"]),
        (20, "firing", ["company:A", "company:B"]),
        (40, "resolved", ["company:B"]),
    ]
    assert not state.alerts
    assert not state.groups.groups


def test_what_is_over_before_its_group_was_told_is_never_told() -> None:
    changes = [Decided(changed("company:A", 1), STORY), Decided(changed("company:A", 2, "resolved", since=1), STORY)]
    assert not play(dispatch(route={"group_wait": "5m"}), changes, 30).notifications


def test_what_is_only_pending_or_withdrawn_is_never_told() -> None:
    changes = [Decided(changed("company:A", 1, "pending")), Decided(changed("company:A", 9, "withdrawn", since=1))]
    said = play(dispatch(), changes, 30)
    assert not said.notifications
    assert [record.notify for record in said.alerts] == [False, False]


def test_routes_choose_receivers_by_labels_series_severity_and_rule() -> None:
    route = {
        "receivers": ["archive"],
        "routes": [
            {"match": {"severity": ["high", "critical"]}, "receivers": ["pager"], "continue": True},
            {"match": {"desk": "energy", "series": "company:*"}, "receivers": ["energy"],
             "routes": [{"match": {"company": ["!NRVL"]}, "receivers": ["others"]}]},
            {"match": {"series": "topic:*"}, "receivers": []},
        ],
    }  # fmt: skip
    labels = {"desk": "energy"}

    def receivers(series: str, severity: str = "warning") -> list[tuple[str, ...]]:
        said = play(dispatch(route=route), [Decided(changed(series, 1, severity=severity, labels=labels), STORY)], 10)
        assert all(record.notify == bool(said.notifications) for record in said.alerts)
        return [n.receivers for n in said.notifications]

    assert receivers("all") == [("archive",)]
    assert receivers("company:NRVL") == [("energy",)]
    assert receivers("company:TLYB") == [("others",)]
    assert receivers("company:NRVL", "high") == [("pager",), ("energy",)]
    assert receivers("topic:Oil") == []


def test_an_alert_that_grows_severe_reaches_the_route_for_severe_ones_too() -> None:
    route = {"receivers": ["desk"], "routes": [{"match": {"severity": "critical"}, "receivers": ["pager"]}]}
    changes = [
        Decided(changed("company:A", 1), STORY),
        Decided(changed("company:A", 9, "severity_up", severity="critical", since=1), STORY),
    ]
    said = play(dispatch(route=route), changes, 14)
    assert [(minute_of(n), n.receivers) for n in said.notifications] == [
        (3, ("desk",)),
        (11, ("pager",)),
        (13, ("desk",)),
    ]
    assert len({record.group for record in said.alerts}) == 1


def test_large_groups_name_every_alert_and_describe_the_first_twenty() -> None:
    said = play(dispatch(), [Decided(changed(f"company:C{n}", 1), STORY) for n in range(40)], 10)
    assert len(said.notifications[0].alerts) == 40
    assert "and 20 more series" in said.notifications[0].text


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"route": {"recievers": ["a"]}}, "did you mean 'receivers'"),
        ({"route": {"routes": [{"group_wiat": "1m"}]}}, "did you mean 'group_wait'"),
        ({"route": {"group_wait": "soon"}}, "route.group_wait"),
        ({"route": {"routes": [{"match": {"sverity": "high"}}]}}, "did you mean 'severity'"),
        ({"route": {"routes": [{"match": {"group": "4993*"}}]}}, "has no group yet"),
        ({"route": {"group_by": ["group"]}}, "has no group yet"),
        ({"route": {"match": {"series": "all"}}}, "outermost route takes every alert"),
        ({"route": {"mute": ["weekend"]}}, "no calendar is called 'weekend'"),
        ({"inhibit": [{"name": "a", "source": {"serie": "all"}, "target": {}}]}, "did you mean 'series'"),
        ({"inhibit": [{"name": "a", "source": {}}]}, "target"),
        ({"rules": [{"name": "a", "labels": {"severity": "x"}}]}, "choose another name"),
    ],
)
def test_a_wrong_route_names_the_key_and_what_was_expected(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(RulesError, match=said):
        RuleSet.from_mapping(mapping)
