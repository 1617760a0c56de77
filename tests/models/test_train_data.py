"""Recipes, cleaning, splitting, noise and the tokenizer of a model in the making. Needs no torch."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import models
from models.calibration import EXPONENT_TEXTS, fit_calibration, negative_log_likelihood
from models.labelled import LabelledError
from models.probabilities import Calibration, expected_calibration_error, softmax
from models.training.augmentation import augment, misspell
from models.training.cleaning import clean_and_split, near_key
from models.training.entities import Entities, find_entities, swap_entities
from models.training.recipe import Augmentation, Normalisation, RecipeError, Source, Task
from models.training.recipe_file import load_recipe, parse_recipe
from models.training.run import RECIPE, HeldBack, begun_recipe, calibrating
from models.training.sources import Example, read_source
from models.training.tokenisation import build_tokenizer
from models.training.variants import make_variants
from tests.models.tiny_model import write_tokenizer

SOURCE = Source(path="texts.csv")
TASK = Task(name="intent", labels=("billing", "login"), sources=(SOURCE,))


def example(text: str, label: int, source: Source = SOURCE) -> Example:
    return Example(text, label, source)


def minimal(**changes: object) -> dict[str, object]:
    task = {"name": "intent", "labels": ["billing", "login"], "sources": [{"path": "texts.csv"}]}
    return {"name": "desk", "base": "somewhere", "tasks": [task], **changes}


def test_the_shipped_recipe_is_valid() -> None:
    recipe = load_recipe(Path(models.__file__).parent / "recipes" / "finance-en.yaml")
    assert [task.name for task in recipe.tasks] == ["sentiment", "topic"]
    assert len(recipe.tasks[1].labels) == 20


def test_an_unknown_key_names_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        parse_recipe(minimal(epoch=3))


@pytest.mark.parametrize(
    ("written", "hint"), [("2e-5", "2.0e-5"), ("3E4", "3.0e+4"), ("1.5e4", "1.5e+4"), ("'high'", None)]
)
def test_a_number_that_yaml_reads_as_text_comes_with_how_to_write_it(
    written: str, hint: str | None, tmp_path: Path
) -> None:
    content = json.dumps(minimal())[1:-1]
    (tmp_path / "recipe.yaml").write_text("{" + content + ", optimiser: {rate: " + written + "}}", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"\$\.optimiser\.rate") as found:
        load_recipe(tmp_path / "recipe.yaml")
    assert str(found.value).endswith(f"as text, write {hint}") if hint else "as text, write" not in str(found.value)
    if hint:
        assert isinstance(yaml.safe_load(hint), float)


def test_the_hint_is_about_the_key_that_is_wrong() -> None:
    with pytest.raises(RecipeError, match=r"\$\.optimiser\.rate") as found:
        parse_recipe(minimal(description="2e-5", optimiser={"rate": "high"}))
    assert "as text, write" not in str(found.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"tasks": []}, "tasks"),
        ({"name": "desk 3"}, r"\$\.name"),
        ({"tasks": [{"name": "a b", "labels": ["x", "y"], "sources": [{"path": "f"}]}]}, r"tasks\[0\].name"),
        (
            {"tasks": [{"name": "a", "labels": ["x", "y"], "sources": [{"path": "f", "use": "measure"}]}]},
            "no source to train on",
        ),
        (
            {"tasks": [{"name": "a", "labels": ["x", "y"], "sources": [{"path": "f", "labels": {"0": "z"}}]}]},
            "'z', which is not a label",
        ),
        (
            {"tasks": [{"name": "a", "labels": ["x", "y"], "class_weights": {"z": 2}, "sources": [{"path": "f"}]}]},
            "'z', which is none of its labels",
        ),
        ({"tasks": [{"name": "a", "labels": ["yes", "YES"], "sources": [{"path": "f"}]}]}, "lists a label twice"),
        ({"tasks": [{"name": "a", "labels": ["yes", ""], "sources": [{"path": "f"}]}]}, "an empty label"),
        (
            {"tasks": [{"name": "a", "labels": ["positive", "neutral", "negative"], "sources": [{"path": "f"}]}]},
            "in the order negative, neutral, positive",
        ),
        (
            {"tasks": [{"name": "a", "labels": ["x", "y"], "sources": [{"path": "f", "origin": "a wire\n"}]}]},
            r"tasks\[0\]\.sources\[0\]\.origin has the control character U\+000A",
        ),
        ({"licence": "Apache-2.0\n"}, "licence has the control character"),
        ({"languages": []}, "languages is empty"),
    ],
)
def test_a_recipe_that_cannot_be_followed_says_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(minimal(**changes))


def test_texts_for_people_may_have_lines() -> None:
    assert parse_recipe(minimal(description="a\nb\n", limitations="\tc\n")).description == "a\nb\n"


def test_a_recipe_that_is_not_utf_8_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("description: für Händler".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"a\.yaml: expected UTF-8, found the byte 0xfc"):
        load_recipe(tmp_path / "a.yaml")


def test_a_run_of_another_version_is_named(tmp_path: Path) -> None:
    assert begun_recipe(tmp_path) is None
    (tmp_path / RECIPE).write_text(json.dumps(minimal(of_tomorrow=1)), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.json is damaged, or of another version of Bearwire: .*of_tomorrow"):
        begun_recipe(tmp_path)


def read(directory: Path, said: list[str], **source: Any) -> list[Example]:
    return read_source(TASK, Source(**source), {"data": directory, "recipe": directory}, said.append)


def test_csv_and_jsonl_give_the_same_examples(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nmy card was charged twice,0\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "my card was charged twice", "label": 0}\n', encoding="utf-8-sig")
    for file in ("a.csv", "a.jsonl"):
        found = read(tmp_path, [], path=file, labels={"0": "billing"})
        assert [example[:2] for example in found] == [("my card was charged twice", 0)]


def test_a_missing_training_file_is_an_error_and_a_missing_measured_one_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(RecipeError, match=r"a\.csv does not exist; give the data directory with --data"):
        read(tmp_path, said, path="a.csv")
    with pytest.raises(RecipeError, match=r"a\.csv does not exist; it is to lie beside the recipe"):
        read(tmp_path, said, path="a.csv", root="recipe")
    assert said == []
    assert read(tmp_path, said, path="b.csv", use="measure") == []
    assert len(said) == 1 and f"{tmp_path / 'b.csv'} does not exist" in said[0]


@pytest.mark.parametrize("pattern", ["/srv/*.csv", "**.csv"])
def test_a_pattern_that_cannot_be_followed_is_named(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"{pattern} is no pattern of files below {tmp_path}")):
        read(tmp_path, [], path=pattern)


def test_a_label_without_a_meaning_is_an_error_that_says_where_a_recipe_gives_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nmy card was charged twice,7\n", encoding="utf-8")
    with pytest.raises(LabelledError, match=r'the source\'s `labels: \{"7": LABEL\}`'):
        read(tmp_path, [], path="a.csv")


def test_duplicates_go_and_contradictions_are_settled_by_majority_or_dropped() -> None:
    rows = [
        example("Card charged twice https://a.example/1", 0),
        example("card charged  twice", 0),
        example("CARD CHARGED TWICE", 1),
        example("cannot sign in", 0),
        example("Cannot sign in", 1),
        example("   ", 0),
    ]
    split = clean_and_split(TASK, rows, validation=0.01, seed=1)
    assert [(e.text, e.label) for e in [*split.train, *split.validation]] == [(rows[0].text, 0)]
    assert (split.report.duplicates, split.report.conflicting, split.report.empty) == (1, 3, 1)


def test_what_is_wrong_with_sets_that_judge_is_counted_and_nothing_of_them_dropped() -> None:
    given_set = Source(path="v.csv", use="validation")
    measured = [Source(path=file, use="measure") for file in ("m.csv", "n.csv")]
    rows = [
        example("reset my code", 1),
        example("card charged twice", 0, given_set),
        example("Card charged twice", 0, given_set),
        example("cannot sign in", 1, given_set),
        example("cannot sign in", 0, given_set),
        example("where is my parcel", 0, measured[0]),
        example("where is my parcel", 0, measured[0]),
        example("WHERE is my parcel", 1, measured[0]),
        example("where is my parcel", 0, measured[1]),
        example("Card charged 2 twice", 0, measured[1]),
    ]
    split = clean_and_split(TASK, rows, validation=0.1, seed=1)
    assert len(split.validation) == 4
    assert {name: len(found) for name, found in split.measure.items()} == {"m.csv": 3, "n.csv": 2}
    report = split.report
    assert (report.held_duplicates, report.held_conflicting, report.measured_validation) == (2, 5, 1)
    assert (report.duplicates, report.conflicting, report.measured_overlap) == (0, 0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 99), st.integers(0, 1)), max_size=60))
def test_near_duplicates_never_lie_on_both_sides(words: list[tuple[str, int, int]]) -> None:
    rows = [example(f"{word} rose {number} %", label) for word, number, label in words]
    split = clean_and_split(TASK, rows, validation=0.3, seed=3)
    assert not {near_key(e.text) for e in split.train} & {near_key(e.text) for e in split.validation}


def test_a_random_split_may_part_near_duplicates_but_no_copies() -> None:
    rows = [example(f"profit rose {number} %", 0) for number in range(40)]
    rows += [example(f"PROFIT rose {number} %", 0) for number in range(40)]
    split = clean_and_split(TASK, rows, validation=0.3, seed=3, apart=False)
    assert len(split.validation) == 12 and len(split.train) == 28
    assert not {e.text.lower() for e in split.train} & {e.text.lower() for e in split.validation}


def test_training_texts_that_leak_into_a_given_validation_set_are_dropped() -> None:
    given_set = Source(path="v.csv", use="validation")
    rows = [example("refund 12 euros", 0), example("reset my code", 1), example("Refund 99 euros", 0, given_set)]
    split = clean_and_split(TASK, rows, validation=0.1, seed=1)
    assert [e.text for e in split.train] == ["reset my code"]
    assert split.report.leaked == 1


def test_the_case_of_a_text_is_noise_too() -> None:
    noisy = {augment("Profit Rose", Augmentation(case=1.0), np.random.default_rng(seed)) for seed in range(9)}
    assert noisy == {"PROFIT ROSE", "profit rose"}


def test_each_kind_of_noise_does_what_it_is_called_to_as_many_texts_as_it_says() -> None:
    text = "Operating profit climbed to 14.2 million, from 11.6 million."
    wanted = {
        "typos": r"(?!Operating profit climbed )\S+ \S+ \S+ to \S+ \S+ \S+ \S+ \S+",
        "punctuation": "Operating profit climbed to 14 2 million  from 11 6 million ",
        "case": "OPERATING .* MILLION.|operating .* million.",
        "numbers": r"Operating profit climbed to \d\d\.\d million, from \d\d\.\d million\.",
    }
    rng = np.random.default_rng(1)
    for kind, pattern in wanted.items():
        for share in (1.0, 0.3):
            settings = Augmentation(**{kind: share}, typo_words=1.0)
            noisy = [augment(text, settings, rng) for _ in range(1000)]
            changed = [each for each in noisy if each != text]
            assert 850 * share < len(changed) < 1150 * share, kind
            assert all(re.fullmatch(pattern, each) for each in changed), kind


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_typos_fall_on_their_share_of_the_words_of_a_text(share: float) -> None:
    words = ["operating"] * 2000
    settings = Augmentation(typos=1.0, typo_words=share)
    noisy = augment(" ".join(words), settings, np.random.default_rng(1)).split(" ")
    changed = sum(word != "operating" for word in noisy)
    assert 0.85 * share * len(words) < changed < 1.15 * share * len(words)


def test_noise_is_decided_by_the_generator_alone() -> None:
    settings = Augmentation(typos=1.0, typo_words=0.5, punctuation=0.5, numbers=1.0)
    text = "Operating profit of Halvorsen Marine climbed to 14.2 million, from 11.6 million."
    noisy = [augment(text, settings, np.random.default_rng(5)) for _ in range(2)]
    assert noisy[0] == noisy[1] != text
    assert augment(text, Augmentation(), np.random.default_rng(5)) == text


@given(st.text(max_size=80), st.integers(0, 1000))
def test_misspelling_keeps_the_number_of_words(text: str, seed: int) -> None:
    assert len(misspell(text, 1.0, np.random.default_rng(seed)).split(" ")) == len(text.split(" "))


def test_noise_on_texts_with_spaces_between_words_is_as_it_was_when_answers_to_them_were_kept() -> None:
    """The teacher's answers that are committed, and runs that were begun, hold only while it does not change."""
    files = sorted((Path(models.__file__).parent / "data").glob("own-*.jsonl"))
    texts = [json.loads(line)["text"] for file in files for line in file.read_text(encoding="utf-8").splitlines()][::6]
    settings = Augmentation(typos=0.6, typo_words=0.3, punctuation=0.3, case=0.3, numbers=0.4, entities=0.5)
    pool = find_entities(texts)
    digest = hashlib.sha256(repr(pool).encode())
    for number, text in enumerate(texts):
        digest.update(augment(text, settings, np.random.default_rng(number), pool).encode())
    assert digest.hexdigest() == "ce45dec8ccc930d91eee92eaacbf904113790438816188721fe92ce448a0e2fb"


CHINESE = "稻溪食品营收下滑，亏损扩大；$DXSP 股价跌去三成"


def test_typos_of_chinese_fall_on_about_their_share_of_the_characters_and_add_no_other() -> None:
    changed = []
    for seed in range(200):
        noisy = misspell(CHINESE, 0.15, np.random.default_rng(seed))
        assert set(noisy) <= set(CHINESE) | set("abcdefghijklmnopqrstuvwxyz")
        same = SequenceMatcher(None, CHINESE, noisy, autojunk=False).get_matching_blocks()
        changed.append(len(CHINESE) - sum(block.size for block in same) + max(0, len(noisy) - len(CHINESE)))
    letters = sum(letter.isalpha() for letter in CHINESE)
    assert 0.1 * letters < np.mean(changed) < 0.2 * letters
    assert misspell("跌", 1.0, np.random.default_rng(0))
    assert misspell(CHINESE, 0.0, np.random.default_rng(0)) == CHINESE


def test_a_cashtag_may_have_chinese_right_behind_it() -> None:
    assert find_entities(["$AAPL上涨，$TSLA 下跌", "上涨$BRK.B"]).cashtags == ("$AAPL", "$BRK.B", "$TSLA")
    assert swap_entities("$AAPL上涨", Entities(("$NEWT",), ()), np.random.default_rng(0)) == "$NEWT上涨"


SPOKEN = [
    "shares of Halvorsen Marine fell after $HLVM cut its forecast and $HLVM shareholders sold",
    "orders at Castellan Pumps rose by a third, said Ida Castellan of $CSTL",
]


@given(st.lists(st.sampled_from(SPOKEN), min_size=1), st.integers(0, 1000))
def test_swapped_entities_are_those_of_other_texts_and_nothing_else_changes(texts: list[str], seed: int) -> None:
    pool = find_entities(texts)
    for text in texts:
        swapped = swap_entities(text, pool, np.random.default_rng(seed))
        own = find_entities([text])
        found = find_entities([swapped])
        assert set(found.cashtags) <= set(pool.cashtags) and set(found.names) <= set(pool.names)
        rest = [
            re.sub("|".join(map(re.escape, [*e.cashtags, *e.names])), "_", t)
            for e, t in ((own, text), (found, swapped))
        ]
        assert rest[0] == rest[1]


def test_one_entity_becomes_one_other_and_headlines_in_title_case_keep_their_words() -> None:
    pool = Entities(("$NEWT",), ("Orrin Solar",))
    rng = np.random.default_rng(0)
    assert swap_entities(SPOKEN[0], pool, rng) == (
        "shares of Orrin Solar fell after $NEWT cut its forecast and $NEWT shareholders sold"
    )
    assert swap_entities("Halvorsen Marine Cuts Its Forecast $HLVM", pool, rng) == (
        "Halvorsen Marine Cuts Its Forecast $NEWT"
    )


def test_entities_are_swapped_where_the_recipe_asks() -> None:
    pool = find_entities(SPOKEN)
    noisy = {augment(SPOKEN[0], Augmentation(entities=1.0), np.random.default_rng(seed), pool) for seed in range(9)}
    assert len(noisy) > 1
    assert augment(SPOKEN[0], Augmentation(), np.random.default_rng(0), pool) == SPOKEN[0]


def test_what_texts_carry_beside_words_is_counted() -> None:
    rows = [
        example("Card &amp; cash charged https://a.example/1", 0),
        example("where is $TLYB &lt;now&gt;", 1),
        example("plain words & no more", 0),
    ]
    report = clean_and_split(TASK, rows, validation=0.01, seed=1).report
    assert (report.rows, report.html_entities, report.urls, report.cashtags) == (3, 2, 1, 1)


def test_a_source_is_a_file_or_a_data_set_and_not_both() -> None:
    for source in ({}, {"path": "a.csv", "dataset": "desk/intents"}):
        task = {"name": "intent", "labels": ["billing", "login"], "sources": [source]}
        with pytest.raises(RecipeError, match="either `path` or `dataset`"):
            parse_recipe(minimal(tasks=[task]))


def test_text_rules_live_in_the_tokenizer_file(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ["profit", "up", "at", "stock", "&", "$", "今"])
    rules = Normalisation(html_entities=True, urls="remove", cashtags="generic", vocabulary="western")
    built = build_tokenizer(tmp_path, rules)
    tokens = Tokenizer.from_str(built.json).encode("$ACME Profit &amp; up https://x.example/a?b 今").tokens
    assert tokens == ["[CLS]", "$", "stock", "profit", "&", "up", "[UNK]", "[SEP]"]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ({}, "$ a up & 今"),
        ({"html_entities": False}, "$ a up & a ##m ##p ; 今"),
        ({"urls": "keep"}, "$ a up & h ##t ##t ##p : / / a . b 今"),
        ({"cashtags": "generic"}, "$ stock up & 今"),
        ({"vocabulary": "western"}, "$ a up & [UNK]"),
    ],
)
def test_each_text_rule_is_followed_where_it_is_asked_for_alone(
    rules: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path, ["up", "stock", "&", "$", "今", ";", ":", "/"])
    built = build_tokenizer(tmp_path, Normalisation(**rules))
    assert Tokenizer.from_str(built.json).encode("$A up &amp; http://a.b 今").tokens[1:-1] == wanted.split()


def test_pruning_renumbers_the_vocabulary_and_says_which_rows_stay(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ["[unused0]", "今", "profit"])
    before = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    built = build_tokenizer(tmp_path, Normalisation(vocabulary="western"))
    after = json.loads(built.json)["model"]["vocab"]
    assert "今" not in after and "[unused0]" not in after
    assert sorted(after.values()) == list(range(len(after)))
    assert built.rows is not None
    assert {piece: int(built.rows[number]) for piece, number in after.items()} == {p: before[p] for p in after}


@pytest.mark.data
def test_our_own_texts_repeat_no_text_of_the_development_data() -> None:
    package = Path(models.__file__).parent
    shared = package.parents[1] / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the development data are not beside the checkout")
    theirs = set()
    for name in ("fpb/dev.csv", "tfns/train.csv", "tfnt/train.csv"):
        with (shared / name).open(encoding="utf-8", newline="") as stream:
            theirs |= {near_key(row["text"]) for row in csv.DictReader(stream)}
    files = sorted((package / "data").glob("own-*.jsonl"))
    ours = [json.loads(line)["text"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert ours and not [text for text in ours if near_key(text) in theirs]


def test_a_fitted_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(4000, 3))
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in shares])
    found = fit_calibration(honest * 3.0, truth)
    assert found == (pytest.approx(3.0, rel=0.1), pytest.approx(1.0, abs=0.1))
    assert negative_log_likelihood(honest * 3.0, truth, found) < negative_log_likelihood(
        honest * 3.0, truth, Calibration()
    )


def test_a_fitted_exponent_undoes_what_no_temperature_can() -> None:
    """A model that is right where it is sure, and surer than it should be where it is not."""
    rng = np.random.default_rng(0)
    said = rng.normal(size=(6000, 4)) * 3.0
    shares = softmax(said, 1.5, 1.8)
    truth = np.array([rng.choice(4, p=row) for row in shares])
    found = fit_calibration(said[:5000], truth[:5000])
    assert found == (pytest.approx(1.5, rel=0.1), pytest.approx(1.8, abs=0.2))
    few = fit_calibration(said[: EXPONENT_TEXTS - 1], truth[: EXPONENT_TEXTS - 1])
    assert few.exponent == 1.0
    scaled = min(
        expected_calibration_error(softmax(said[5000:], temperature), truth[5000:])
        for temperature in np.linspace(0.3, 3.0, 50)
    )
    assert expected_calibration_error(softmax(said[5000:], *found), truth[5000:]) < scaled


@pytest.mark.parametrize("seed", range(6))
def test_a_weak_models_calibration_is_no_worse_than_a_temperature(seed: int) -> None:
    """Where the best temperature is far from 1 a search for both may run into the bound of the exponent."""
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(400, 3)) * 2.0
    truth = np.array([rng.choice(3, p=row) for row in softmax(said, 4.0)])
    found = negative_log_likelihood(said, truth, fit_calibration(said, truth))
    temperatures = [Calibration(float(each)) for each in np.geomspace(0.5, 20.0, 200)]
    assert found <= min(negative_log_likelihood(said, truth, each) for each in temperatures) + 1e-5


def test_no_calibration_is_made_up_where_every_answer_is_right() -> None:
    assert fit_calibration(np.array([[9.0, 0.0], [0.0, 9.0]]), np.array([0, 1])) == Calibration()


def test_temperatures_are_fitted_on_texts_whose_labels_are_sure() -> None:
    sources = [{"path": "sure.csv", "name": "sure"}, {"path": "unsure.csv", "label_smoothing": 0.2}]
    task = {"name": "intent", "labels": ["billing", "login"], "sources": sources}
    recipe = parse_recipe(minimal(tasks=[task, task | {"name": "other", "sources": sources[1:]}]))
    rows = [
        HeldBack(name, source, use, 0, f"{name} {source} {use}")
        for name in ("intent", "other")
        for source in ("sure", "unsure.csv")
        for use in ("validation", "measuring")
        if name == "intent" or source == "unsure.csv"
    ]
    assert [row.text for row in calibrating(recipe, "intent", rows)] == ["intent sure validation"]
    assert [row.text for row in calibrating(recipe, "other", rows)] == ["other unsure.csv validation"]
    assert len(calibrating(None, "intent", rows)) == 2


@given(st.lists(st.text("ab $.", min_size=1, max_size=30), min_size=1, max_size=6), st.integers(0, 3))
def test_variants_are_made_of_the_texts_own_words(texts: list[str], number: int) -> None:
    made = make_variants(texts, number, 7)
    assert made == make_variants(texts, number, 7)
    assert len(made) == number * len(texts)
    known = {word for text in texts for word in text.split()}
    assert all(set(variant.split()) <= known for variant in made)
    assert all(variant or not text.split() for variant, text in zip(made, texts * number, strict=True))
