"""Noise is what it says it is, the same in every run, and the report shows what it costs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from models.bundle import Bundle
from models.cli import models
from models.evaluate import evaluate
from models.labelled import Labelled
from models.robustness import NOISE, no_punctuation, robustness, typos, upper_case

WORDS = st.lists(st.text("abcdefgXYZ", min_size=3, max_size=9), min_size=1, max_size=60)


@pytest.mark.properties
@given(WORDS, st.integers(0, 9))
def test_one_word_in_ten_gets_a_typo_and_no_other_changes(words: list[str], seed: int) -> None:
    noisy = typos(" ".join(words), seed).split(" ")
    assert len(noisy) == len(words)
    changed = [(a, b) for a, b in zip(words, noisy, strict=True) if a != b]
    assert len(changed) == max(1, round(0.1 * len(words)))
    assert all(abs(len(a) - len(b)) <= 1 for a, b in changed)


@pytest.mark.properties
@given(st.text(max_size=120), st.integers(0, 9))
def test_noise_follows_from_the_text_and_the_seed_alone(text: str, seed: int) -> None:
    for noise in NOISE.values():
        assert noise(text, seed) == noise(text, seed)


def test_another_seed_makes_other_typos() -> None:
    text = "Halvorsen Marine cut its guidance after a weak second quarter"
    assert len({typos(text, seed) for seed in range(20)}) > 5


@pytest.mark.properties
@given(WORDS)
def test_addresses_and_cashtags_stay_as_they_are(words: list[str]) -> None:
    text = " ".join(words) + " https://a.example/news?id=(1) $TLYB"
    for noise in NOISE.values():
        assert noise(text, 1).endswith(" https://a.example/news?id=(1) $TLYB")


@pytest.mark.properties
@given(st.from_regex(r"[-+]?[0-9]{1,3}[.,][0-9]{1,3}%?", fullmatch=True))
def test_figures_keep_their_points_and_signs(figure: str) -> None:
    assert no_punctuation(f"Sales rose {figure}, it said.") == f"Sales rose {figure} it said"


def test_examples() -> None:
    assert upper_case("Profit up 3% https://a.example $ab") == "PROFIT UP 3% https://a.example $ab"
    assert no_punctuation("“Up!” it's (again) 1.5: no. 公司，好。") == "Up its again 1.5 no 公司好"
    assert typos("") == "" and typos("a b 12 %") == "a b 12 %"


def test_the_figures_are_those_of_the_noisy_texts() -> None:
    data = Labelled(["good news today", "bad news today"], np.array([1, 0]))

    def shout_blind(texts: object) -> np.ndarray:
        good = [re.search("good", str(text)) is not None for text in texts]  # type: ignore[attr-defined]
        return np.array([[0.0, 1.0] if yes else [1.0, 0.0] for yes in good], dtype=np.float32)

    plain = evaluate(shout_blind(data.texts), data.truth, task="mood", labels=("bad", "good"))
    found = robustness(shout_blind, data, plain)
    assert plain.accuracy == 1.0
    assert (found["upper_case"].accuracy, found["upper_case"].lost) == (0.5, 50.0)
    assert found["no_punctuation"].lost == 0.0


def test_evaluate_reports_robustness_beside_the_plain_figures(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\nrecord profit!,positive\nfraud lawsuit?,negative\n")
    arguments = ["evaluate", str(tiny.path), "--data", str(tmp_path / "data.csv")]
    plain = json.loads(CliRunner().invoke(models, [*arguments, "--json"]).output)
    shown = CliRunner().invoke(models, [*arguments, "--robustness", "--json"])
    found = json.loads(shown.output)
    assert found.pop("robustness").keys() == NOISE.keys()
    assert found == plain
    text = CliRunner().invoke(models, [*arguments, "--robustness"]).output
    assert "typos in 10 % of words" in text and "points lost" in text
