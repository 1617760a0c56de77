"""Which weights move and how fast: parameter groups, frozen parts, schedule."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch.optim import Optimizer

from models.training.network import Classifier
from models.training.recipe import Freeze, Lora, Optimiser, RecipeError

_LAYER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")
_NO_DECAY = re.compile(r"bias$|norm", re.IGNORECASE)


def freeze(classifier: Classifier, what: Freeze) -> None:
    """Stop the named parts from learning. RecipeError where that leaves no layer of the encoder to learn."""
    layers = int(classifier.encoder.config.num_hidden_layers)
    if what.layers > layers:
        raise RecipeError(f"freeze.layers: {what.layers}, but the encoder has {layers} layers")
    for name, parameter in classifier.encoder.named_parameters():
        depth = _depth(name, layers)
        if (depth == 0 and what.embeddings) or 0 < depth <= what.layers:
            parameter.requires_grad_(False)


def add_lora(classifier: Classifier, settings: Lora, steps: int) -> None:
    """Put low-rank adapters on the encoder; everything else of it stands still."""
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    shared: dict[str, Any] = {
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
    }
    config: Any
    if settings.kind == "adalora":
        config = AdaLoraConfig(
            init_r=settings.rank * 2,
            target_r=settings.rank,
            total_step=max(steps, 3),
            tinit=steps // 10,
            tfinal=steps // 5,
            **shared,
        )
    else:
        config = LoraConfig(r=settings.rank, **shared)
    classifier.encoder = get_peft_model(classifier.encoder, config)


def merge_lora(classifier: Classifier) -> None:
    """Fold adapters into the weights they adapt, so that the saved model is a plain one."""
    encoder: Any = classifier.encoder
    classifier.encoder = encoder.merge_and_unload()


def make_optimiser(classifier: Classifier, settings: Optimiser) -> Optimizer:
    """AdamW or SGD over groups: heads at `head_rate`, each encoder layer at its decayed `rate`."""
    layers = int(classifier.encoder.config.num_hidden_layers)
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
        return max(done, 1e-3) / settings.warmup
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


def _depth(name: str, layers: int) -> int:
    """0 for embeddings, 1 to `layers` for the layers, `layers` for what comes after them."""
    found = _LAYER.search(name)
    if found:
        return int(found.group(1)) + 1
    return 0 if "embed" in name else layers
