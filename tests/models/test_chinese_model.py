"""Chinese from labelled texts to answers: train, export, verify, route and explain, all by the command line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from models.bundle import Bundle
from models.explain import WordWeight, explain_many, strongest
from models.predictor import Predictor
from tests.models.chinese_model import SENTIMENTS, TOPICS, held_out, learned, read_rows, write_base, write_recipe
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

ENGLISH = [
    "Brennholt Steel cuts its outlook for the full year after a weak third quarter",
    "Castellan Pumps wins the largest order in its history, shares of the company jump",
    "Tiverton Rail will hold its annual meeting of shareholders on Tuesday",
]
CUES = [
    ("稻溪食品营收下滑，亏损扩大", "negative", "下滑亏损扩大"),
    ("帆渚港口涉嫌造假，被立案调查并重罚", "negative", "涉嫌造假被立案调查重罚"),
    ("泊云通信债券违约，账户被冻结", "negative", "违约被冻结"),
    ("棠里零售净利润大增，创历史新高", "positive", "大增创新高"),
    ("铁砚重工中标地铁项目，赢得大单", "positive", "中标赢得大单"),
    ("安陌保险获注资，评级上调，增长强劲", "positive", "获上调增长强劲"),
]
EXPLAINED = 3


class Made(NamedTuple):
    """What the two commands wrote, the bundles by precision."""

    run: Path
    bundles: dict[str, Path]


def commanded(*arguments: object) -> str:
    result = bearwire(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp("chinese")
    write_base(directory / "base", [row.text for row in learned()])
    recipe = write_recipe(directory, directory / "base")
    (directory / "texts.txt").write_text("\n".join(row.text for row in read_rows()), encoding="utf-8")
    bundles = {precision: directory / precision for precision in ("int8", "fp32")}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        commanded("models", "train", recipe, "-o", directory / "run", "--threads", 1)
    for precision, path in bundles.items():
        commanded(
            "models", "export", directory / "run", "-o", path, "--precision", precision,
            "--texts", directory / "texts.txt",
        )  # fmt: skip
    return Made(directory / "run", bundles)


@pytest.fixture(scope="module")
def chinese(made: Made) -> Predictor:
    return Predictor(Bundle.load(made.bundles["int8"]), threads=1, cache_entries=0)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_bundles_are_in_order_and_know_texts_that_they_never_saw(made: Made, precision: str) -> None:
    path = made.bundles[precision]
    assert "batch invariance in order" in commanded("models", "verify", path)
    bundle = Bundle.load(path)
    assert bundle.languages == ("zh",)
    assert {task.name: task.labels for task in bundle.tasks} == {"sentiment": SENTIMENTS, "topic": TOPICS}
    answer = Predictor(bundle, threads=1).predict([row.text for row in held_out()]).probabilities
    for task, least in (("sentiment", 0.58), ("topic", 0.6)):
        labels = dict(enumerate({t.name: t.labels for t in bundle.tasks}[task]))
        said = [labels[column] for column in answer[task].argmax(axis=1).tolist()]
        right = np.mean([label == getattr(row, task) for label, row in zip(said, held_out(), strict=True)])
        assert right > least, f"{task}: {right:.2f}; chance is {1 / len(labels):.2f}"


def test_it_learns_to_name_the_words_behind_a_negative_text(made: Made, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(row.text for row in learned()), encoding="utf-8")
    told = commanded("models", "add-words", made.bundles["int8"], "-o", tmp_path / "new", "--texts", texts)
    assert "texts kept out" in told
    assert "batch invariance in order" in commanded("models", "verify", tmp_path / "new")
    before = Predictor(Bundle.load(made.bundles["int8"]), threads=1).predict([row.text for row in held_out()])
    after = Predictor(Bundle.load(tmp_path / "new"), threads=1).predict([row.text for row in held_out()])
    assert np.array_equal(before.probabilities["sentiment"], after.probabilities["sentiment"])
    negative = after.probabilities["sentiment"].argmax(axis=1) == 0
    assert sum(map(bool, after.words)) > 0.8 * negative.sum() > 0
    for row, words in zip(held_out(), after.words, strict=True):
        assert all(word in row.text for word in words)


def test_what_evaluate_reports_is_in_chinese_too(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "held-out.csv"
    file.write_text("\n".join(["标题,主题", *(f"{row.text},{row.topic}" for row in held_out())]), encoding="utf-8")
    told = commanded(
        "models", "evaluate", made.bundles["int8"], "--data", file, "--task", "topic",
        "--text-column", "标题", "--label-column", "主题",
    )  # fmt: skip
    assert all(topic in told for topic in TOPICS)
    assert "监管" in commanded("models", "info", made.bundles["int8"])
    assert (made.run / "topic.png").stat().st_size > 0


def test_each_language_goes_to_its_model_by_what_the_line_says_and_by_what_it_looks_like(
    made: Made, chinese: Predictor, shipped: Bundle, tmp_path: Path
) -> None:
    rows = held_out()[:30]
    tags = ["zh", "zh-Hant-TW", "yue", None, None, "und"]
    lines = [{"text": row.text, "lang": tags[at % len(tags)]} for at, row in enumerate(rows)]
    lines[10:10] = [{"text": ENGLISH[0], "lang": "en-GB"}, {"text": ENGLISH[1]}, {"text": ENGLISH[2], "lang": None}]
    configuration = {"model": {"routes": [{"languages": ["zh"], "bundle": str(made.bundles["int8"])}], "threads": 1}}
    (tmp_path / "bearwire.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    source = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    result = bearwire("classify", "--config", str(tmp_path / "bearwire.yaml"), input=source.encode())
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout_bytes.splitlines()]
    english = answers[10:13]
    assert {answer["model"] for answer in english} == {shipped.version_id}
    assert not any(answer["topic"]["label"] in TOPICS for answer in english)
    rest = answers[:10] + answers[13:]
    assert {answer["model"] for answer in rest} == {chinese.version_id}
    wanted = chinese.predict([row.text for row in rows]).probabilities
    topics = [TOPICS[column] for column in wanted["topic"].argmax(axis=1).tolist()]
    assert [answer["topic"]["label"] for answer in rest] == topics
    said = [[answer["sentiment"][label] for label in SENTIMENTS] for answer in rest]
    assert np.abs(np.array(said) - wanted["sentiment"]).max() < 1e-6


def test_explain_names_characters_of_what_was_bad_or_good(made: Made) -> None:
    ahead = []
    for text, label, cue in CUES:
        told = json.loads(
            commanded("models", "explain", text, "--bundle", made.bundles["int8"], "--label", label, "--json")
        )
        words = [WordWeight(*word) for word in told["words"]]
        assert [word.word for word in words] == [letter for letter in text if letter.isalnum()]
        inside = [word.weight for word in words if word.word in cue]
        outside = [word.weight for word in words if word.word not in cue]
        ahead.append(np.mean(inside) > np.mean(outside))
    assert sum(ahead) >= len(CUES) - 1, ahead


def without(text: str, words: list[WordWeight]) -> str:
    for word in sorted(words, key=lambda word: -word.start):
        text = text[: word.start] + text[word.end :]
    return text


def test_removing_the_top_characters_moves_the_model_more_than_removing_any(chinese: Predictor) -> None:
    rng = np.random.default_rng(11)
    texts = [row.text for row in held_out()]
    table = chinese.predict(texts).probabilities["sentiment"]
    top_drop, random_drop = [], []
    for row, (text, words) in enumerate(zip(texts, explain_many(chinese, texts, "sentiment"), strict=True)):
        label = int(table[row].argmax())
        picks = [[words[at] for at in rng.choice(len(words), EXPLAINED, replace=False)] for _ in range(5)]
        variants = [without(text, strongest(words, EXPLAINED)), *(without(text, pick) for pick in picks)]
        left = chinese.predict(variants).probabilities["sentiment"][:, label]
        top_drop.append(float(table[row, label] - left[0]))
        random_drop.append(float((table[row, label] - left[1:]).mean()))
    assert np.mean(top_drop) > 2 * np.mean(random_drop) + 0.05
    assert np.mean(np.array(top_drop) > np.array(random_drop)) >= 0.75
