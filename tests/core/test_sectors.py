"""Sectors: a series of the texts about any of its companies, and nothing else changes by it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.desk import Desk
from alerts.packing import StateError
from alerts.rules import RuleSet
from streamer.config.load import ConfigError, load_config
from streamer.core.records import SourceRecord
from streamer.core.watch import WatchOutput
from streamer.core.watch_settings import WatchSettings
from streamer.worker.app import settings_fingerprint
from tests.core import worlds
from tests.core.test_watch import calm, partitions
from tests.core.worlds import START_MS, blocks_of, examples, new_watch, record, restored, run, said

SECTORS = {"AAA": "Energy", "BBB": "Energy", "CCC": "Metals"}
BOOK = worlds.settings(sectors=SECTORS)


def windows(outputs: list[WatchOutput]) -> list[tuple[bytes, bytes]]:
    return [(record.key, record.value) for output in outputs for record in output.windows()]


@settings(deadline=None, max_examples=examples(40))
@given(partitions())
def test_what_a_book_says_of_its_other_series_does_not_depend_on_its_sectors(world: list[list[SourceRecord]]) -> None:
    _, without = run(new_watch(worlds.settings()), calm(world))
    _, having = run(new_watch(BOOK), calm(world))
    others = [pair for pair in windows(having) if not orjson.loads(pair[1])["series"].startswith("sector:")]
    assert others == windows(without)


@settings(deadline=None, max_examples=examples(40))
@given(partitions(), st.integers(min_value=0, max_value=6))
def test_a_restart_between_any_two_blocks_says_the_same_of_sectors(
    world: list[list[SourceRecord]], restart: int
) -> None:
    _, straight = run(new_watch(BOOK), calm(world))
    _, broken = run(new_watch(BOOK), calm(world), lambda taken, watch: restored(watch) if taken == restart else watch)
    assert said(broken) == said(straight)


def test_a_text_about_two_companies_counts_once_in_their_sector() -> None:
    texts = ["one about the plant", "another of the court", "third on a tanker", "fourth says drought"]
    symbols: list[list[str]] = [["AAA", "BBB"], ["BBB", "CCC"], ["DDD"], ["AAA"]]
    documents = [
        record(number, text=text, symbols=names, published_at=START_MS)
        for number, (text, names) in enumerate(zip(texts, symbols, strict=True))
    ]
    documents.append(record(9, published_at=START_MS + 3_600_000))
    book = worlds.settings(sectors=SECTORS, companies=frozenset({"AAA"}), company_topics=False)
    _, outputs = run(new_watch(book), blocks_of(0, 1, documents, []))
    counted: Counter[str] = Counter()
    for _, value in windows(list(outputs)):
        row = orjson.loads(value)
        counted[row["series"]] = row["documents"]
    sectors = {name: count for name, count in counted.items() if name.startswith(("sector:", "company:"))}
    assert sectors == {"sector:Energy": 3, "sector:Metals": 1, "company:AAA": 2}


def test_a_book_without_sectors_keeps_the_state_that_it_had_before_there_were_any() -> None:
    plain = WatchSettings(similarity=0.6)
    assert settings_fingerprint(plain) == "f2f4e179ff83bc74"
    assert settings_fingerprint(WatchSettings(similarity=0.6, sectors={"AAA": "Energy"})) != settings_fingerprint(plain)
    desk = Desk(RuleSet(), book="main", pane_ms=60_000, windows_ms=(900_000,))
    other = Desk(RuleSet(), book="main", pane_ms=60_000, windows_ms=(900_000,), sectors={"AAA": "Energy"})
    assert len(desk.engine.base.dump()["kind_series"]) == 4  # type: ignore[arg-type]
    with pytest.raises(StateError, match="sectors"):
        other.restore(desk.snapshot())


def test_the_configuration_maps_sectors_to_tickers_and_refuses_one_that_is_in_two(tmp_path: Path) -> None:
    file = tmp_path / "bearwire.yaml"
    file.write_text("books: [{sectors: {Energy: [XOM, CVX], Metals: [RIO]}}]", encoding="utf-8")
    config = load_config(file, {}, ())
    assert WatchSettings.of(config, config.books[0]).sectors == {"CVX": "Energy", "RIO": "Metals", "XOM": "Energy"}
    for wrong, what in (
        ("{Energy: [XOM], Metals: [XOM]}", "'XOM' is listed 2 times"),
        ("{Energy: [xom]}", "write it so"),
        ("{'Energy | Oil': [XOM]}", "sectors"),
    ):
        file.write_text(f"books: [{{sectors: {wrong}}}]", encoding="utf-8")
        with pytest.raises(ConfigError, match=re.escape(what)):
            load_config(file, {}, ())
