"""A teacher's answers, kept in a file and learned from again without the teacher."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.models.training import needs_training

needs_training()

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from models.export import export
from models.probabilities import softmax
from models.train import train
from models.training.answers import STEP, Origin, answers_to, read_answers, write_answers
from models.training.batches import NO_TASK, Batch
from models.training.distillation import ANSWERS
from models.training.loop import load_data
from models.training.losses import DistilledLoss, LossFunction
from models.training.network import load_classifier
from models.training.recipe import Recipe, RecipeError
from models.training.variants import make_variants
from tests.models.test_train import CLINIC, DESK, recipe_for, run
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train

ORIGIN = Origin(labels={"intent": ("a", "b", "c")}, temperature=2.0, teacher=None, models=())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    write_encoder(directory, [text for groups in (DESK, CLINIC) for texts in groups.values() for text in texts])
    return directory


def learn(recipe: Recipe, base: Path, directory: Path, answers: Path | None) -> list[str]:
    """What a run said."""
    said: list[str] = []
    train(recipe, directory, data=base, recipe_directory=base, answers=answers, threads=1, say=said.append)
    return said


def taught_by_a_larger(base: Path, teacher: Path, **changes: Any) -> Recipe:
    """A recipe with a teacher of its own and variants for it to answer."""
    settings = {"start": "base", "epochs": 2, "variants": 1, "teacher": {"base": str(teacher), "epochs": 2, "batch": 8}}
    return recipe_for(base, "intent", DESK, epochs=1, quantisation={"epochs": 1}, distillation=settings, **changes)


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Path]:
    """A recipe, a run of it from its beginning, and its teacher's base, which is gone since."""
    place = tmp_path_factory.mktemp("whole")
    shutil.copytree(base, place / "larger")
    recipe = taught_by_a_larger(base, place / "larger", base_licence="MIT")
    run(recipe, base, place / "run")
    shutil.rmtree(place / "larger")
    return recipe, place / "run", place / "larger"


@given(st.lists(st.lists(st.floats(-12, 12), min_size=3, max_size=3), min_size=1, max_size=9), st.floats(0.5, 4))
def test_answers_come_back_at_any_temperature(logits: list[list[float]], temperature: float) -> None:
    texts = [f"text {number}" for number in range(len(logits))]
    rows = np.array(logits)
    kept = answers_to(texts, {"intent": softmax(rows, 2.0)}, ORIGIN)
    order = texts[::-1]
    said, known = kept.of([*order, "never asked"], temperature)
    assert known.tolist() == [True] * len(texts) + [False]
    wrong = np.abs(np.log(said["intent"][:-1] / softmax(rows[::-1], temperature)))
    assert wrong.max() <= 1.001 * STEP * 2.0 / temperature
    assert said["intent"][-1].tolist() == pytest.approx([1 / 3] * 3)


def test_a_run_that_is_given_the_answers_ends_like_the_one_that_asked(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, _ = whole
    said = learn(recipe, base, tmp_path / "second", first / "student" / ANSWERS)
    assert not any("teacher" in line for line in said)
    assert not (tmp_path / "second" / "teacher").exists()
    for place in ("student", "."):
        one, _, _ = load_classifier(first / place)
        other, _, _ = load_classifier(tmp_path / "second" / place)
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    learn(recipe, base, tmp_path / "second", None)


def test_texts_that_nobody_answered_teach_by_their_label_alone(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, _ = whole
    kept = read_answers(first / "student" / ANSWERS)
    some = kept._replace(keys=kept.keys[::2], said={name: each[::2] for name, each in kept.said.items()})
    write_answers(tmp_path / "some" / ANSWERS, some)
    said = learn(recipe, base, tmp_path / "run", tmp_path / "some" / ANSWERS)
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    texts = [*data.texts, *make_variants(data.texts, 1, recipe.seed)]
    number = some.of(texts, 2.0)[1].sum()
    assert 0 < number < len(texts)
    assert any(f"are for {number} of {len(texts)} texts" in line for line in said)

    answered = torch.tensor([1.0, 0.0, 0.0])
    assert recipe.distillation is not None
    labels = LossFunction(recipe, data.splits)
    answers = {"intent": torch.tensor([[0.8, 0.1, 0.1]] * 3)}
    loss = DistilledLoss(
        labels, answers, recipe.distillation, answered=answered, asked=torch.ones(3), spread=torch.zeros(3)
    )
    batch = Batch(
        ids=torch.zeros(3, 1, dtype=torch.int64),
        mask=torch.ones(3, 1, dtype=torch.int64),
        task=torch.tensor([0, 0, NO_TASK]),
        label=torch.tensor([1, 1, 0]),
        text=torch.tensor([0, 1, 2]),
        weight=torch.ones(3),
    )
    logits = {"intent": torch.tensor([[0.5, -1.0, 2.0]] * 3)}
    told, untold, variant = loss(logits, batch).tolist()
    assert untold == pytest.approx(float(labels(logits, batch)[1]))
    assert told != pytest.approx(untold)
    assert variant == 0.0


def test_answers_that_are_not_for_the_recipe_are_refused_before_anything_is_written(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, _ = whole
    file = first / "student" / ANSWERS
    assert recipe.distillation is not None
    assert recipe.distillation.teacher is not None
    longer = msgspec.structs.replace(recipe.distillation.teacher, epochs=9)
    others = recipe_for(base, "complaint", CLINIC, distillation={"start": "base"})
    (base / "news.jsonl").write_text('{"text": "a text of another kind", "label": "login"}\n', encoding="utf-8")
    source = msgspec.structs.replace(recipe.tasks[0].sources[0], path="news.jsonl")
    elsewhere = msgspec.structs.replace(recipe.tasks[0], sources=(source,))
    garbage, cut, shape = (tmp_path / name for name in ("garbage", "cut", "shape"))
    garbage.write_bytes(b"no answers")
    cut.write_bytes(file.read_bytes()[:-9])
    kept = read_answers(file)
    save_file(
        {"key": kept.keys, "intent": kept.said["intent"][:, :2].copy()},
        shape,
        metadata={"origin": msgspec.json.encode(kept.origin).decode()},
    )
    cases: list[tuple[Recipe, Path, str]] = [
        (others, file, "other tasks or labels"),
        (msgspec.structs.replace(recipe, distillation=None), file, "only a recipe with `distillation`"),
        (
            msgspec.structs.replace(recipe, distillation=msgspec.structs.replace(recipe.distillation, teacher=longer)),
            file,
            "another teacher than the recipe describes",
        ),
        (msgspec.structs.replace(recipe, tasks=(elsewhere,)), file, "no answer to any of the texts"),
        (recipe, garbage, "holds no answers"),
        (recipe, cut, "holds no answers"),
        (recipe, shape, "one byte for every"),
    ]
    for changed, answers, message in cases:
        with pytest.raises(RecipeError, match=message):
            learn(changed, base, tmp_path / "run", answers)
        assert not (tmp_path / "run").exists()


def test_a_notice_names_the_teacher_that_was_not_there(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, larger = whole
    taught = f"Taught by a model fine-tuned from {larger.name}."
    assert recipe.distillation is not None
    for name, teacher in (("described", recipe.distillation.teacher), ("not", None)):
        settings = msgspec.structs.replace(recipe.distillation, teacher=teacher)
        changed = msgspec.structs.replace(recipe, distillation=settings)
        learn(changed, base, tmp_path / name, first / "student" / ANSWERS)
        assert not (tmp_path / name / "member-0").exists()
        export(str(tmp_path / name), tmp_path / f"{name}-bundle", precision="fp32", say=lambda _: None)
        notice = (tmp_path / f"{name}-bundle" / "NOTICE").read_text(encoding="utf-8")
        assert notice.count(taught) == 1
        assert ("Taught by a model trained on intent.jsonl (Apache-2.0 licence)." in notice) == (teacher is None)
