"""How long a book counts as watched, and what a stretch without documents says of it."""

from alerts.baseline import Baselines
from alerts.durations import DAY_MS, HOUR_MS
from alerts.season import Season

MEMORY_MS = 30 * DAY_MS
START_MS = 1_700_000_000_000 // DAY_MS * DAY_MS


def watched(times_ms: list[int]) -> Baselines:
    """The baselines of a book that had ten documents at each of these times."""
    base = Baselines(Season(MEMORY_MS), MEMORY_MS)
    for at_ms in times_ms:
        base.season.advance(at_ms)
        base.advance(at_ms)
        base.season.add(10.0)
    return base


def hourly(days: int) -> list[int]:
    return [START_MS + hour * HOUR_MS for hour in range(days * 24 + 1)]


def test_a_first_document_of_long_ago_is_no_stream() -> None:
    for old_ms in (START_MS - 20 * 365 * DAY_MS, START_MS - 20 * DAY_MS):
        base = watched([old_ms, *hourly(2)])
        assert 2 * DAY_MS <= base.watched_ms <= 2 * DAY_MS + 6 * HOUR_MS
        assert 1.9 < base.season.exposure_days < 2.2
        assert 9 < base.season.level < 11


def test_a_stream_that_pauses_for_less_than_it_ran_was_watched_all_the_time() -> None:
    weekdays = [at_ms for at_ms in hourly(12) if not 5 * DAY_MS <= at_ms - START_MS < 7.5 * DAY_MS]
    base = watched(weekdays)
    assert base.watched_ms == 12 * DAY_MS
    assert base.season.unwatched_hours == 0


def test_a_book_that_hears_little_is_watched_in_the_end() -> None:
    base = watched([START_MS + day * DAY_MS for day in range(0, 100, 3)])
    assert 85 * DAY_MS < base.watched_ms < 99 * DAY_MS


def test_what_was_watched_survives_a_snapshot() -> None:
    season = watched([START_MS - 300 * DAY_MS, *hourly(1)]).season
    again = Season(MEMORY_MS)
    again.load(season.dump())  # type: ignore[arg-type]
    for each in (season, again):
        each.advance(START_MS + 40 * DAY_MS)
    assert again.dump() == season.dump()
    assert again.unwatched_hours == season.unwatched_hours > 300 * 24
