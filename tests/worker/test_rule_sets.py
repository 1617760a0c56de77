"""Rules are read again from the configuration and from files; what is refused changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.config.load import ConfigError, load_config
from streamer.config.settings import BookSettings, Config
from streamer.worker.rule_sets import RuleSets
from streamer.worker.runtime import Worker
from streamer.worker.status import WorkerStatus

CALM: dict[str, Any] = {"rules": [{"name": "calm", "min_negative": 5}]}


def config(*rules: dict[str, Any] | str | None) -> Config:
    return Config(books=tuple(BookSettings(name=f"b{number}", rules=each) for number, each in enumerate(rules)))


def names(sets: RuleSets, book: str) -> list[str]:
    return [rule.name for rule in sets.of(book).rules]


def test_rules_in_the_configuration_are_read_again_and_bad_ones_refused_book_by_book(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: filed}]", encoding="utf-8")
    status = WorkerStatus("watch")
    sets = RuleSets(config(None, CALM, str(file)), status)
    sets.reload(config(CALM, {"rules": [{"name": "odd", "windows": ["7m"]}]}, str(file)))
    assert [names(sets, book) for book in ("b0", "b1", "b2")] == [["calm"], ["calm"], ["filed"]]
    assert status.rule_reloads == {"accepted": 2, "refused": 1}
    sets.reload(config({"rules": [{"name": "third"}]}))
    assert [names(sets, book) for book in ("b0", "b1", "b2")] == [["third"], ["calm"], ["filed"]]


def test_rules_may_move_from_the_configuration_to_a_file_that_is_then_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: filed}]", encoding="utf-8")
    sets = RuleSets(config(CALM), WorkerStatus("watch"))
    sets.reload(config(str(file)))
    assert names(sets, "b0") == ["filed"]
    file.write_text("rules: [{name: changed-since}]", encoding="utf-8")
    sets.look()
    assert names(sets, "b0") == ["changed-since"]


@pytest.mark.parametrize("odd", ["on: 2026-13-01", "[" * 5000, "rules: \x00", "a: [", "\udcff"])
def test_a_file_that_is_no_rules_is_refused_whatever_is_in_it_and_looked_at_again(odd: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: first}]", encoding="utf-8")
    status = WorkerStatus("watch")
    sets = RuleSets(config(str(file)), status)
    file.write_text(odd, encoding="utf-8", errors="surrogateescape")
    sets.look()
    assert names(sets, "b0") == ["first"] and status.rule_reloads == {"accepted": 0, "refused": 1}
    file.write_text("rules: [{name: mended}]", encoding="utf-8")
    sets.look()
    assert names(sets, "b0") == ["mended"]


def test_a_configuration_that_cannot_be_read_keeps_all_rules(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "bearwire.yaml"
    file.write_text("books: [{rules: {rules: [{name: first}]}}]", encoding="utf-8")
    loaded = load_config(file, {}, ())
    worker = Worker(loaded)
    worker._rules = sets = RuleSets(loaded, worker.status)
    file.write_text("boks: []", encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(file, {}, ())
    worker.reload(lambda: load_config(file, {}, ()))
    assert names(sets, "main") == ["first"] and "the configuration is refused" in caplog.text
    file.write_text("books: [{rules: {rules: [{name: second}]}}]", encoding="utf-8")
    worker.reload(lambda: load_config(file, {}, ()))
    assert names(sets, "main") == ["second"]
