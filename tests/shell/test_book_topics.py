"""A topic that no model has is named before a book waits for it in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.load import ConfigError
from streamer.config.settings import BookSettings, ModelSettings, SelectSettings
from streamer.model import check_topics
from streamer.worker.models_in_service import ModelsInService
from tests.models.tiny_bundle import TASKS, write_tiny_bundle
from tests.shell.commands import bearwire
from tests.shell.words import WordScorer


def books(*topics: str) -> tuple[BookSettings, ...]:
    return (BookSettings(), BookSettings(name="second", select=SelectSettings(topics=topics)))


class Unlabelled(WordScorer):
    labels = {"sentiment": ("negative", "neutral", "positive")}  # noqa: RUF012


class Oil(WordScorer):
    labels = {**WordScorer.labels, "topic": ("Energy | Oil", "Macro")}  # noqa: RUF012


def test_a_topic_that_the_model_lacks_is_named_with_the_nearest() -> None:
    check_topics(books("Macro"), Oil())
    check_topics(books(), Unlabelled())
    with pytest.raises(ConfigError) as caught:
        check_topics(books("Energy", "Macro", "x"), Oil())
    assert str(caught.value).splitlines() == [
        "books.1.select.topics: the model has no topic 'Energy'; did you mean 'Energy | Oil'?",
        "books.1.select.topics: the model has no topic 'x'; it has 'Energy | Oil', 'Macro'",
    ]
    with pytest.raises(ConfigError, match=r"books\.1\.select\.topics: words-1.* has no task `topic`"):
        check_topics(books("Macro"), Unlabelled())


def test_worker_backtest_and_doctor_look_at_the_topics_of_books(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", tasks=TASKS)
    said = "books.1.select.topics: the model has no topic 'Earning'; did you mean 'Earnings'?"
    settings = ModelSettings(bundle=str(bundle.path), threads=1)
    with pytest.raises(ConfigError) as caught:
        ModelsInService(settings, books("Earning"))
    assert str(caught.value) == said
    assert ModelsInService(settings, books("Earnings")).models.labels["topic"] == ("Earnings", "Legal", "Other")
    config = tmp_path / "bearwire.yaml"
    config.write_text(
        f"model: {{bundle: {bundle.path}}}\nbooks: [{{name: a}}, {{name: b, select: {{topics: [Earning]}}}}]\n"
    )
    (tmp_path / "in.jsonl").write_text('{"id":"1","text":"x","published_at":"2026-03-04T14:07:05Z"}\n')
    tested = bearwire("backtest", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out"), "-c", str(config))
    assert (tested.exit_code, tested.stderr) == (2, f"bearwire: {said}\n")
    assert not (tmp_path / "out").exists()
    found = bearwire("doctor", "-c", str(config), "--no-kafka")
    assert found.exit_code == 1
    assert f"BROKEN  books          {said}" in found.stdout
