"""What strangers wrote cannot write to the terminal."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from alerts.records import AlertText
from streamer.demo.judging import judge
from streamer.demo.screen import Screen
from streamer.demo.tally import Place, Tally
from tests.demo.test_judging import BID, FRAUD, alert


def shown(width: int = 120) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, width=width, force_terminal=False), 100), out


def test_an_alert_shows_where_how_bad_how_much_and_who_says_so() -> None:
    screen, out = shown()
    text = AlertText(
        id="1", text="Auditor cannot find the cash", published_at_ms=0, negative=0.97, source="Calder Post"
    )
    screen.alert(msgspec.structs.replace(alert("company:TLYB", 60_000), texts=(text,)))
    said = out.getvalue()
    for part in ("HIGH", "company TLYB", "9 negative of 10", "0.4 expected", "5 independent sources", "2 copies",
                 "97%", "Auditor cannot find the cash", "Calder Post", "Wed 04 Mar 14:01 UTC"):  # fmt: skip
        assert part in said


def test_markup_and_control_characters_are_shown_not_obeyed() -> None:
    screen, out = shown()
    hostile = AlertText(
        id="1",
        text="[bold]x[/bold] \x1b[2J\x1b]0;owned\x07 \u202e",
        published_at_ms=0,
        negative=0.9,
        source="\x1b[31mred",
    )
    screen.alert(msgspec.structs.replace(alert("company:\x1b[7mTLYB", 60_000), texts=(hostile,)))
    said = out.getvalue()
    assert "[bold]x[/bold]" in said
    assert not any(character in said for character in "\x1b\x07\u202e")


def test_the_summary_states_what_was_caught_missed_and_raised_for_nothing() -> None:
    screen, out = shown()
    tally = Tally()
    tally.note_published(Place(0, 0), 1_000)
    tally.note_fate(Place(0, 0), "scored", 1_040)
    caught, wrong = alert("company:TLYB", 6 * 60_000), alert("company:BRSK", 0)
    screen.summary(tally, 5, 2, 2.0, judge([FRAUD, BID], [caught, wrong]))
    said = out.getvalue()
    for part in ("texts in", "p50 40 ms", "Fraud (flash): caught 6 min after", "Bid (positive): no alert",
                 "raised for nothing: 1", "company BRSK"):  # fmt: skip
        assert part in said


def test_a_summary_of_nothing_scored_can_be_shown() -> None:
    screen, out = shown()
    screen.summary(Tally(), 0, 0, 1.0, judge([FRAUD], []))
    assert "Fraud (flash): missed" in out.getvalue()
