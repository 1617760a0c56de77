"""How fast weights move: warm-up and decay, clipping, which weights decay, slower lower layers, and dropout."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.models.training import needs_training

needs_training()

import torch

from models.training import loop
from models.training.loop import adapt, load_data, train_member
from models.training.network import Classifier, load_classifier, new_classifier
from models.training.optimisation import add_lora, make_optimiser, merge_lora, rate_factor
from models.training.recipe import Freeze, Lora, Optimiser, Recipe
from tests.models.test_train import CPU, DESK, recipe_for
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    write_encoder(directory, [text for texts in DESK.values() for text in texts])
    return directory


def member(recipe: Recipe, base: Path, directory: Path) -> None:
    data = load_data(recipe, {"data": base, "recipe": base}, lambda _: None)
    train_member(recipe, data, directory, member=0, compute=CPU, say=lambda _: None)


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("linear", 0.5, 0.0), ("cosine", 0.5, 0.0), ("constant", 1.0, 1.0)]
)
def test_rates_rise_in_warm_up_and_fall_as_the_schedule_says(schedule: str, middle: float, end: float) -> None:
    settings = Optimiser(warmup=0.2, schedule=schedule)  # type: ignore[arg-type]
    rising = [rate_factor(share, settings) for share in (0.0, 0.05, 0.1, 0.2)]
    assert rising == pytest.approx([0.005, 0.25, 0.5, 1.0])
    assert rate_factor(0.6, settings) == pytest.approx(middle)
    assert rate_factor(1.0, settings) == pytest.approx(end)
    falling = [rate_factor(0.2 + 0.08 * step, settings) for step in range(11)]
    assert falling == sorted(falling, reverse=True)
    assert rate_factor(0.0, Optimiser(warmup=0.0, schedule=schedule)) == 1.0  # type: ignore[arg-type]
    assert rate_factor(1.0, Optimiser(warmup=1.0)) == 1.0


def test_a_cosine_falls_late_and_a_line_evenly() -> None:
    line, cosine = Optimiser(warmup=0.0), Optimiser(warmup=0.0, schedule="cosine")
    assert rate_factor(0.25, line) == pytest.approx(0.75)
    assert rate_factor(0.25, cosine) == pytest.approx(0.5 + 0.5 * 2**-0.5)


def test_a_run_gives_every_step_its_rate(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"rate": 1e-3, "head_rate": 4e-3, "warmup": 0.5}
    seen: list[tuple[float, float]] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW) -> None:
        rates = {group["lr"] for group in self.param_groups}
        seen.append((min(rates), max(rates)))
        step(self)

    monkeypatch.setattr(loop, "make_optimiser", lambda *arguments: _plain_adamw(*arguments, noted))
    member(recipe_for(base, "intent", DESK, epochs=2, batch=6, optimiser=settings), base, tmp_path)
    steps = len(seen)
    assert steps >= 6 and steps % 2 == 0
    factors = [rate_factor(at / steps, Optimiser(warmup=0.5)) for at in range(steps)]
    assert [low for low, _ in seen] == pytest.approx([1e-3 * factor for factor in factors])
    assert [high for _, high in seen] == pytest.approx([4e-3 * factor for factor in factors])
    assert max(factors) == 1.0 and factors[0] < factors[1] and factors[-1] < 1.0


def _plain_adamw(classifier: object, settings: Optimiser, step: object) -> torch.optim.Optimizer:
    optimiser = make_optimiser(classifier, settings)  # type: ignore[arg-type]
    optimiser.step = step.__get__(optimiser)  # type: ignore[attr-defined]
    return optimiser


@pytest.mark.parametrize("clip", [0.01, 0.02])
def test_a_step_is_no_longer_than_the_clipped_gradient(clip: float, base: Path, tmp_path: Path) -> None:
    settings = {"kind": "sgd", "rate": 1.0, "head_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    pace = {"warmup": 0.0, "schedule": "constant", "clip": clip}
    recipe = recipe_for(base, "intent", DESK, epochs=1, batch=64, optimiser={**settings, **pace})
    member(recipe, base, tmp_path)
    before, after = new_classifier(recipe)[0].state_dict(), load_classifier(tmp_path)[0].state_dict()
    moved = sum(float((after[name].double() - before[name].double()).square().sum()) for name in before) ** 0.5
    assert moved == pytest.approx(clip, rel=1e-3)


def test_weights_decay_but_neither_biases_nor_norms_do(base: Path) -> None:
    classifier, _ = new_classifier(recipe_for(base, "intent", DESK))
    optimiser = make_optimiser(classifier, Optimiser(weight_decay=0.3))
    decay = {id(parameter): group["weight_decay"] for group in optimiser.param_groups for parameter in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in classifier.named_parameters()}
    spared = {name for name, value in found.items() if value == 0.0}
    assert spared == {name for name in found if name.endswith("bias") or "LayerNorm" in name}
    assert {value for name, value in found.items() if name not in spared} == {0.3}
    assert {"heads.intent.weight", "encoder.embeddings.word_embeddings.weight"} <= set(found) - spared


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_lower_layers_learn_more_slowly_and_heads_at_their_own_rate(kind: str, base: Path) -> None:
    classifier, _ = new_classifier(recipe_for(base, "intent", DESK))
    settings = Optimiser(kind=kind, rate=1e-3, head_rate=7e-3, layer_decay=0.5)  # type: ignore[arg-type]
    optimiser = make_optimiser(classifier, settings)
    rates = {id(parameter): group["lr"] for group in optimiser.param_groups for parameter in group["params"]}
    wanted = {"heads.": 7e-3, ".pooler.": 1e-3, ".layer.1.": 1e-3, ".layer.0.": 5e-4, ".embeddings.": 2.5e-4}
    for name, parameter in classifier.named_parameters():
        (rate,) = [rate for part, rate in wanted.items() if part in name]
        assert rates[id(parameter)] == pytest.approx(rate), name


def test_a_student_of_the_average_has_the_recipes_dropout(base: Path, tmp_path: Path) -> None:
    changes = {"dropout": 0.3, "attention_dropout": 0.2, "head_dropout": 0.05}
    member(recipe_for(base, "intent", DESK, epochs=1, batch=64, **changes), base, tmp_path)
    encoder = load_classifier(tmp_path)[0].encoder
    rates = {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.3, 0.2}


def test_momentum_carries_a_step_into_the_next(base: Path) -> None:
    classifier, _ = new_classifier(recipe_for(base, "intent", DESK))
    settings = Optimiser(kind="sgd", head_rate=1.0, momentum=0.5, weight_decay=0.0)
    optimiser = make_optimiser(classifier, settings)
    bias = classifier.heads["intent"].bias
    places = [bias.detach().clone()]
    for _ in range(2):
        bias.grad = torch.ones_like(bias)
        optimiser.step()
        places.append(bias.detach().clone())
    steps = [float((now - before).mean()) for before, now in pairwise(places)]
    assert steps == pytest.approx([-1.0, -1.5])


def test_adapters_weigh_alpha_over_their_rank(base: Path) -> None:
    classifier, _ = new_classifier(recipe_for(base, "intent", DESK))
    add_lora(classifier, Lora(rank=2, alpha=6.0), Freeze())
    scales = {value for part in classifier.modules() for value in getattr(part, "scaling", {}).values()}
    assert scales == {3.0}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_dropout_of_adapters_falls_on_what_goes_into_them(share: float, base: Path) -> None:
    lora = {"rank": 2, "dropout": share}
    recipe = recipe_for(base, "intent", DESK, lora=lora, dropout=0.0, head_dropout=0.0)
    classifier, _ = new_classifier(recipe)
    adapt(classifier, recipe)
    for name, parameter in classifier.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ids = torch.tensor([[2, 9, 8, 7, 3]])
    said = [classifier.train()(ids, torch.ones_like(ids))["intent"] for _ in range(2)]
    assert torch.equal(*said) == (share == 0.0)


@pytest.mark.parametrize("kind", ["lora", "adalora"])
def test_with_adapters_nothing_else_of_the_encoder_learns(
    kind: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: dict[str, torch.Tensor] = {}

    def noted(classifier: Classifier) -> None:
        learned.update({name: value.clone() for name, value in classifier.state_dict().items()})
        merge_lora(classifier)

    monkeypatch.setattr(loop, "merge_lora", noted)
    lora = {"kind": kind, "rank": 2, "targets": ["query", "value"]}
    recipe = recipe_for(base, "intent", DESK, epochs=2, lora=lora, optimiser={"rate": 1e-2, "weight_decay": 0.1})
    member(recipe, base, tmp_path)
    before, after = new_classifier(recipe)[0].state_dict(), load_classifier(tmp_path)[0].state_dict()
    own = {name.replace("base_model.model.", "").replace("base_layer.", ""): value for name, value in learned.items()}
    heads = {name for name in before if name.startswith("heads.")}
    adapted = {name for name in before if name.endswith(("query.weight", "value.weight"))}
    assert heads == {name for name in before if not torch.equal(own[name], before[name])}
    assert heads | adapted == {name for name in before if not torch.equal(after[name], before[name])}
    adapters = {name.rpartition(".lora_")[0] for name in own if ".lora_" in name}
    assert len(adapted) == 4
    assert {f"{name}.weight" for name in adapters} == adapted


def test_steps_of_adamw_remember_as_much_as_is_said(base: Path) -> None:
    optimiser = make_optimiser(new_classifier(recipe_for(base, "intent", DESK))[0], Optimiser())
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.98)}
