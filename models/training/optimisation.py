"""Which weights move and how fast: parameter groups, frozen parts, schedule."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.training.network import Classifier
from models.training.quantised import LAYER
from models.training.recipe import Freeze, Lora, Optimiser, RecipeError

_ADALORA = "adalora."
_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
_NO_DECAY = re.compile(r"bias$|norm", re.IGNORECASE)


def freeze(classifier: Classifier, what: Freeze) -> None:
    """Stop the named parts from learning. RecipeError where the encoder has none, or no layers to tell apart."""
    layers, family = _layers(classifier), _family(classifier)
    if what.layers > layers:
        raise RecipeError(f"freeze.layers: {what.layers}, but the encoder has {layers} layers")
    names = [name for name, _ in classifier.encoder.named_parameters()]
    if what.layers and not any(LAYER.search(f".{name}") for name in names):
        raise RecipeError(
            f"freeze.layers: {family} layers share their weights or have no "
            "numbers, so the first of them cannot stand still alone"
        )
    if what.embeddings and not any(_depth(name, layers) == 0 for name in names):
        raise RecipeError(f"freeze.embeddings: no part of {family} is known as embeddings")
    for name, parameter in classifier.encoder.named_parameters():
        if _is_frozen(name, what, layers):
            parameter.requires_grad_(False)


def add_lora(classifier: Classifier, settings: Lora, frozen: Freeze) -> None:
    """Put low-rank adapters on the encoder but not on what is `frozen`; everything else of it stands still.

    Raises RecipeError where a target names no linear layer of the encoder, with the names that there are.
    """
    names = [name for name, part in classifier.encoder.named_modules() if isinstance(part, nn.Linear)]
    linear = {name.rpartition(".")[2] for name in names}
    unknown = [target for target in settings.targets if target.rpartition(".")[2] not in linear]
    if unknown:
        raise RecipeError(
            f"lora.targets: {', '.join(unknown)} name no linear layer of {_family(classifier)}, which has "
            f"{', '.join(sorted(linear))}"
        )
    layers = _layers(classifier)
    still = [name for name in names if "pooler" in name or _is_frozen(name, frozen, layers)]
    if all(name in still for name in names if any(f".{name}".endswith(f".{each}") for each in settings.targets)):
        raise RecipeError(f"lora: every layer that its targets name is frozen: {', '.join(settings.targets)}")
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    shared: dict[str, Any] = {
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
    }
    if still:
        shared["exclude_modules"] = still
    config: Any
    if settings.kind == "adalora":
        config = AdaLoraConfig(init_r=settings.rank * 2, target_r=settings.rank, total_step=1, **shared)
    else:
        config = LoraConfig(r=settings.rank, **shared)
    classifier.encoder = get_peft_model(classifier.encoder, config)


def pace_ranks(classifier: Classifier, done: int, total: int) -> None:
    """Let AdaLoRA take rank over the steps from a tenth to four fifths of `total`, of which `done` are made.

    To be told before the first step, and again wherever a run turns out longer or shorter; ranks that are settled stay.
    """
    adapted = _adalora(classifier)
    if adapted is not None:
        config = adapted.peft_config[adapted.trainable_adapter_name]
        settled = bool(config.rank_pattern) and not adapted.rankallocator.ipt
        end = 0 if settled else max(total - total // 5, done)
        config.total_step, config.tinit, config.tfinal = total, total // 10, total - end


def orthogonality(classifier: Classifier) -> Tensor | float:
    """What AdaLoRA adds to the loss to keep its factors orthogonal (Zhang et al. 2023, equation 4); 0 without it."""
    adapted = _adalora(classifier)
    if adapted is None:
        return 0.0
    distances = []
    for name, factor in adapted.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = factor @ factor.T if "lora_A" in name else factor.T @ factor
            distances.append(torch.norm(product - torch.eye(len(product), device=product.device)))
    weight = float(adapted.peft_config[adapted.trainable_adapter_name].orth_reg_weight)
    return weight * torch.stack(distances).mean()


def allocate_ranks(classifier: Classifier, step: int) -> None:
    """Let AdaLoRA take rank from where it helps least; between the optimiser's step and clearing gradients."""
    adapted = _adalora(classifier)
    if adapted is not None:
        adapted.update_and_allocate(step)


def adapter_state(classifier: Classifier) -> dict[str, Tensor]:
    """What AdaLoRA remembers between steps, beside its weights, for a checkpoint; empty without it."""
    adapted = _adalora(classifier)
    if adapted is None:
        return {}
    kept = {
        f"{_ADALORA}{field}:{name}": value.clone()
        for field in _AVERAGES
        for name, value in getattr(adapted.rankallocator, field).items()
    }
    pattern = adapted.peft_config[adapted.trainable_adapter_name].rank_pattern or {}
    return kept | {f"{_ADALORA}rank_pattern:{name}": torch.tensor(ranks) for name, ranks in pattern.items()}


def restore_adapter(classifier: Classifier, saved: dict[str, Tensor]) -> None:
    """Take what `adapter_state` gave out of `saved` and back to AdaLoRA."""
    adapted = _adalora(classifier)
    pattern: dict[str, list[bool]] = {}
    for key in [key for key in saved if key.startswith(_ADALORA)]:
        field, name = key.removeprefix(_ADALORA).split(":", 1)
        value = saved.pop(key)
        if adapted is not None and field == "rank_pattern":
            pattern[name] = value.tolist()
        elif adapted is not None:
            device = next(adapted.parameters()).device
            getattr(adapted.rankallocator, field)[name] = value.to(device)
    if adapted is not None and pattern:
        adapted.peft_config[adapted.trainable_adapter_name].rank_pattern = pattern


def _adalora(classifier: Classifier) -> Any:
    """peft's AdaLoRA model inside the classifier, or None."""
    found: Any = getattr(classifier.encoder, "base_model", None)
    return found if hasattr(found, "rankallocator") else None


def merge_lora(classifier: Classifier) -> None:
    """Fold adapters into the weights they adapt, so that the saved model is a plain one."""
    encoder: Any = classifier.encoder
    classifier.encoder = encoder.merge_and_unload()


def make_optimiser(classifier: Classifier, settings: Optimiser) -> Optimizer:
    """AdamW or SGD over groups: heads at `head_rate`, each encoder layer at its decayed `rate`."""
    layers = _layers(classifier)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.head_rate
        if name.startswith("encoder."):
            rate = settings.rate * settings.layer_decay ** (layers - _depth(name, layers))
        decay = 0.0 if _NO_DECAY.search(name) else settings.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    lists: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "full_rate": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    if settings.kind == "sgd":
        return torch.optim.SGD(lists, lr=settings.rate, momentum=settings.momentum)
    return torch.optim.AdamW(lists, lr=settings.rate, betas=(0.9, 0.98), fused=True)


def rate_factor(done: float, settings: Optimiser) -> float:
    """What the learning rates are multiplied with when the share `done` of a run is behind: up in `warmup`,
    then down."""
    if done < settings.warmup:
        return min(max(done, 1e-3) / settings.warmup, 1.0)
    left = (1.0 - done) / (1.0 - settings.warmup) if settings.warmup < 1.0 else 1.0
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "cosine":
        return 0.5 * (1.0 - math.cos(math.pi * left))
    return left


def set_rates(optimiser: Optimizer, factor: float) -> None:
    """Multiply every group's full rate with `factor`."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_rate"] * factor


def _layers(classifier: Classifier) -> int:
    config: Any = classifier.encoder.config
    return int(config.num_hidden_layers)


def _family(classifier: Classifier) -> str:
    """What transformers calls the kind of encoder: "bert", "modernbert"."""
    config: Any = classifier.encoder.config
    return str(config.model_type)


def _is_frozen(name: str, what: Freeze, layers: int) -> bool:
    depth = _depth(name, layers)
    return (depth == 0 and what.embeddings) or 0 < depth <= what.layers


def _depth(name: str, layers: int) -> int:
    """0 for embeddings, 1 to `layers` for the layers, `layers` for what comes after them."""
    found = LAYER.search(f".{name}")
    if found:
        return int(found.group(1)) + 1
    return 0 if "embed" in name else layers
