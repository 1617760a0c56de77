"""From a few dozen labelled texts to a bundle that answers: training, resuming, exporting."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from models.predictor import Predictor
from models.train import train
from models.training.alone import alone
from models.training.compute import Compute, choose_compute, has_fast_bf16
from models.training.loop import layout_of, load_data, train_member
from models.training.measure import predict_logits
from models.training.network import Classifier, load_classifier, new_classifier, save_classifier
from models.training.optimisation import add_lora, allocate_ranks, make_optimiser, orthogonality, pace_ranks
from models.training.pruning import narrow_feed_forward
from models.training.recipe import Recipe, RecipeError, Source
from models.training.recipe_file import parse_recipe
from models.training.run import RECIPE, parent_of
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train
CPU = Compute(torch.device("cpu"), "fp32", "a test")

DESK = {
    "billing": [
        "my card was charged twice this month",
        "the invoice shows a wrong amount",
        "please refund the second charge",
        "why did the invoice amount go up",
        "i was billed after i cancelled",
        "the refund has not reached my card",
        "can i get an invoice for last month",
        "you charged a fee i never agreed to",
    ],
    "login": [
        "i cannot sign in to my account",
        "the password reset link does not work",
        "my account is locked after three attempts",
        "sign in fails with a wrong password message",
        "i lost the phone with my login codes",
        "the login page keeps loading",
        "please unlock my account",
        "reset my password please",
    ],
    "delivery": [
        "the parcel has not arrived yet",
        "my order was delivered to the wrong address",
        "where is my parcel",
        "the courier left the box in the rain",
        "tracking has not moved for a week",
        "half of the order is missing from the box",
        "please change the delivery address",
        "the courier never rang",
    ],
}
CLINIC = {
    "waiting": [
        "i waited three hours past my appointment",
        "the waiting room was full and nobody told us why",
        "my appointment was moved twice without notice",
        "an hour on hold before anyone answered",
        "the queue at reception did not move",
        "they kept us waiting all morning",
    ],
    "staff": [
        "the nurse was rude to my mother",
        "the doctor did not listen to a word",
        "reception staff shouted at an old man",
        "the doctor talked over me",
        "nobody on the staff said their name",
        "the nurse laughed at my question",
    ],
    "cleanliness": [
        "the toilets were dirty",
        "there was blood on the floor of the ward",
        "the sheets had stains",
        "dust under every bed on the ward",
        "the sink in the room was filthy",
        "bins were overflowing in the corridor",
    ],
}


def recipe_for(base: Path, name: str, groups: dict[str, list[str]], **changes: object) -> Recipe:
    """A recipe over `groups`, whose texts it writes beside the base model."""
    rows = [{"text": text, "label": label} for label, texts in groups.items() for text in texts]
    (base / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {"name": name, "labels": list(groups), "sources": [{"path": f"{name}.jsonl", "licence": "Apache-2.0"}]}
    content: dict[str, object] = {
        "name": f"{name}-en",
        "base": str(base),
        "tasks": [task],
        "epochs": 25,
        "batch": 8,
        "validation": 0.15,
        "max_tokens": 32,
        "train_tokens": 32,
        "precision": "fp32",
        "optimiser": {"rate": 2e-3, "head_rate": 5e-3},
    }
    return parse_recipe({**content, **changes})


def recipe_for_both(base: Path, **changes: object) -> Recipe:
    """A recipe of two tasks that share one encoder."""
    desk, clinic = recipe_for(base, "intent", DESK), recipe_for(base, "complaint", CLINIC)
    content = json.loads(msgspec.json.encode(msgspec.structs.replace(desk, tasks=(*desk.tasks, *clinic.tasks))))
    return parse_recipe({**content, **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    write_encoder(directory, [text for groups in (DESK, CLINIC) for texts in groups.values() for text in texts])
    return directory


def run(recipe: Recipe, base: Path, directory: Path) -> Any:
    return train(recipe, directory, data=base, recipe_directory=base, threads=1, say=lambda _: None)


@pytest.mark.parametrize("batch", [8, 64])
def test_a_run_whose_weights_run_away_says_what_to_lower(batch: int, base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, batch=batch, epochs=1, optimiser={"rate": 1e30})
    with pytest.raises(RecipeError, match=r"weights have run away; lower `optimiser\.rate`"):
        run(recipe, base, tmp_path / "run")


@pytest.mark.parametrize(("name", "groups"), [("intent", DESK), ("complaint", CLINIC)])
def test_a_few_dozen_texts_become_a_bundle_that_knows_them(
    name: str, groups: dict[str, list[str]], base: Path, tmp_path: Path
) -> None:
    run(recipe_for(base, name, groups), base, tmp_path / "run")
    written = export(str(tmp_path / "run"), tmp_path / "bundle", precision="int8", say=lambda _: None)
    predictor = Predictor(written.bundle)
    texts = [text for group in groups.values() for text in group]
    truth = np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()])
    said = predictor.predict(texts).probabilities[name].argmax(axis=1)
    assert predictor.labels == {name: tuple(groups)}
    assert (said == truth).mean() > 0.8
    assert written.parity.alone_equal == written.parity.alone > 0
    assert {m.task for m in written.bundle.manifest.metrics} == {name}


def test_the_bundle_of_a_run_states_probabilities_that_are_right_as_often_as_they_say(
    base: Path, tmp_path: Path
) -> None:
    labels = list(DESK)
    rows = [
        {"text": f"{word} {text}", "label": label if number % 3 else labels[number % 9 // 3]}
        for word in ("hello", "morning", "sorry", "again", "today", "well", "friends", "team", "dear", "so")
        for number, (label, text) in enumerate((label, text) for label in labels for text in DESK[label])
    ]
    (base / "doubtful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_for(base, "intent", DESK)
    given = msgspec.convert({"path": "doubtful.jsonl", "use": "validation"}, Source)
    task = msgspec.structs.replace(recipe.tasks[0], sources=(*recipe.tasks[0].sources, given))
    recipe = msgspec.structs.replace(recipe, tasks=(task,))
    run(recipe, base, tmp_path / "run")
    bundle = export(str(tmp_path / "run"), tmp_path / "bundle", precision="fp32", say=lambda _: None).bundle
    said = Predictor(bundle).predict([row["text"] for row in rows]).probabilities["intent"]
    right = said.argmax(axis=1) == np.array([labels.index(row["label"]) for row in rows])
    assert bundle.tasks[0].temperature > 1.3
    assert 0.6 < right.mean() < 0.85
    assert abs(float(said.max(axis=1).mean()) - right.mean()) < 0.03
    reported = run(msgspec.structs.replace(recipe, calibration_typos=0.3), base, tmp_path / "noisy")
    noisy = export(str(tmp_path / "noisy"), tmp_path / "other", precision="fp32", say=lambda _: None).bundle
    assert noisy.tasks[0].temperature == pytest.approx(reported[0].temperature, rel=0.01)
    assert noisy.tasks[0].temperature != pytest.approx(bundle.tasks[0].temperature, rel=0.01)


def test_a_run_says_how_many_texts_that_judge_one_task_another_learns(base: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, validation=0.3, seed=5)
    halves = {"kind": "paper", "other": "no paper"}
    names = {label: halves["kind" if label == "billing" else "other"] for label in DESK}
    source = msgspec.structs.replace(recipe.tasks[0].sources[0], labels=names)
    second = msgspec.structs.replace(recipe.tasks[0], name="kind", labels=tuple(halves.values()), sources=(source,))
    said: list[str] = []
    recipe = msgspec.structs.replace(recipe, tasks=(*recipe.tasks, second))
    data = load_data(recipe, {"data": base, "recipe": base}, said.append)
    learned = {e.text for e in data.splits["kind"].train}
    number = sum(e.text in learned for e in data.splits["intent"].validation)
    assert number > 0
    assert f" {number} rows to validate or measure on that another task learns from" in said[0]


def test_a_bundle_says_what_its_recipe_says_for_people_and_reads_as_many_tokens(base: Path, tmp_path: Path) -> None:
    texts = {"licence": "BSD-3-Clause", "description": "What a desk is asked.", "limitations": "Not for poems."}
    recipe = recipe_for(base, "intent", DESK, epochs=1, languages=["en", "de"], max_tokens=48, **texts)
    run(recipe, base, tmp_path / "run")
    bundle = export(str(tmp_path / "run"), tmp_path / "bundle", precision="fp32", say=lambda _: None).bundle
    assert (bundle.manifest.name, bundle.languages, bundle.max_tokens) == ("intent-en", ("en", "de"), 48)
    assert {key: getattr(bundle.manifest, key) for key in texts} == texts
    assert all(text in bundle.read("MODEL_CARD.md").decode() for text in texts.values())


def test_two_tasks_share_one_encoder(base: Path, tmp_path: Path) -> None:
    both = recipe_for_both(base, epochs=2, sampling=0.5, thinning=0.5, members=2)
    run(both, base, tmp_path / "run")
    written = export(str(tmp_path / "run"), tmp_path / "bundle", precision="fp32", say=lambda _: None)
    assert [task.name for task in written.bundle.tasks] == ["intent", "complaint"]
    assert (tmp_path / "run" / "intent.png").stat().st_size > 0


class Killed(Exception):
    pass


@pytest.mark.parametrize("changes", [{}, {"lora": {"kind": "adalora", "rank": 2}}], ids=["whole", "adalora"])
def test_a_killed_run_goes_on_to_the_same_weights(changes: dict[str, object], base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, epochs=3, thinning=0.3, augmentation={"typos": 0.5}, **changes)
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)

    def stop_in_the_second_epoch(line: str) -> None:
        if "epoch 2 step 0" in line:
            raise Killed

    def member(directory: str, say: Callable[[str], None] = lambda _: None) -> None:
        train_member(recipe, data, tmp_path / directory, member=0, compute=CPU, say=say, checkpoint_steps=1)

    member("whole")
    with pytest.raises(Killed):
        member("parts", stop_in_the_second_epoch)
    member("parts")
    whole = load_classifier(tmp_path / "whole")[0].state_dict()
    parts = load_classifier(tmp_path / "parts")[0].state_dict()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": {"kind": "lora", "rank": 2}},
        {"lora": {"kind": "adalora", "rank": 2}},
        {"freeze": {"embeddings": True, "layers": 1}, "optimiser": {"kind": "sgd", "rate": 0.05}},
        {"label_smoothing": 0.1, "pooling": "cls"},
    ],
)
def test_every_way_to_train_gives_a_model(changes: dict[str, object], base: Path, tmp_path: Path) -> None:
    report = run(recipe_for(base, "intent", DESK, epochs=2, **changes), base, tmp_path / "run")
    assert report[0].result.rows > 0
    load_classifier(tmp_path / "run")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_products_of_a_step_are_computed_in_the_precision_of_the_recipe(
    precision: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = set()
    product = torch.nn.Linear.forward

    def noted(self: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        result = product(self, inputs)
        if self.training:
            kinds.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.Linear, "forward", noted)
    run(recipe_for(base, "intent", DESK, epochs=1, precision=precision), base, tmp_path / "run")
    assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert all(value.dtype == torch.float32 for value in load_classifier(tmp_path / "run")[0].parameters())


def test_patience_gives_the_weights_of_the_best_epoch(base: Path, tmp_path: Path) -> None:
    even = {"rate": 2e-3, "head_rate": 5e-3, "schedule": "constant", "warmup": 0.0}
    run(recipe_for(base, "intent", DESK, epochs=12, patience=2, optimiser=even), base, tmp_path / "patient")
    lines = (tmp_path / "patient" / "member-0" / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    accuracies = [json.loads(line)["intent"]["accuracy"] for line in lines]
    best = accuracies.index(max(accuracies)) + 1
    assert len(accuracies) == best + 2 < 12
    run(recipe_for(base, "intent", DESK, epochs=best, optimiser=even), base, tmp_path / "short")
    patient, short = (load_classifier(tmp_path / name)[0].state_dict() for name in ("patient", "short"))
    assert all(np.array_equal(patient[name], short[name]) for name in short)


@pytest.mark.parametrize(("total", "shorter"), [(20, 20), (60, 20), (24, 20)])
def test_adalora_ends_with_the_rank_that_was_asked_for(total: int, shorter: int, base: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, lora={"kind": "adalora", "rank": 2})
    assert recipe.lora is not None
    classifier, _ = new_classifier(recipe)
    add_lora(classifier, recipe.lora, recipe.freeze)
    pace_ranks(classifier, 0, total)
    optimiser = make_optimiser(classifier, recipe.optimiser)
    ids = torch.randint(4, 60, (8, 12), generator=torch.Generator().manual_seed(1))
    truth = torch.arange(8) % 3
    for step in range(20):
        if step == 17:
            pace_ranks(classifier, step, shorter)
        logits = classifier(ids, torch.ones_like(ids))["intent"]
        loss = torch.nn.functional.cross_entropy(logits, truth) + orthogonality(classifier)
        loss.backward()
        optimiser.step()
        allocate_ranks(classifier, step)
        optimiser.zero_grad(set_to_none=True)
    values = [value for name, value in classifier.named_parameters() if "lora_E" in name]
    assert sum(len(value) for value in values) == 4 * len(values)
    assert 0 < sum(int((value != 0).sum()) for value in values) <= 2 * len(values)


def test_adalora_knows_how_many_steps_a_run_really_makes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    told: list[tuple[int, int]] = []

    def allocated(classifier: Classifier, step: int) -> None:
        made.append(step)
        allocate_ranks(classifier, step)

    def paced(classifier: Classifier, done: int, total: int) -> None:
        told.append((done, total))
        pace_ranks(classifier, done, total)

    monkeypatch.setattr("models.training.loop.allocate_ranks", allocated)
    monkeypatch.setattr("models.training.loop.pace_ranks", paced)
    recipe = recipe_for(base, "intent", DESK, epochs=4, thinning=0.9, lora={"kind": "adalora", "rank": 2})
    often = msgspec.structs.replace(recipe.tasks[0].sources[0], repeat=3)
    task = msgspec.structs.replace(recipe.tasks[0], sources=(often,))
    run(msgspec.structs.replace(recipe, tasks=(task,)), base, tmp_path / "run")
    assert made == list(range(told[-1][1]))
    assert told[0] == (0, 4 * told[1][0])
    assert told[-1][1] < told[0][1]


def test_a_base_that_would_run_code_or_unpickle_is_refused(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        new_classifier(recipe_for(tmp_path, "intent", DESK))
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a model ran')", encoding="utf-8")
    strange = {**config, "model_type": "strange", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (tmp_path / "config.json").write_text(json.dumps(strange), encoding="utf-8")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        new_classifier(recipe_for(tmp_path, "intent", DESK))


def test_weights_that_were_cut_off_are_an_error_that_names_the_file(base: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(RecipeError, match=r"model\.safetensors cannot be read"):
        new_classifier(recipe_for(tmp_path, "intent", DESK))


def test_frozen_parts_do_not_move(base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, epochs=1, freeze={"embeddings": True, "layers": 1})
    run(recipe, base, tmp_path / "run")
    before = new_classifier(recipe)[0].state_dict()
    after = load_classifier(tmp_path / "run")[0].state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved and not any("embeddings" in name or "layer.0." in name for name in moved)


def test_adapters_leave_frozen_layers_alone(base: Path, tmp_path: Path) -> None:
    for kind in ("lora", "adalora"):
        changes: dict[str, object] = {"lora": {"kind": kind, "rank": 2}, "freeze": {"embeddings": True, "layers": 1}}
        recipe = recipe_for(base, "intent", DESK, epochs=2, **changes)
        run(recipe, base, tmp_path / kind)
        before = new_classifier(recipe)[0].state_dict()
        after = load_classifier(tmp_path / kind)[0].state_dict()
        moved = {name for name in before if not np.array_equal(before[name], after[name])}
        assert any("layer.1." in name for name in moved)
        assert not any("embeddings" in name or "layer.0." in name for name in moved)


def test_a_directory_with_another_run_is_left_alone(base: Path, tmp_path: Path) -> None:
    run(recipe_for(base, "intent", DESK, epochs=1), base, tmp_path / "run")
    with pytest.raises(RecipeError, match="another recipe"):
        run(recipe_for(base, "intent", DESK, epochs=2), base, tmp_path / "run")


def test_a_run_that_another_process_trains_is_left_alone(base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, epochs=1)
    with alone(tmp_path / "run", "training run"):
        with pytest.raises(RecipeError, match=r"another training run is running in .*run; wait until it has ended"):
            run(recipe, base, tmp_path / "run")
        assert [each.name for each in (tmp_path / "run").iterdir()] == [".lock"]
    run(recipe, base, tmp_path / "run")


def test_a_base_beside_the_reader_is_known_as_a_place_from_elsewhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    teacher = {"teacher": {"base": base.name, "epochs": 1, "optimiser": {"kind": "adamw"}}}
    run(recipe_for(Path(base.name), "intent", DESK, epochs=1, distillation=teacher), base, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    began = msgspec.json.decode((tmp_path / "run" / RECIPE).read_bytes(), type=Recipe)
    assert began.distillation is not None and began.distillation.teacher is not None
    for model in (began, began.distillation.teacher):
        assert (parent_of(model).name, parent_of(model).source) == (base.name, "")


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "cpu_name": "AMD EPYC", "avx512_f": True, "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": True}, False),
        ({"architecture": "x86_64", "cpu_name": "Intel Xeon", "avx512_f": True, "avx512_bf16": True}, False),
        ({"architecture": "x86_64", "cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"architecture": "arm64", "neon": True}, False),
        ({"architecture": "arm64", "neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_bf16_is_chosen_where_the_processor_is_faster_with_it(capabilities: dict[str, object], fast: bool) -> None:
    assert has_fast_bf16(capabilities) == fast


def test_a_run_says_and_records_what_it_computes_with(base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, epochs=1, precision="auto", device="cpu")
    said: list[str] = []
    train(recipe, tmp_path / "run", data=base, recipe_directory=base, threads=1, say=said.append)
    chosen = choose_compute(recipe)
    assert said[0] == f"computing in {chosen.precision} on cpu: {chosen.why}"
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert (report["computed"]["device"], report["computed"]["precision"]) == ("cpu", chosen.precision)
    assert report["results"][0]["result"]["task"] == "intent"


@pytest.mark.parametrize("bf16", [True, False])
def test_a_recipe_may_name_its_device_and_precision(bf16: bool, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not bf16}, raising=False)
    fast = {"cuda": "bf16" if bf16 else "fp32", "cpu": "fp32" if bf16 else "bf16"}
    for device, used in (("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")):
        for precision, wanted in (("auto", fast[used]), ("fp32", "fp32"), ("bf16", "bf16")):
            chosen = choose_compute(recipe_for(base, "intent", DESK, device=device, precision=precision))
            assert (chosen.device.type, chosen.precision) == (used, wanted)


def test_a_gpu_that_is_not_there_is_an_error(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="device: cuda"):
        run(recipe_for(base, "intent", DESK, device="cuda"), base, tmp_path / "run")


def write_untrained(recipe: Recipe, directory: Path) -> Path:
    classifier, tokenizer = new_classifier(recipe)
    save_classifier(classifier, tokenizer, layout_of(recipe), directory)
    return directory


def test_a_narrower_model_keeps_the_neurons_that_matter(base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, epochs=1)
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    wide, tokenizer = new_classifier(recipe)
    full = wide.encoder.config.intermediate_size
    texts = [text for texts in DESK.values() for text in texts]
    for layer in wide.encoder.encoder.layer:
        layer.output.dense.weight.data[:, ::2] *= 1e-4
    before = predict_logits(wide, Tokenizer.from_str(tokenizer), texts, max_tokens=32)["intent"]
    options: dict[str, Any] = {"max_tokens": 32, "device": CPU.device}
    narrow_feed_forward(wide, Tokenizer.from_str(tokenizer), texts, width=full // 2, **options)
    after = predict_logits(wide, Tokenizer.from_str(tokenizer), texts, max_tokens=32)["intent"]
    assert np.abs(before - after).max() < 1e-3
    with pytest.raises(RecipeError, match="wide"):
        narrow_feed_forward(wide, Tokenizer.from_str(tokenizer), texts, width=full, **options)
    narrow = recipe_for(base, "intent", DESK, epochs=1, feed_forward=full // 2)
    train_member(narrow, data, tmp_path, member=0, compute=CPU, say=lambda _: None)
    loaded, _, _ = load_classifier(tmp_path)
    assert loaded.encoder.encoder.layer[0].intermediate.dense.weight.shape[0] == full // 2
