from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray

from models.model_set import Answer
from streamer.commands.backtest import Inputs, run
from streamer.config.settings import BookSettings, Config, SelectSettings
from streamer.offline.backtest import Backtest
from streamer.offline.backtest_files import OutputError, result_directory
from streamer.offline.sources import SourceError
from tests.core import worlds
from tests.core.worlds import START_MS, probabilities, record

MINUTE = 60_000
WORDS = [
    *(
        "iron",
        "cargo",
        "yard",
        "quota",
        "tariff",
        "pension",
        "copper",
        "harbour",
        "ledger",
        "turbine",
        "barley",
        "zinc",
    ),
    *("freight", "gasket", "orchard", "quarry", "saddle", "timber", "vessel", "walnut", "anchor", "bridge", "canvas"),
    *("dredger", "enamel", "ferry", "granite", "hoist", "ingot", "jetty", "kiln", "lantern", "mortar", "nickel"),
]


class StandIn:
    """A model made of hashes, but for texts that say "plunges"."""

    version_id = "stand-in-1"
    labels = worlds.LABELS

    def predict(self, texts: Sequence[str], routes: NDArray[np.int32] | None = None) -> Answer:
        said = probabilities(texts)
        grim = np.array(["plunges" in text for text in texts], dtype=np.bool_)
        said["sentiment"][grim] = (0.9, 0.05, 0.05)
        said["sentiment"][~grim] = (0.05, 0.9, 0.05)
        words = [("plunges",) if bad else () for bad in grim.tolist()]
        return Answer(said, (self.version_id,), words)


def lines() -> list[bytes]:
    """Four quiet days, then half an hour of bad news; rubbish, a repeat and a late document among them."""
    random = np.random.default_rng(7)
    made = []
    now = START_MS
    for number in range(900):
        surge = 800 <= number < 860
        now += int(random.integers(10_000, 40_000)) if surge else int(random.integers(60_000, 700_000))
        words = " ".join(random.choice(WORDS, 6))
        text = f"{words} {'plunges' if surge else 'update'} {number}"
        fields = {"id": f"n{number}", "text": text, "published_at": now, "source": f"s{number % 7}"}
        made.append(record(number, **fields).value or b"")
    made[500] = made[499]
    made.insert(300, b'{"id": 3')
    made.insert(600, record(0, id="old", text="an old story told again", published_at=START_MS).value or b"")
    return made


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    directory = tmp_path_factory.mktemp("backtest")
    source = directory / "news.jsonl"
    source.write_bytes(b"\n".join(lines()))
    (directory / "out").mkdir()
    return directory, run(Inputs((str(source),)), directory / "out", Config(), StandIn())


def test_every_line_is_accounted_for(results: tuple[Path, dict[str, object]]) -> None:
    directory, metrics = results
    assert metrics["documents"] == {"in": 902, "scored": 900, "late": 1, "dead": 1, "duplicates": 1}
    assert orjson.loads((directory / "out/metrics.json").read_bytes())["documents"] == metrics["documents"]
    rejected = orjson.loads((directory / "out/rejects.jsonl").read_bytes())
    assert (rejected["line"], rejected["reason"], rejected["original"]) == (301, "invalid_json", '{"id": 3')


def test_a_surge_is_alerted_and_a_calm_stretch_is_not(results: tuple[Path, dict[str, object]]) -> None:
    directory, _ = results
    alerts = [orjson.loads(line) for line in (directory / "out/alerts.jsonl").read_bytes().splitlines()]
    fired = [alert for alert in alerts if alert["series"] == "all" and alert["change"] == "fired"]
    assert len(fired) == 1
    assert all("plunges" in text["text"] for text in fired[0]["texts"])
    assert fired[0]["sources"] > 1


def test_the_surge_is_one_group_with_all_its_series(results: tuple[Path, dict[str, Any]]) -> None:
    directory, metrics = results
    told = [orjson.loads(line) for line in (directory / "out/notifications.jsonl").read_bytes().splitlines()]
    assert metrics["notifications"] == {"records": len(told), "groups": len({each["group"] for each in told})}
    surge = [each for each in told if any(alert["series"] == "all" for alert in each["alerts"])]
    assert len({each["group"] for each in surge}) == 1
    assert [each["sequence"] for each in surge] == list(range(1, len(surge) + 1))
    members = {alert["series"] for alert in surge[0]["alerts"]}
    assert "all" in members
    assert any(series.startswith("topic:") for series in members)


def test_windows_are_a_table_of_every_closed_pane(results: tuple[Path, dict[str, object]]) -> None:
    directory, metrics = results
    windows = pl.read_parquet(directory / "out/windows.parquet")
    assert len(windows) == metrics["windows"]
    book = metrics["books"]["main"]  # type: ignore[index]
    whole = windows.filter(pl.col("series") == "all")
    assert whole["documents"].sum() == book["stories"]
    assert whole["late"].sum() == 1
    assert windows.select("series", "start").is_duplicated().sum() == 0
    assert (windows["1h_documents"] >= windows["documents"]).all()


def test_the_same_input_gives_the_same_bytes_whatever_its_packing(
    results: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    directory, _ = results
    packed = tmp_path / "news.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\n\n".join(lines())))
    (tmp_path / "out").mkdir()
    run(Inputs((str(packed),)), tmp_path / "out", Config(), StandIn())
    for name in ("alerts.jsonl", "notifications.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (directory / "out" / name).read_bytes()


def test_books_of_other_windows_share_one_table(tmp_path: Path) -> None:
    source = tmp_path / "news.jsonl"
    source.write_bytes(b"\n".join(lines()[:50]))
    books = (
        BookSettings(name="short", windows=(300.0,)),
        BookSettings(name="macro", windows=(600.0,), select=SelectSettings(topics=("Macro",))),
    )
    (tmp_path / "out").mkdir()
    run(Inputs((str(source),)), tmp_path / "out", Config(books=books), StandIn())
    windows = pl.read_parquet(tmp_path / "out/windows.parquet")
    short, macro = (windows.filter(pl.col("book") == name) for name in ("short", "macro"))
    assert short["10m_documents"].null_count() == len(short) > 0
    assert macro["5m_documents"].null_count() == len(macro) > 0
    assert macro["10m_documents"].null_count() == 0
    assert set(macro["series"]) <= {"all", "topic:Macro"}


def test_an_empty_input_leaves_empty_results(tmp_path: Path) -> None:
    source = tmp_path / "none.jsonl"
    source.touch()
    (tmp_path / "out").mkdir()
    metrics = run(Inputs((str(source),)), tmp_path / "out", Config(), StandIn())
    assert metrics["documents"]["in"] == 0
    assert len(pl.read_parquet(tmp_path / "out/windows.parquet")) == 0


def test_documents_in_a_language_that_the_only_model_does_not_read_are_told_of(tmp_path: Path) -> None:
    source = tmp_path / "news.jsonl"
    source.write_bytes(b"\n".join(record(n, lang=lang).value or b"" for n, lang in enumerate(("en-GB", "zh", None))))
    (tmp_path / "out").mkdir()
    documents = run(Inputs((str(source),)), tmp_path / "out", Config(), StandIn())["documents"]
    assert (documents["scored"], documents["other_language"]) == (3, 1)


def test_partitions_are_judged_late_on_their_own() -> None:
    test = Backtest(Config(), StandIn(), source="documents", partitions=2)
    ahead = [record(0, published_at=START_MS + 60 * MINUTE), record(1, published_at=START_MS + 59 * MINUTE)]
    behind = [record(0, id="b", published_at=START_MS)]
    test.take(0, ahead)
    test.take(1, behind)
    output = test.finish()
    assert (test.counts.late, test.counts.scored) == (0, 3)
    assert [key for rows in output.windows for key in rows.keys if key == "all"] == ["all"]


def test_results_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "results"
    with pytest.raises(RuntimeError), result_directory(target) as work:
        (work / "alerts.jsonl").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for content in (b"first", b"second"):
        with result_directory(target) as work:
            (work / "alerts.jsonl").write_bytes(content)
        assert (target / "alerts.jsonl").read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["results"]


def test_results_go_into_a_directory_that_has_to_stay_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "home").mkdir()
    (link := tmp_path / "link").symlink_to(home)
    monkeypatch.chdir(home)
    for target, names in [(Path(), ["alerts.jsonl", "metrics.json"]), (link, ["metrics.json"])]:
        with result_directory(target) as work:
            for name in names:
                (work / name).write_text(str(target))
        assert sorted(entry.name for entry in home.iterdir()) == names
        assert {entry.read_text() for entry in home.iterdir()} == {str(target)}
    with pytest.raises(RuntimeError), result_directory(home):
        raise RuntimeError
    assert [entry.name for entry in home.iterdir()] == ["metrics.json"]
    assert link.is_symlink()


def test_a_directory_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"thesis\.txt"), result_directory(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_a_partition_that_has_ended_holds_nothing_back() -> None:
    test = Backtest(Config(), StandIn(), source="documents", partitions=2)
    test.take(0, [record(number, published_at=START_MS + number * 20 * MINUTE) for number in range(50)])
    test.end(1)
    test.end(0)
    assert len(test._drain(0).windows) > 0
    assert test.watches[0].open_rows <= 1
    test.finish()
    assert test.counts.scored == 50


def test_several_files_are_one_partition_and_rejects_name_theirs(
    results: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    directory, whole = results
    made = lines()
    parts = (made[:250], made[250:700], made[700:])
    for number, part in enumerate(parts):
        (tmp_path / f"{number}.jsonl").write_bytes(b"\n".join(part) + b"\n")
    (tmp_path / "out").mkdir()
    said: list[str] = []
    files = tuple(str(tmp_path / f"{number}.jsonl") for number in range(3))
    metrics = run(Inputs(files), tmp_path / "out", Config(), StandIn(), say=said.append)
    assert metrics["documents"] == whole["documents"]
    for name in ("alerts.jsonl", "notifications.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (directory / "out" / name).read_bytes()
    rejected = orjson.loads((tmp_path / "out/rejects.jsonl").read_bytes())
    assert (rejected["file"], rejected["line"]) == (files[1], 51)
    assert any("negative" in line for line in said)
    assert said[-1] == "rejected: 1 invalid_json; each with its line and why in rejects.jsonl"


def test_a_file_is_read_within_bounds_of_its_own_times(tmp_path: Path) -> None:
    source = tmp_path / "news.jsonl"
    hours = [record(n, published_at=START_MS + n * 60 * MINUTE).value or b"" for n in range(24)]
    source.write_bytes(b"\n".join([*hours, b"{"]))
    (tmp_path / "out").mkdir()
    bounds = Inputs((str(source),), START_MS + 6 * 60 * MINUTE, START_MS + 10 * 60 * MINUTE)
    documents = run(bounds, tmp_path / "out", Config(), StandIn())["documents"]
    assert (documents["scored"], documents["dead"]) == (4, 1)


def test_columns_of_a_table_may_have_other_names(tmp_path: Path) -> None:
    source = tmp_path / "news.csv"
    source.write_text('text;headline;time;key\nno;"profit\nplunges";2026-03-04T10:00:00Z;a\nno;sales rise;4 March;b\n')
    (tmp_path / "out").mkdir()
    columns = {"text": "headline", "published_at": "time", "id": "key"}
    documents = run(Inputs((str(source),), columns=columns), tmp_path / "out", Config(), StandIn())["documents"]
    assert (documents["scored"], documents["dead"]) == (1, 1)
    rejected = orjson.loads((tmp_path / "out/rejects.jsonl").read_bytes())
    assert (rejected["line"], rejected["reason"]) == (4, "bad_timestamp")
    assert orjson.loads(rejected["original"])["text"] == "sales rise"


@pytest.mark.parametrize(
    ("name", "content", "columns", "says"),
    [
        ("a.csv", "", {}, "is empty; its first line must name the columns"),
        ("a.csv", "headline,id\nx,1\n", {}, "names no column `text`, found headline, id"),
        ("a.csv", "text,id\nx,1\n", {"published_at": "time"}, "names no column `time`"),
        ("a.jsonl", "{}\n", {"text": "headline"}, "has no columns"),
    ],
)
def test_a_file_that_cannot_be_right_is_told_before_the_model_is_loaded(
    tmp_path: Path, name: str, content: str, columns: dict[str, str], says: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=says):
        Inputs((str(tmp_path / name),), columns=columns).check()
