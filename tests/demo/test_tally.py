"""Every message is accounted for once."""

from __future__ import annotations

from streamer.demo.tally import Place, Tally


def test_what_is_delivered_twice_counts_once() -> None:
    tally = Tally()
    tally.note_published(Place(0, 1), 1_000)
    tally.note_fate(Place(0, 1), "dead", 1_010, "invalid_json")
    tally.note_fate(Place(0, 1), "dead", 1_020, "invalid_json")
    assert tally.count("dead") == 1
    assert tally.reasons == {"invalid_json": 1}


def test_a_fate_may_be_seen_before_its_publication() -> None:
    tally = Tally()
    tally.note_fate(Place(1, 7), "scored", 1_030)
    tally.note_published(Place(1, 7), 1_000)
    tally.note_published(Place(1, 8), 1_000)
    assert tally.unaccounted == 1
    assert tally.latency_ms(50) == [30.0]


def test_latency_is_that_of_scored_texts() -> None:
    tally = Tally()
    for offset in range(101):
        tally.note_published(Place(0, offset), 1_000)
        tally.note_fate(Place(0, offset), "scored", 1_000 + offset)
    tally.note_published(Place(0, 500), 1_000)
    tally.note_fate(Place(0, 500), "late", 9_999)
    assert tally.latency_ms(50, 99) == [50.0, 99.0]
    assert Tally().latency_ms(50) == []
