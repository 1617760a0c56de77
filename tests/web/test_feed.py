from pathlib import Path

import orjson

from streamer.timestamps import format_rfc3339
from streamer.web.feed import BUCKET_MS, KEEP_MS, MAX_ALERTS, PageFeed

DAY_MS = 24 * 3600 * 1000
START_MS = 20_000 * DAY_MS
MINUTE_MS = 60_000


def window(
    series: str, pane_end_ms: int, documents: int = 1, negative: int = 0, mean: float = 0.0, book: str = "main"
) -> bytes:
    pane = {"documents": documents, "negative": negative, "mean_sentiment": mean}
    return orjson.dumps({"book": book, "series": series, "end": format_rfc3339(pane_end_ms), **pane, "model": "m-1"})


def points_of(feed: PageFeed) -> list[tuple[int, int, int, float]]:
    ((_, _, points),) = feed.overview()["series"]
    return list(points)


def test_the_example_of_the_reference_reaches_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "topics.md").read_text(encoding="utf-8")
    shown = page.partition("## bearwire.windows")[2].partition("```json\n")[2].partition("```")[0]
    record = orjson.loads(shown)
    point = PageFeed().take_window(shown.encode())
    assert point is not None
    assert point[0] == (record["book"], record["series"])
    assert point[1][1:] == (record["documents"], record["negative"], record["mean_sentiment"])


def test_panes_of_a_quarter_of_an_hour_join_into_one_point() -> None:
    feed = PageFeed()
    feed.take_window(window("all", START_MS + MINUTE_MS, documents=3, negative=2, mean=-0.5))
    feed.take_window(window("all", START_MS + 2 * MINUTE_MS, documents=1, negative=0, mean=0.5))
    assert feed.overview()["series"] == [("main", "all", [(START_MS, 4, 2, -0.25)])]


def test_books_do_not_mix() -> None:
    feed = PageFeed()
    feed.take_window(window("all", START_MS + MINUTE_MS, documents=3, book="main"))
    feed.take_window(window("all", START_MS + MINUTE_MS, documents=1, book="energy"))
    counted = [(book, series, points[0][1]) for book, series, points in feed.overview()["series"]]
    assert counted == [("main", "all", 3), ("energy", "all", 1)]


def test_a_repeated_record_changes_nothing() -> None:
    feed = PageFeed()
    record = window("topic:Macro", START_MS + MINUTE_MS, documents=2, negative=1, mean=-0.1)
    feed.take_window(record)
    before = feed.overview()
    feed.take_window(record)
    assert feed.overview() == before


def test_a_pane_that_ends_on_the_edge_belongs_to_the_bucket_it_closes() -> None:
    feed = PageFeed()
    feed.take_window(window("all", START_MS + BUCKET_MS))
    assert [point[0] for point in points_of(feed)] == [START_MS]


def test_foreign_bytes_are_passed_over() -> None:
    feed = PageFeed()
    for value in (b"", b"{", b"[]", b"{}", b'{"series":1,"end":5}', b'{"series":"all","end":"soon"}', b"\xff"):
        assert feed.take_window(value) is None
        assert feed.take_alert(value) is None
    assert feed.take_alert(b'{"id":["a"],"sequence":1}') is None
    assert feed.overview()["series"] == feed.overview()["alerts"] == []


def test_old_buckets_are_sealed_and_then_dropped() -> None:
    feed = PageFeed()
    for at in range(START_MS, START_MS + KEEP_MS + DAY_MS, BUCKET_MS):
        feed.take_window(window("all", at + MINUTE_MS))
    points = points_of(feed)
    assert points[0][0] == START_MS + KEEP_MS + DAY_MS - BUCKET_MS - KEEP_MS
    assert all(point[1] == 1 for point in points)


def alert(identity: str, sequence: int, state: str = "firing") -> bytes:
    return orjson.dumps({"id": identity, "sequence": sequence, "state": state})


def test_only_the_latest_change_of_an_alert_is_kept() -> None:
    feed = PageFeed()
    feed.take_alert(alert("a", 1))
    feed.take_alert(alert("a", 3, "resolved"))
    assert feed.take_alert(alert("a", 2)) is None
    assert [(one["sequence"], one["state"]) for one in feed.overview()["alerts"]] == [(3, "resolved")]


def test_the_number_of_alerts_is_bounded() -> None:
    feed = PageFeed()
    for number in range(MAX_ALERTS + 5):
        feed.take_alert(alert(f"a{number}", 1))
    kept = [one["id"] for one in feed.overview()["alerts"]]
    assert len(kept) == MAX_ALERTS and kept[0] == f"a{MAX_ALERTS + 4}"
