"""What a recipe says of texts, tasks and texts' lengths is what a fit learns from, epoch for epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.models.training import needs_training

needs_training()

import torch
from tokenizers import Tokenizer

from models.training import distillation, loop, report
from models.training.batches import Batch, epoch_batches
from models.training.distillation import distil, larger
from models.training.loop import fit_quantised, layout_of, load_data, train_member
from models.training.network import Classifier, load_classifier, new_classifier, save_classifier
from models.training.recipe import Distillation, Freeze, Optimiser, Quantisation, Recipe, Teacher
from models.training.tokenisation import build_tokenizer
from tests.models.test_train import CLINIC, CPU, DESK, recipe_for, recipe_for_both, run, write_untrained
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    write_encoder(directory, [text for groups in (DESK, CLINIC) for texts in groups.values() for text in texts])
    return directory


def member(recipe: Recipe, base: Path, directory: Path) -> loop.Data:
    """Train a member, and give what it had to learn from."""
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    train_member(recipe, data, directory, member=0, compute=CPU, say=lambda _: None)
    return data


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[list[Batch]]:
    """The batches of every epoch that is trained on from now on."""
    seen: list[list[Batch]] = []

    def noted(*arguments: Any, **options: Any) -> list[Batch]:
        seen.append(epoch_batches(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(loop, "epoch_batches", noted)
    return seen


def tokens(batches: list[Batch]) -> dict[int, list[int]]:
    """The token ids of every text, by its number."""
    rows = [(b.text[at], b.ids[at][b.mask[at].bool()]) for b in batches for at in range(len(b.text))]
    return {int(number): ids.tolist() for number, ids in rows}


def test_a_run_learns_from_its_texts_as_they_are_or_with_the_recipes_noise_anew_in_every_epoch(
    base: Path, tmp_path: Path, epochs: list[list[Batch]]
) -> None:
    for name, noise in (("plain", {}), ("noisy", {"typos": 1.0, "typo_words": 1.0})):
        data = member(recipe_for(base, "intent", DESK, epochs=2, augmentation=noise), base, tmp_path / name)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    own = dict(enumerate(tokenizer.encode(text).ids for text in data.texts))
    plain, again, noisy, anew = map(tokens, epochs)
    assert plain == again == own
    assert all(noisy[text] != own[text] for text in own)
    assert sum(noisy[text] != anew[text] for text in own) > 0.8 * len(own)


@pytest.mark.parametrize("sampling", [0.0, 1.0])
def test_a_run_draws_from_each_task_what_the_recipe_says(
    sampling: float, base: Path, tmp_path: Path, epochs: list[list[Batch]]
) -> None:
    data = member(recipe_for_both(base, epochs=1, sampling=sampling), base, tmp_path)
    sizes = [len(split.train) for split in data.splits.values()]
    assert sizes[0] > sizes[1] + 2
    drawn = Counter(task for batch in epochs[0] for task in batch.task.tolist())
    assert drawn == dict(enumerate(sizes if sampling else [sum(sizes) // 2, sum(sizes) // 2]))


def test_a_step_has_as_many_texts_of_at_most_as_many_tokens_as_the_recipe_says(
    base: Path, tmp_path: Path, epochs: list[list[Batch]]
) -> None:
    data = member(recipe_for(base, "intent", DESK, epochs=1, batch=5, train_tokens=8), base, tmp_path)
    full, rest = divmod(len(data.texts), 5)
    assert Counter(len(batch.text) for batch in epochs[0]) == Counter({5: full, rest: 1} if rest else {5: full})
    assert max(batch.ids.shape[1] for batch in epochs[0]) == 8


def test_a_step_counts_a_text_as_often_as_it_weighs(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weightless(*arguments: Any, **options: Any) -> list[Batch]:
        return [batch._replace(weight=0 * batch.weight) for batch in epoch_batches(*arguments, **options)]

    monkeypatch.setattr(loop, "epoch_batches", weightless)
    recipe = recipe_for(base, "intent", DESK, epochs=1, optimiser={"kind": "sgd", "rate": 0.1, "weight_decay": 0.0})
    member(recipe, base, tmp_path)
    before, after = new_classifier(recipe)[0].state_dict(), load_classifier(tmp_path)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_reads_as_many_tokens_to_learn_and_to_be_measured_as_the_recipe_says(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, set[int]] = {}
    for module in (loop, report):
        predict, cut = module.predict_logits, read.setdefault(module.__name__, set())

        def noted(*arguments: Any, predict: Any = predict, cut: set[int] = cut, **options: Any) -> Any:
            cut.add(options["max_tokens"])
            return predict(*arguments, **options)

        monkeypatch.setattr(module, "predict_logits", noted)
    run(recipe_for(base, "intent", DESK, epochs=1, train_tokens=16, max_tokens=48), base, tmp_path)
    assert read == {loop.__name__: {16}, report.__name__: {48}}
    assert load_classifier(tmp_path)[2].max_tokens == 48


def test_a_split_is_drawn_as_the_recipe_says(base: Path) -> None:
    words = ("card", "code", "box", "fee", "form", "note", "slip", "page")
    alike = {"login": [f"code {number} for the {word}" for word in words for number in range(4)]}
    groups = {"billing": DESK["billing"], **alike}

    def held(**changes: object) -> tuple[list[str], int]:
        recipe = recipe_for(base, "alike", groups, **changes)
        split = load_data(recipe, {"data": base, "recipe": base}, lambda _: None).splits["alike"]
        return [e.text for e in split.validation], split.report.near_across

    apart, across = held(validation=0.25)
    assert (len(apart), across) == (10, 0)
    assert held(validation=0.25, split="random")[1] > 0
    assert len(held(validation=0.5)[0]) == 20
    assert held(validation=0.25, seed=2)[0] != apart == held(validation=0.25)[0]


def test_another_seed_draws_other_heads_and_another_order(
    base: Path, tmp_path: Path, epochs: list[list[Batch]]
) -> None:
    heads = []
    data = load_data(recipe_for(base, "intent", DESK), {"data": base, "recipe": base}, lambda _: None)
    for number, seed in enumerate((1, 1, 2)):
        recipe = recipe_for(base, "intent", DESK, epochs=1, seed=seed)
        heads.append(new_classifier(recipe)[0].heads["intent"].weight)
        train_member(recipe, data, tmp_path / str(number), member=0, compute=CPU, say=lambda _: None)
    orders = [[batch.text.tolist() for batch in batches] for batches in epochs]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert orders[0] == orders[1] != orders[2]


def test_members_have_other_orders_and_their_mean_is_the_result(
    base: Path, tmp_path: Path, epochs: list[list[Batch]]
) -> None:
    run(recipe_for(base, "intent", DESK, epochs=1, members=2), base, tmp_path)
    one, other = ([batch.text.tolist() for batch in batches] for batches in epochs)
    assert one != other
    first, second, mean = (load_classifier(tmp_path / name)[0].state_dict() for name in ("member-0", "member-1", "."))
    assert not torch.equal(first["heads.intent.weight"], second["heads.intent.weight"])
    assert all(torch.allclose(mean[name], (first[name] + second[name]) / 2, atol=1e-7) for name in mean)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_heads_see_the_mean_of_all_tokens_or_the_first_one(pooling: str, base: Path, tmp_path: Path) -> None:
    recipe = recipe_for(base, "intent", DESK, pooling=pooling)
    classifier, tokenizer = new_classifier(recipe)
    save_classifier(classifier, tokenizer, layout_of(recipe), tmp_path)
    ids, mask = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    for model in (classifier.eval(), load_classifier(tmp_path)[0]):
        with torch.inference_mode():
            states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            seen = model.pooled(ids, mask)
        wanted = states[:, 0] if pooling == "cls" else torch.stack([states[0].mean(0), states[1, :3].mean(0)])
        assert torch.allclose(seen, wanted, atol=1e-6)


def test_a_model_reads_texts_by_the_rules_of_its_recipe(base: Path) -> None:
    for rules in ({"cashtags": "generic", "vocabulary": "western"}, {"urls": "keep", "html_entities": False}):
        recipe = recipe_for(base, "intent", DESK, normalisation=rules)
        built = build_tokenizer(base, recipe.normalisation)
        classifier, tokenizer = new_classifier(recipe)
        assert tokenizer == built.json
        assert (
            classifier.encoder.get_input_embeddings().num_embeddings == Tokenizer.from_str(tokenizer).get_vocab_size()
        )
    assert build_tokenizer(base, recipe_for(base, "intent", DESK).normalisation).json != built.json


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Classifier]]:
    """The recipes of fits that are asked for from now on, and what these begin with; none of them is made."""
    asked: list[tuple[Recipe, Classifier]] = []

    def noted(recipe: Recipe, data: object, directory: Path, classifier: Classifier, *_: object, **__: object) -> None:
        asked.append((recipe, classifier))

    for module in (loop, distillation):
        monkeypatch.setattr(module, "fit", noted)
    return asked


def test_a_student_and_rounding_have_their_own_epochs_and_multiply_rates(
    base: Path, tmp_path: Path, fitted: list[tuple[Recipe, Classifier]]
) -> None:
    rates = {"rate": 2e-3, "head_rate": 5e-3, "weight_decay": 0.3}
    recipe = recipe_for(base, "intent", DESK, epochs=7, optimiser=rates, lora={}, head_dropout=0.25)
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    options: dict[str, Any] = {"compute": CPU, "say": lambda _: None, "loss": None}
    begun = write_untrained(recipe_for(base, "intent", DESK, seed=5), tmp_path)
    for start in ("average", "base"):
        settings = Distillation(epochs=4, rate=0.5, start=start)
        distil(recipe, settings, data, tmp_path, start=begun, **options)
    fit_quantised(recipe, Quantisation(epochs=2, rate=0.1), data, tmp_path, start=begun, **options)
    expected = recipe.optimiser
    for (found, classifier), number, factor in zip(fitted, (4, 4, 2), (0.5, 0.5, 0.1), strict=True):
        assert found.epochs == number
        assert found.optimiser.rate == pytest.approx(2e-3 * factor)
        assert found.optimiser.head_rate == pytest.approx(5e-3 * factor)
        assert msgspec.structs.replace(found.optimiser, rate=2e-3, head_rate=5e-3) == expected
        assert classifier.dropout.p == 0.25
    assert [found.lora is None for found, _ in fitted] == [False, False, True]
    heads = [classifier.heads["intent"].weight for _, classifier in fitted]
    mean, fresh = load_classifier(begun)[0].heads["intent"].weight, new_classifier(recipe)[0].heads["intent"].weight
    assert torch.equal(heads[0], mean) and torch.equal(heads[1], fresh) and not torch.equal(mean, fresh)


def test_a_teacher_learns_by_its_own_keys_and_goes_without_what_is_for_its_student(base: Path) -> None:
    optimiser = Optimiser(kind="sgd", rate=0.3, momentum=0.5)
    own = Teacher(
        base="somewhere",
        base_revision="main",
        base_sha256="0" * 64,
        base_licence="MIT",
        base_origin="a large model",
        members=3,
        epochs=9,
        batch=17,
        dropout=0.4,
        pooling="cls",
        optimiser=optimiser,
        freeze=Freeze(embeddings=True, layers=1),
    )
    plain = Teacher(base="")
    assert all(getattr(own, key) != getattr(plain, key) for key in own.__struct_fields__)
    students = {"lora": {}, "quantisation": {}, "feed_forward": 64, "patience": 3}
    shared = {"seed": 4, "augmentation": {"typos": 0.5}, "label_smoothing": 0.1, "train_tokens": 24}
    rules = {"vocabulary": "western", "cashtags": "generic"}
    recipe = recipe_for(base, "intent", DESK, **students, **shared, normalisation=rules, distillation={})
    found = larger(recipe, own)
    assert all(getattr(found, key) == getattr(own, key) for key in own.__struct_fields__)
    assert (found.lora, found.quantisation, found.feed_forward, found.patience) == (None, None, None, 0)
    assert found.normalisation == msgspec.structs.replace(recipe.normalisation, vocabulary="full")
    same = set(recipe.__struct_fields__) - {*own.__struct_fields__, *students, "normalisation", "distillation"}
    assert all(getattr(found, key) == getattr(recipe, key) for key in same)
