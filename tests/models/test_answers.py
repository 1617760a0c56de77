"""A teacher's answers, kept in a file and learned from again without the teacher."""

from __future__ import annotations

import gzip
import json
import lzma
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
from models.training.answers import KEY, STEP, Answers, Origin, answers_to, read_answers, same_answers, write_answers
from models.training.batches import NO_TASK, Batch
from models.training.distillation import answers_file
from models.training.loop import load_data
from models.training.losses import DistilledLoss, LossFunction
from models.training.network import load_classifier
from models.training.recipe import Recipe, RecipeError, Source
from models.training.recipe_file import load_recipe
from models.training.run import read_held_back
from models.training.variants import make_variants
from tests.models.test_train import CLINIC, DESK, recipe_for, run
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train

ORIGIN = Origin(labels={"intent": ("a", "b", "c")}, temperature=2.0, teacher=None, models=(), step=STEP)


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
    assert wrong.max() <= 1.001 * STEP * 2.0 / temperature  # at 2.0, as asked: e ** (1 / 8) - 1, 13.3 %
    assert said["intent"][-1].tolist() == pytest.approx([1 / 3] * 3)


def test_a_run_that_is_given_the_answers_ends_like_the_one_that_asked(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, _ = whole
    said = learn(recipe, base, tmp_path / "second", answers_file(first))
    assert not any("teacher" in line for line in said)
    assert not (tmp_path / "second" / "teacher-0").exists()
    for place in ("student", "."):
        one, _, _ = load_classifier(first / place)
        other, _, _ = load_classifier(tmp_path / "second" / place)
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    learn(recipe, base, tmp_path / "second", None)


def test_texts_that_nobody_answered_teach_by_their_label_alone(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, _ = whole
    kept = read_answers(answers_file(first))
    some = kept._replace(keys=kept.keys[::2], said={name: each[::2] for name, each in kept.said.items()})
    write_answers(tmp_path / "some", some)
    said = learn(recipe, base, tmp_path / "run", tmp_path / "some")
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    texts = [*data.texts, *make_variants(data.texts, 1, recipe.seed)]
    number = some.of(texts, 2.0)[1].sum()
    assert 0 < number < len(texts)
    answered = some.of(data.texts, 2.0)[1].sum()
    left = f"answered {answered} of {len(data.texts)} texts, the others teach by their label alone; and "
    assert any(f"{left}{number - answered} of {len(data.texts)} variants" in line for line in said)

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


def test_a_text_that_comes_leaves_the_variants_of_others_alone() -> None:
    texts = [f"the {n} of {n * 7} boxes that were sent to number {n % 13}" for n in range(500)]
    before, after = make_variants(texts, 2, 7), make_variants(["one that is new to it", *texts], 2, 7)
    assert len(set(before)) > 900
    assert len(set(before) - set(after)) < 20
    assert len(set(make_variants(texts, 2, 8)) & set(before)) < 100


def test_a_run_s_own_answers_that_cannot_be_read_are_asked_for_again(
    base: Path, tmp_path: Path, whole: tuple[Recipe, Path, Path]
) -> None:
    recipe = taught_by_a_larger(base, base)
    run(recipe, base, tmp_path / "run")
    file = answers_file(tmp_path / "run")
    asked = read_answers(file)
    save_file({"intent": np.zeros((3, 3), np.float32)}, file)  # as runs of earlier versions kept them
    said = learn(recipe, base, tmp_path / "run", None)
    assert any("the teacher is asked again" in line for line in said)
    assert same_answers(read_answers(file), asked)
    with pytest.raises(RecipeError, match="other answers than those that the run goes on with"):
        learn(recipe, base, tmp_path / "run", changed(asked, tmp_path / "changed"))
    assert (tmp_path / "run" / "report.json").is_file()
    learn(recipe, base, tmp_path / "run", file)


def changed(answers: Answers, file: Path) -> Path:
    """A file with one answer changed."""
    other = answers.said["intent"].copy()
    other[0, 0] += 1
    write_answers(file, answers._replace(said={"intent": other}))
    return file


def test_a_task_may_be_called_key(tmp_path: Path) -> None:
    origin = msgspec.structs.replace(ORIGIN, labels={"key": ("a", "b")})
    write_answers(tmp_path / "file", answers_to(["one", "two"], {"key": np.array([[0.9, 0.1], [0.2, 0.8]])}, origin))
    said, known = read_answers(tmp_path / "file").of(["two"], 2.0)
    assert known.all()
    assert said["key"][0] == pytest.approx([0.2, 0.8], rel=0.14)


def test_a_run_goes_on_where_a_relative_base_has_gone(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base, tmp_path / "bases" / "larger")
    recipe = taught_by_a_larger(base, Path("bases/larger"))
    learn(recipe, base, tmp_path / "run", None)
    shutil.rmtree(tmp_path / "bases")
    (tmp_path / "run" / "report.json").unlink()
    learn(recipe, base, tmp_path / "run", None)
    learn(recipe, base, tmp_path / "other", answers_file(tmp_path / "run"))
    assert str(tmp_path).encode() not in answers_file(tmp_path / "run").read_bytes()
    with pytest.raises(RecipeError, match="they differ in epochs, batch; choose"):
        learn(msgspec.structs.replace(recipe, epochs=9, batch=3), base, tmp_path / "run", None)


def test_the_data_of_a_teacher_that_the_student_has_not_are_in_the_notice(base: Path, tmp_path: Path) -> None:
    (base / "secret.jsonl").write_text('{"text": "pay me back", "label": "billing"}\n', encoding="utf-8")
    recipe = taught_by_a_larger(base, base, seed=3)
    sources = [*recipe.tasks[0].sources, Source(path=str(base / "secret.jsonl"), licence="CC BY-NC 4.0")]
    more = msgspec.structs.replace(recipe.tasks[0], sources=tuple(sources))
    learn(msgspec.structs.replace(recipe, tasks=(more,)), base, tmp_path / "more", None)
    held_back = {row.text for row in read_held_back(tmp_path / "more")}
    for name, judge in (("learned", False), ("judges", True)):
        rows = [(text, label) for label, texts in DESK.items() for text in texts if (text in held_back) == judge]
        lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
        (base / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    sources = [Source(path="learned.jsonl", licence="Apache-2.0"), Source(path="judges.jsonl", use="validation")]
    less = msgspec.structs.replace(recipe.tasks[0], sources=tuple(sources))
    learn(msgspec.structs.replace(recipe, tasks=(less,)), base, tmp_path / "less", answers_file(tmp_path / "more"))
    export(str(tmp_path / "less"), tmp_path / "bundle", precision="fp32", say=lambda _: None)
    notice = (tmp_path / "bundle" / "NOTICE").read_text(encoding="utf-8")
    assert "Taught by a model trained on secret.jsonl (CC BY-NC 4.0 licence)." in notice
    assert str(base).encode() not in answers_file(tmp_path / "more").read_bytes()


def test_answers_that_are_not_for_the_recipe_are_refused_before_anything_is_written(
    whole: tuple[Recipe, Path, Path], base: Path, tmp_path: Path
) -> None:
    recipe, first, _ = whole
    file = answers_file(first)
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
        {KEY: kept.keys, "intent": kept.said["intent"][:, :2].copy()},
        shape,
        metadata={"origin": msgspec.json.encode(kept.origin).decode()},
    )
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    rows = [{"text": e.text, "label": list(DESK)[e.label]} for e in data.splits["intent"].train]
    for path, part in (("measured.jsonl", rows[:1]), ("rest.jsonl", rows[1:])):
        (base / path).write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    measured = Source(path="measured.jsonl", use="measure")
    judged = msgspec.structs.replace(
        recipe.tasks[0], sources=(msgspec.structs.replace(source, path="rest.jsonl"), measured)
    )
    cases: list[tuple[Recipe, Path, str]] = [
        (
            msgspec.structs.replace(recipe, tasks=(judged,), validation=0.0),
            file,
            "learned 1 of the 1 texts that would judge",
        ),
        (others, file, "other tasks or labels"),
        (msgspec.structs.replace(recipe, distillation=None), file, "only a recipe with `distillation`"),
        (
            msgspec.structs.replace(recipe, distillation=msgspec.structs.replace(recipe.distillation, teacher=longer)),
            file,
            "another teacher than the recipe describes",
        ),
        (msgspec.structs.replace(recipe, tasks=(elsewhere,)), file, "no answer to any of the texts"),
        (msgspec.structs.replace(recipe, seed=recipe.seed + 1), file, "has learned .* texts that would judge"),
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
        learn(changed, base, tmp_path / name, answers_file(first))
        assert not (tmp_path / name / "member-0").exists()
        export(str(tmp_path / name), tmp_path / f"{name}-bundle", precision="fp32", say=lambda _: None)
        notice = (tmp_path / f"{name}-bundle" / "NOTICE").read_text(encoding="utf-8")
        assert notice.count(taught) == 1
        assert "Taught by a model trained on intent.jsonl" not in notice  # as the student is


def test_the_answers_that_are_committed_are_those_of_the_shipped_recipe_s_teacher() -> None:
    place = Path(__file__).parents[2] / "models" / "recipes"
    recipe, kept = load_recipe(place / "finance-en.yaml"), read_answers(place / "finance-en.answers.safetensors.xz")
    assert recipe.distillation is not None
    teacher = recipe.distillation.teacher
    assert teacher is not None
    assert kept.origin.teacher == msgspec.structs.replace(teacher, base="all-mpnet-base-v2")
    assert kept.origin.labels == {task.name: task.labels for task in recipe.tasks}
    assert len(kept.keys) > 50_000


def test_answers_may_be_packed_and_cut_ones_are_refused(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(900)]
    kept = answers_to(texts, {"intent": softmax(np.random.default_rng(1).normal(size=(900, 3)), 2.0)}, ORIGIN)
    write_answers(tmp_path / "plain", kept)
    content = (tmp_path / "plain").read_bytes()
    for pack, end in ((gzip.compress, ".gz"), (lzma.compress, ".xz")):
        packed, cut, none = (tmp_path / f"{name}{end}" for name in ("packed", "cut", "none"))
        packed.write_bytes(pack(content))
        assert same_answers(read_answers(packed), kept)
        cut.write_bytes(pack(content)[:-5])
        none.write_bytes(content)
        for file in (cut, none):
            with pytest.raises(RecipeError, match=f"{file.name} holds no answers"):
                read_answers(file)


def test_answers_of_earlier_files_are_read(tmp_path: Path) -> None:
    chances = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]])
    kept = answers_to(["one", "two"], {"intent": chances}, msgspec.structs.replace(ORIGIN, step=1 / 16))
    origin = msgspec.to_builtins(kept.origin)
    del origin["step"]
    save_file({KEY: kept.keys, **kept.said}, tmp_path / "file", metadata={"origin": json.dumps(origin)})
    earlier = read_answers(tmp_path / "file")
    assert same_answers(earlier, kept)
    np.testing.assert_allclose(earlier.of(["one", "two"], 2.0)[0]["intent"], chances, rtol=0.07, atol=1e-6)
    write_answers(tmp_path / "again", earlier)
    assert same_answers(read_answers(tmp_path / "again"), kept)
