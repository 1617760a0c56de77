"""Students of members, of finished runs and of larger teachers, and what they are told."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.models.training import needs_training

needs_training()

import torch
from tokenizers import Tokenizer

from models.export import export
from models.export_source import ExportError, open_source
from models.probabilities import softmax
from models.train import train
from models.training.answers import STEP, read_answers
from models.training.batches import NO_TASK, Batch, epoch_batches
from models.training.distillation import answers_file, as_taught, ask, taught
from models.training.loop import Data, load_data, train_member
from models.training.losses import DistilledLoss, LossFunction
from models.training.network import load_classifier
from models.training.recipe import Augmentation, Distillation, Recipe, RecipeError, Source
from models.training.sources import Example
from models.training.variants import make_variants
from tests.models.test_train import CLINIC, CPU, DESK, recipe_for, recipe_for_both, run, write_untrained
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    write_encoder(directory, [text for groups in (DESK, CLINIC) for texts in groups.values() for text in texts])
    return directory


def test_a_student_learns_from_its_members_also_what_no_label_says(base: Path, tmp_path: Path) -> None:
    teaching = {"epochs": 12, "start": "base", "weight": 1.0, "other_tasks": 1.0, "temperature": 1.0}
    recipe = recipe_for_both(base, epochs=4, members=2, distillation=teaching)
    run(recipe, base, tmp_path / "run")
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    members = [tmp_path / "run" / f"member-{number}" for number in range(2)]
    teacher = ask(recipe, data, members, 1.0, CPU)
    student = ask(recipe, data, [tmp_path / "run"], 1.0, CPU)
    untaught = ask(recipe, data, [write_untrained(recipe, tmp_path / "untaught")], 1.0, CPU)
    unlabelled = slice(len(data.splits["intent"].train), None)
    for texts, task in ((slice(None), "complaint"), (unlabelled, "intent")):
        wanted = teacher[task][texts]
        assert np.abs(student[task][texts] - wanted).mean() < 0.5 * np.abs(untaught[task][texts] - wanted).mean()


def test_a_finished_run_teaches_another_and_one_with_other_labels_does_not(base: Path, tmp_path: Path) -> None:
    first = recipe_for(base, "intent", DESK, epochs=1)
    run(first, base, tmp_path / "teacher")
    taught = {"teachers": [str(tmp_path / "teacher")], "epochs": 1}
    run(recipe_for(base, "intent", DESK, epochs=1, distillation=taught), base, tmp_path / "student")
    load_classifier(tmp_path / "student")
    with pytest.raises(RecipeError, match="other tasks or labels"):
        run(recipe_for(base, "complaint", CLINIC, epochs=1, distillation=taught), base, tmp_path / "other")
    missing = {"teachers": ["nowhere"], "epochs": 1}
    with pytest.raises(RecipeError, match="no finished model"):
        run(recipe_for(base, "intent", DESK, epochs=1, distillation=missing), base, tmp_path / "missing")


def test_a_run_trains_its_larger_teacher_first_and_its_student_alone_is_told_some_texts(
    base: Path, tmp_path: Path
) -> None:
    extra = {"billing": ["send the money back"], "login": ["no code came"], "delivery": ["no box"]}
    rows = [{"text": text, "label": label} for label, texts in extra.items() for text in texts]
    (base / "extra.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_for(
        base,
        "intent",
        DESK,
        epochs=1,
        distillation={"start": "base", "epochs": 20, "teacher": {"base": str(base), "epochs": 25, "batch": 8}},
    )
    sources = [*recipe.tasks[0].sources, msgspec.convert({"path": "extra.jsonl", "student_only": True}, Source)]
    task = msgspec.structs.replace(recipe.tasks[0], sources=tuple(sources))
    recipe = msgspec.structs.replace(recipe, tasks=(task,))
    said: list[str] = []
    train(recipe, tmp_path, data=base, recipe_directory=base, threads=1, say=said.append)
    assert not (tmp_path / "member-0").exists()
    assert (tmp_path / "teacher-0" / "model.safetensors").is_file()
    assert any("training the teacher" in line for line in said)
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    texts = [e.text for e in data.splits["intent"].train]
    answers = {"intent": torch.from_numpy(ask(recipe, data, [tmp_path / "teacher-0"], 2.0, CPU)["intent"])}
    assert recipe.distillation is not None
    asked = torch.tensor([float(not e.source.student_only) for e in data.splits["intent"].train])
    labels = LossFunction(recipe, data.splits)
    every = torch.ones(len(texts))
    loss = DistilledLoss(labels, answers, recipe.distillation, answered=every, asked=asked, spread=0 * every)
    alone = texts.index("no box")
    batch = Batch(
        ids=torch.zeros(1, 1, dtype=torch.int64),
        mask=torch.ones(1, 1, dtype=torch.int64),
        task=torch.tensor([0]),
        label=torch.tensor([2]),
        text=torch.tensor([alone]),
        weight=torch.ones(1),
    )
    logits = {"intent": torch.tensor([[0.5, -1.0, 2.0]])}
    assert torch.equal(loss(logits, batch), labels(logits, batch))
    taught = batch._replace(text=torch.tensor([0]))
    assert not torch.equal(loss(logits, taught), labels(logits, taught))


def test_several_teachers_differ_and_the_mean_of_their_logits_teaches(base: Path, tmp_path: Path) -> None:
    rates = {"kind": "adamw", "rate": 3.0e-3, "head_rate": 3.0e-2}
    teacher = {"base": str(base), "members": 2, "epochs": 6, "batch": 8, "optimiser": rates}
    settings = {"start": "base", "epochs": 1, "teacher": teacher}
    recipe = recipe_for(base, "intent", DESK, epochs=1, distillation=settings)

    def begin() -> list[str]:
        said: list[str] = []
        train(recipe, tmp_path, data=base, recipe_directory=base, threads=1, say=said.append)
        return [line.split(",")[0] for line in said if line.startswith(("training the", "asking"))]

    assert begin() == ["training the teacher 1 of 2", "training the teacher 2 of 2", "asking 2 teachers"]
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    teachers = [tmp_path / "teacher-0", tmp_path / "teacher-1"]
    one, other = (np.log(ask(recipe, data, [teacher], 2.0, CPU)["intent"]) for teacher in teachers)
    assert np.abs(one - other).max() > 4 * STEP
    kept, _ = read_answers(answers_file(tmp_path)).of(data.texts, 2.0)
    np.testing.assert_allclose(kept["intent"], softmax((one + other) / 2, 1.0), rtol=np.expm1(STEP), atol=1e-6)
    first = (teachers[0] / "model.safetensors").read_bytes()
    for lost in (teachers[1] / "model.safetensors", answers_file(tmp_path)):  # as a kill between the two leaves it
        lost.unlink()
    shutil.rmtree(teachers[1])
    shutil.rmtree(tmp_path / "student")
    assert begin() == ["training the teacher 2 of 2", "asking 2 teachers"]
    assert (teachers[0] / "model.safetensors").read_bytes() == first


def test_labels_of_a_source_can_be_less_sure_for_a_student_but_not_for_its_teacher(base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, label_smoothing=0.05, distillation={"weight": 0.5})
    (source,) = recipe.tasks[0].sources
    unsure = msgspec.structs.replace(source, label_smoothing=0.3)
    task = msgspec.structs.replace(recipe.tasks[0], sources=(unsure,))
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    doubted = load_data(msgspec.structs.replace(recipe, tasks=(task,)), {"data": base, "recipe": base}, lambda _: None)
    batch = Batch(
        ids=torch.zeros(3, 1, dtype=torch.int64),
        mask=torch.ones(3, 1, dtype=torch.int64),
        task=torch.zeros(3, dtype=torch.int64),
        label=torch.arange(3),
        text=torch.arange(3),
        weight=torch.ones(3),
    )
    logits = {"intent": torch.tensor([[0.5, -1.0, 2.0], [4.0, 0.0, 0.0], [0.0, 0.1, 0.2]])}
    for splits, smoothing in ((data.splits, 0.05), (doubted.splits, 0.3)):
        wanted = torch.nn.functional.cross_entropy(
            logits["intent"], batch.label, reduction="none", label_smoothing=smoothing
        )
        assert torch.allclose(LossFunction(recipe, splits)(logits, batch), wanted)

    assert recipe.distillation is not None
    number = len(data.splits["intent"].train)
    sure = torch.eye(3)[torch.arange(number) % 3]
    loss = DistilledLoss(
        LossFunction(recipe, data.splits),
        {"intent": sure},
        recipe.distillation,
        answered=torch.ones(number),
        asked=torch.ones(number),
        spread=torch.full((number,), 0.3),
    )
    spread = DistilledLoss(
        LossFunction(recipe, data.splits),
        {"intent": sure * 0.7 + 0.1},
        recipe.distillation,
        answered=torch.ones(number),
        asked=torch.ones(number),
        spread=torch.zeros(number),
    )
    assert torch.allclose(loss(logits, batch), spread(logits, batch))
    assert {e.source.label_smoothing for e in as_taught(doubted).splits["intent"].train} == {None}


def test_variants_are_answered_by_the_teacher_alone_and_learned_from_in_every_epoch(base: Path, tmp_path: Path) -> None:
    settings = {"start": "base", "epochs": 2, "variants": 2, "teacher": {"base": str(base), "epochs": 2, "batch": 8}}
    recipe = recipe_for(base, "intent", DESK, epochs=1, quantisation={"epochs": 1}, distillation=settings)
    train(recipe, tmp_path, data=base, recipe_directory=base, threads=1, say=lambda _: None)
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    number = len(data.texts)
    data = data._replace(unlabelled=tuple(make_variants(data.texts, 2, recipe.seed)))
    kept, known = read_answers(answers_file(tmp_path)).of(data.texts, 2.0)
    answers = torch.from_numpy(kept["intent"])
    assert known.all()
    assert answers.shape == (3 * number, 3)
    np.testing.assert_allclose(
        answers, ask(recipe, data, [tmp_path / "teacher-0"], 2.0, CPU)["intent"], rtol=np.expm1(STEP), atol=1e-6
    )
    batches = epoch_batches(
        [data.splits["intent"].train],
        Tokenizer.from_file(str(base / "tokenizer.json")),
        noise=Augmentation(),
        exponent=1.0,
        batch=8,
        max_tokens=32,
        pad_id=0,
        rng=np.random.default_rng(1),
        losses=np.full(3 * number, np.nan, np.float32),
        thinning=0.0,
        unlabelled=data.unlabelled,
    )
    tasks = {int(text): int(task) for each in batches for text, task in zip(each.text, each.task, strict=True)}
    assert tasks == {text: 0 if text < number else NO_TASK for text in range(3 * number)}

    assert recipe.distillation is not None
    loss, _ = taught(recipe, recipe.distillation, data, tmp_path, teachers=[], compute=CPU, say=str)
    (unlabelled,) = [each for each in batches if bool((each.task == NO_TASK).any())][:1]
    logits = {"intent": torch.zeros(len(unlabelled.text), 3)}
    here = unlabelled.task == NO_TASK
    wanted = answers[unlabelled.text]
    distance = (torch.xlogy(wanted, wanted) - wanted * np.log(1 / 3)).sum(1) * 4.0 * recipe.distillation.other_tasks
    assert torch.allclose(loss(logits, unlabelled)[here], distance[here], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": {"layers": 99}}, "freeze.layers: 99"),
        ({"feed_forward": 9999}, "feed_forward: 9999"),
        ({"lora": {"targets": ["nowhere"]}}, "lora.targets: nowhere"),
        ({"base": "/nowhere/at/all"}, "base /nowhere/at/all"),
        ({"teacher": {"freeze": {"layers": 99}}}, r"distillation.teacher: freeze.layers: 99"),
        ({"teacher": {"base": "/nowhere/at/all"}, "start": "average"}, "distillation.teacher: base /nowhere/at/all"),
    ],
)
def test_what_a_student_or_teacher_cannot_begin_with_is_refused_before_anything_is_trained(
    changes: dict[str, Any], message: str, base: Path, tmp_path: Path
) -> None:
    rest = dict(changes)
    teacher = {"base": str(base), "epochs": 1, **rest.pop("teacher", {})}
    settings = {"start": rest.pop("start", "base"), "epochs": 1, "teacher": teacher}
    own = rest.pop("base", str(base))
    recipe = recipe_for(base, "intent", DESK, epochs=1, distillation=settings, **rest)
    with pytest.raises(RecipeError, match=message):
        run(msgspec.structs.replace(recipe, base=own), base, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_asks_no_more_for_bases_whose_fits_are_done(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "larger")
    settings = {"start": "base", "epochs": 1, "teacher": {"base": str(tmp_path / "larger"), "epochs": 1}}
    shutil.copytree(base, tmp_path / "own")
    recipe = recipe_for(base, "intent", DESK, epochs=1, distillation=settings, quantisation={"epochs": 1})
    recipe = msgspec.structs.replace(recipe, base=str(tmp_path / "own"))
    run(recipe, base, tmp_path / "run")
    shutil.rmtree(tmp_path / "larger")
    shutil.rmtree(tmp_path / "own")
    (tmp_path / "run" / "report.json").unlink()
    run(recipe, base, tmp_path / "run")
    assert (tmp_path / "run" / "report.json").is_file()


def test_a_run_that_goes_on_lists_no_teacher_that_it_trained_itself(base: Path, tmp_path: Path) -> None:
    settings = {"start": "base", "epochs": 1, "teacher": {"base": str(base), "epochs": 1}}
    recipe = recipe_for(base, "intent", DESK, epochs=1, distillation=settings)
    for _ in range(2):
        run(recipe, base, tmp_path / "run")
        assert not (tmp_path / "run" / "teachers.json").exists()
    file = answers_file(tmp_path / "run")
    train(recipe, tmp_path / "told", data=base, recipe_directory=base, answers=file, threads=1, say=lambda _: None)
    before = (tmp_path / "told" / "teachers.json").read_bytes()
    run(recipe, base, tmp_path / "told")
    assert (tmp_path / "told" / "teachers.json").read_bytes() == before


def test_a_teacher_without_a_text_of_its_own_is_refused(base: Path, tmp_path: Path) -> None:
    settings = {"start": "base", "teacher": {"base": str(base)}}
    recipe = recipe_for(base, "intent", DESK, epochs=1, distillation=settings)
    alone = tuple(msgspec.structs.replace(source, student_only=True) for source in recipe.tasks[0].sources)
    task = msgspec.structs.replace(recipe.tasks[0], sources=alone)
    with pytest.raises(RecipeError, match="'intent' has no text that its teacher may train on"):
        run(msgspec.structs.replace(recipe, tasks=(task,)), base, tmp_path / "run")


def test_members_that_teach_learn_as_a_teacher_does(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "late.jsonl").write_text('{"text": "send the money back", "label": "billing"}\n', encoding="utf-8")
    recipe = recipe_for(base, "intent", DESK, epochs=1, members=2)
    sources = [{"path": "intent.jsonl", "label_smoothing": 0.3}, {"path": "late.jsonl", "student_only": True}]
    task = msgspec.structs.replace(recipe.tasks[0], sources=tuple(msgspec.convert(sources, list[Source])))
    recipe = msgspec.structs.replace(recipe, tasks=(task,))
    lessons: list[list[Example]] = []

    def watched(recipe: Recipe, data: Data, *arguments: Any, **options: Any) -> None:
        lessons.append(data.splits["intent"].train)
        train_member(recipe, data, *arguments, **options)

    monkeypatch.setattr("models.train.train_member", watched)
    run(recipe, base, tmp_path / "plain")
    run(msgspec.structs.replace(recipe, distillation=Distillation(epochs=1)), base, tmp_path / "taught")
    heard = [any(e.text == "send the money back" for e in lesson) for lesson in lessons]
    assert heard == [True, True, False, False]
    assert [lesson[0].source.label_smoothing for lesson in lessons] == [0.3, 0.3, None, None]
    with pytest.raises(RecipeError, match="'intent' has no text that its teacher"):
        alone = msgspec.structs.replace(task, sources=task.sources[1:])
        run(msgspec.structs.replace(recipe, tasks=(alone,), distillation=Distillation()), base, tmp_path / "nothing")


def test_a_base_with_other_weights_than_the_recipe_was_written_for_is_refused(base: Path, tmp_path: Path) -> None:
    right = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    recipe = recipe_for(base, "intent", DESK, epochs=1, base_sha256=right)
    run(recipe, base, tmp_path / "right")
    with pytest.raises(RecipeError, match=rf"base_sha256: {'0' * 64}, but .*model\.safetensors has {right}"):
        run(msgspec.structs.replace(recipe, base_sha256="0" * 64), base, tmp_path / "wrong")
    teacher = {"base": str(base), "base_sha256": "0" * 64, "epochs": 1}
    with pytest.raises(RecipeError, match=r"distillation\.teacher: base_sha256"):
        run(recipe_for(base, "intent", DESK, distillation={"teacher": teacher}), base, tmp_path / "taught")
    assert not (tmp_path / "wrong").exists() and not (tmp_path / "taught").exists()
    (base / "model.safetensors").rename(base / "weights.safetensors")
    try:
        with pytest.raises(RecipeError, match=r"has no model\.safetensors in"):
            run(recipe, base, tmp_path / "none")
    finally:
        (base / "weights.safetensors").rename(base / "model.safetensors")


def test_a_recipe_names_one_kind_of_teacher(base: Path) -> None:
    both = {"teacher": {"base": str(base)}, "teachers": ["first"]}
    with pytest.raises(RecipeError, match="both `teacher` and `teachers`"):
        recipe_for(base, "intent", DESK, distillation=both)


def test_a_run_that_has_not_finished_teaches_nobody(base: Path, tmp_path: Path) -> None:
    run(recipe_for(base, "intent", DESK, epochs=1), base, tmp_path / "teacher")
    (tmp_path / "teacher" / "report.json").unlink()
    taught = {"teachers": [str(tmp_path / "teacher")], "epochs": 1}
    with pytest.raises(RecipeError, match="has not finished"):
        run(recipe_for(base, "intent", DESK, epochs=1, distillation=taught), base, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_finished_run_that_has_learned_what_judges_the_student_is_no_teacher(base: Path, tmp_path: Path) -> None:
    (base / "late.jsonl").write_text('{"text": "send the money back", "label": "billing"}\n', encoding="utf-8")

    def taught_by(*teachers: str, late: str | None = None, seed: int = 1) -> Recipe:
        settings = {"teachers": [str(tmp_path / each) for each in teachers], "epochs": 1, "start": "base"}
        recipe = recipe_for(base, "intent", DESK, epochs=1, seed=seed, distillation=settings if teachers else None)
        sources = [*recipe.tasks[0].sources, *([{"path": "late.jsonl", "use": late}] if late else [])]
        task = msgspec.structs.replace(recipe.tasks[0], sources=tuple(msgspec.convert(sources, list[Source])))
        return msgspec.structs.replace(recipe, tasks=(task,))

    def refused(recipe: Recipe) -> None:
        with pytest.raises(
            RecipeError, match=r"distillation\.teachers: .* has learned \d of the \d texts that would judge"
        ):
            run(recipe, base, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()

    run(taught_by(late="train"), base, tmp_path / "teacher")
    refused(taught_by("teacher", seed=2))
    refused(taught_by("teacher", late="measure"))
    refused(taught_by("teacher", late="validation"))
    run(taught_by("teacher"), base, tmp_path / "student")
    refused(taught_by("student", late="measure"))

    (tmp_path / "teacher" / "learned.keys").unlink()
    said: list[str] = []
    recipe = taught_by("teacher", late="measure")
    train(recipe, tmp_path / "warned", data=base, recipe_directory=base, threads=1, say=said.append)
    assert any("teacher does not tell which texts it has learned" in line for line in said)
    run(taught_by(late="train"), base, tmp_path / "teacher")
    refused(recipe)


def test_what_finished_teachers_were_made_of_is_recorded_and_in_the_notice(base: Path, tmp_path: Path) -> None:
    first = recipe_for(base, "intent", DESK, epochs=1, base_licence="CC-BY-4.0", base_origin="a large model")
    run(first, base, tmp_path / "first")
    (own,) = first.tasks[0].sources
    for name, teacher in (("second", "first"), ("third", "second")):
        taught = {"teachers": [str(tmp_path / teacher)], "epochs": 1, "start": "base"}
        student = recipe_for(base, "intent", DESK, epochs=1, distillation=taught, base_licence="MIT")
        sources = (msgspec.structs.replace(own, name=f"texts of the {name}"),)
        task = msgspec.structs.replace(student.tasks[0], sources=sources)
        run(msgspec.structs.replace(student, tasks=(task,)), base, tmp_path / name)
    shutil.rmtree(tmp_path / "first")
    export(str(tmp_path / "third"), tmp_path / "bundle", precision="fp32", say=lambda _: None)
    notice = (tmp_path / "bundle" / "NOTICE").read_text(encoding="utf-8")
    assert "Taught by a model fine-tuned from a large model (CC-BY-4.0 licence)." in notice
    assert f"Taught by a model fine-tuned from {base.name} (MIT licence)." in notice
    assert "Taught by a model trained on texts of the second (Apache-2.0 licence)." in notice
    assert "Taught by a model trained on intent.jsonl (Apache-2.0 licence)." in notice
    assert "Trained on texts of the third (Apache-2.0 licence)." in notice


def test_a_whole_recipe_run_twice_gives_the_same_weights_graph_and_version_to_the_bit(
    base: Path, tmp_path: Path
) -> None:
    settings = {"start": "base", "epochs": 2, "variants": 1, "teacher": {"base": str(base), "epochs": 2, "batch": 8}}
    recipe = recipe_for_both(
        base,
        epochs=2,
        feed_forward=64,
        thinning=0.3,
        augmentation={"typos": 0.5},
        quantisation={"epochs": 1},
        distillation=settings,
    )
    for name in ("first", "second"):
        run(recipe, base, tmp_path / name)
        torch.manual_seed(7)
    for part in ("teacher-0", "student", "quantised", "."):
        first, second = ((tmp_path / name / part / "model.safetensors").read_bytes() for name in ("first", "second"))
        assert first == second, part
    written = [
        export(str(tmp_path / name), tmp_path / f"{name}-bundle", created=day, say=lambda _: None).bundle
        for name, day in (("first", "2026-11-29"), ("second", "2026-11-30"))
    ]
    assert written[0].version_id == written[1].version_id
    assert written[0].read("model.onnx") == written[1].read("model.onnx")
    assert written[0].manifest.created != written[1].manifest.created


def test_a_student_is_exported_as_it_was_before_it_learned_to_round(base: Path, tmp_path: Path) -> None:
    settings = {"start": "base", "epochs": 1, "teacher": {"base": str(base), "epochs": 1}}
    recipe = recipe_for(base, "intent", DESK, epochs=1, quantisation={"epochs": 1}, distillation=settings)
    run(recipe, base, tmp_path / "run")
    found = open_source(str(tmp_path / "run"), None, before_rounding=True)
    student = load_classifier(tmp_path / "run" / "student")[0]
    ids = np.array([[2, 5, 6, 7, 3]])
    with torch.inference_mode():
        wanted = student(torch.from_numpy(ids), torch.ones(1, 5, dtype=torch.int64))["intent"].numpy()
    assert np.array_equal(found.reference(ids, np.ones_like(ids))["intent"], wanted)
    assert (found.rounded, found.unrounded) == ((), None)
    assert len(found.held_back) > 0
    shutil.rmtree(tmp_path / "run" / "student")
    with pytest.raises(ExportError, match=r"the run keeps no .*student/model\.safetensors any more"):
        open_source(str(tmp_path / "run"), None, before_rounding=True)


def test_what_a_run_says_names_its_teacher_its_student_and_the_rounded_model(base: Path, tmp_path: Path) -> None:
    settings = {"start": "base", "epochs": 1, "teacher": {"base": str(base), "epochs": 1}}
    recipe = recipe_for(base, "intent", DESK, epochs=1, quantisation={"epochs": 1}, distillation=settings)
    said: list[str] = []
    train(recipe, tmp_path, data=base, recipe_directory=base, threads=1, say=said.append)
    steps = [line.split(" epoch ")[0] for line in said if " epoch 1 step 0/" in line]
    assert steps == ["teacher", "student", "rounded"]
