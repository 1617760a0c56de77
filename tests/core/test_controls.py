"""Silences and new rules take effect at a definite place of the log: restarts and replays decide the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from alerts.desk import Desk
from alerts.rules import RulesError, RuleSet
from alerts.silences import Silence
from streamer.core.blocks import DigestBlock, DigestError, DigestVersionError
from streamer.core.controls import Control, decode_control, is_control
from streamer.core.documents import DocumentLimits
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer
from streamer.core.selection import BookSelection
from streamer.core.watch import Watch, WatchOutput
from streamer.core.watch_settings import WatchSettings
from streamer.core.watermark import PartitionClock
from streamer.timestamps import format_rfc3339
from tests.shell.words import WordScorer

START_MS = 1_767_571_200_000
BOOK = WatchSettings(windows_ms=(900_000, 3_600_000))
RULES = RuleSet.from_mapping({"rules": [{"name": "surge", "max_false_alarms": "1 per week", "life": {"repeat": "1h"}}]})
NEVER = 1 << 50
SILENCE = Silence(
    id="s", revision=1, matchers={"series": ("company:*",)}, author="ana", reason="known", created_ms=START_MS,
    starts_ms=0, ends_ms=START_MS + 80 * 3_600_000,
)  # fmt: skip


@cache
def blocks() -> list[DigestBlock]:
    """Two quiet days of a text every five minutes, then hours in which everything is negative, cut into blocks."""
    words = WordScorer()
    scorer = PartitionScorer(
        "documents", 0, partitions=1, books=[BookSelection("main")], clock=PartitionClock(60_000),
        limits=DocumentLimits(), labels=words.labels, model=words.version_id,
    )  # fmt: skip
    made = []
    for begin in range(0, 780, 6):
        records = [SourceRecord(n, None, None, document(n)) for n in range(begin, begin + 6)]
        prepared = scorer.prepare(records)
        scored = scorer.finish(prepared, words.predict(prepared.texts))
        made += [DigestBlock.decode(block) for block in scored.blocks["main"]]
    return made


def document(number: int) -> bytes:
    surge = 576 <= number < 740
    minute = number * 5 if number < 576 else 2880 + (number - 576) if surge else 3044 + (number - 740) * 10
    fields = {
        "id": f"d{number}",
        "text": f"{'bad' if surge or number % 9 == 0 else 'fair'} day {number * 7919} for {number % 13} of them",
        "published_at": format_rfc3339(START_MS + minute * 60_000),
        "source": f"wire-{number % 3}",
        "symbols": ["NRVL"],
    }
    return orjson.dumps(fields)


def desk(rules: RuleSet = RULES, silences: Sequence[Silence] = ()) -> Desk:
    return Desk(rules, book="main", pane_ms=BOOK.pane_ms, windows_ms=BOOK.windows_ms, silences=silences)


def run(watch: Watch, controls: Mapping[int, Control], restarts: frozenset[int] = frozenset()) -> list[WatchOutput]:
    """Take in all blocks, each with the control before it if any, restarting (under the first rules) before some."""
    outputs = []
    for number, block in enumerate(blocks()):
        if number in restarts:
            watch = Watch.restore(BOOK, desk(), watch.snapshot())
        if number in controls:
            outputs.append(watch.obey(decode_control(controls[number].encode())))
        outputs.append(watch.take_in(block))
    return outputs


def said(outputs: Sequence[WatchOutput]) -> list[bytes]:
    alerts = [record.encode() for output in outputs for record in output.alerts]
    return alerts + [each.encode() for output in outputs for each in output.notifications]


def test_the_stream_raises_alerts_that_are_told() -> None:
    outputs = run(Watch(BOOK, desk()), {})
    fired = {record.series for output in outputs for record in output.alerts if record.change == "fired"}
    assert fired >= {"all", "company:NRVL"}
    assert any(output.notifications for output in outputs)


@given(st.data())
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
def test_a_silence_taken_in_anywhere_decides_the_same_after_restarts_and_in_a_replay(data: st.DataObject) -> None:
    places = st.integers(90, len(blocks()) - 1)
    begins = data.draw(places)
    controls = {begins: Control(book="main", silences=(SILENCE,))}
    if (ends := data.draw(places)) > begins:
        expired = msgspec.structs.replace(SILENCE, revision=2, ends_ms=SILENCE.starts_ms)
        controls[ends] = Control(book="main", silences=(SILENCE, expired))
    outputs = run(Watch(BOOK, desk()), controls)
    effective = [silence for output in outputs for silence in output.silences]
    restarts = data.draw(st.frozensets(places, max_size=3))
    assert said(run(Watch(BOOK, desk()), controls, restarts)) == said(outputs)
    assert said(run(Watch(BOOK, desk(silences=effective[-1:])), {})) == said(outputs)


def test_a_silence_does_not_undo_what_was_decided_before_it_came() -> None:
    watch = Watch(BOOK, desk())
    outputs = run(watch, {len(blocks()) - 15: Control(book="main", silences=(SILENCE,))})
    taken = next(silence for output in outputs for silence in output.silences)
    muted = [record for output in outputs for record in output.alerts if record.muted_by]
    assert muted
    assert all(record.at_ms >= taken.starts_ms for record in muted)
    assert all(record.muted_by == ("silence:s",) for record in muted)
    assert any(record.at_ms < taken.starts_ms and record.notify for output in outputs for record in output.alerts)


def other_rules(**rule: Any) -> RuleSet:
    return RuleSet.from_mapping({"rules": [{"name": "surge", "max_false_alarms": "1 per week"} | rule]})


def test_new_rules_keep_what_was_learned_and_end_the_alerts_that_nobody_stands_behind() -> None:
    place = 110
    watch = Watch(BOOK, desk())
    for block in blocks()[:place]:
        watch.take_in(block)
    engine = watch.desk.engine
    firing = {life.key for life in engine.lives.values() if life.state == "firing"}
    assert firing >= {"all", "company:NRVL"}
    learned = engine.base.dump(), engine.season.dump(), engine.detectors[0].dump()["spread_sums"]
    new = other_rules(series=["company:*"], min_sources=2, labels={"desk": "a"})
    output = watch.obey(Control(book="main", rules=msgspec.to_builtins(new)))
    ended = {(record.series, record.state, record.reason) for record in output.alerts}
    assert ended == {(key, "resolved", "rules_changed") for key in firing if not key.startswith("company:")}
    engine = watch.desk.engine
    assert watch.desk.rules == new
    assert (engine.base.dump(), engine.season.dump()) == learned[:2]
    assert (engine.detectors[0].dump()["spread_sums"] == learned[2]).all()
    assert {life.key for life in engine.lives.values()} == {"company:NRVL"}
    later = [record for block in blocks()[place:] for record in watch.take_in(block).alerts]
    assert {record.rules for record in later} == {new.version_id}
    assert {record.series for record in later if record.change == "resolved"} == {"company:NRVL"}


@given(st.integers(60, 129), st.frozensets(st.integers(60, 129), max_size=3))
@settings(max_examples=3, deadline=None, phases=[Phase.generate])
def test_a_restart_goes_by_the_rules_of_the_log_and_not_by_those_it_was_started_with(
    place: int, restarts: frozenset[int]
) -> None:
    new = other_rules(windows=["15m"], name="flash")
    controls = {place: Control(book="main", rules=msgspec.to_builtins(new))}
    assert said(run(Watch(BOOK, desk()), controls, restarts)) == said(run(Watch(BOOK, desk()), controls))


def test_rules_that_do_not_fit_the_book_change_nothing() -> None:
    watch = Watch(BOOK, desk())
    with pytest.raises(RulesError, match="has no window"):
        watch.obey(Control(book="main", rules=msgspec.to_builtins(other_rules(windows=["24h"]))))
    assert watch.desk.rules == RULES


def test_a_control_block_survives_its_bytes_and_damage_is_named() -> None:
    control = Control(book="main", silences=(SILENCE,), rules=msgspec.to_builtins(RULES))
    data = control.encode()
    assert is_control(data)
    assert decode_control(data).encode() == data
    for damaged in (data[:3], data[:-1], data[:4] + b"\x09" + data[5:], data[:12] + b"\xff" + data[13:]):
        with pytest.raises(DigestError):
            decode_control(damaged)
    with pytest.raises(DigestVersionError, match="version 9"):
        decode_control(data[:4] + b"\x09" + data[5:])
    with pytest.raises(ValueError, match="book"):
        Watch(BOOK, desk()).obey(Control(book="other"))
