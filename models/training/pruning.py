"""Narrower feed-forward layers: the neurons that matter least go before training, which mends what little is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.training.batches import pad, pad_id, token_rows
from models.training.network import Classifier
from models.training.quantised import LAYER
from models.training.recipe import RecipeError

TEXTS = 512
WIDTHS = ("intermediate_size", "hidden_dim", "ffn_dim")
"""What configurations of transformers call the width of the feed-forward layers."""


class _FeedForward(NamedTuple):
    """The two linear layers around an activation: `up` to its width and `down` from it."""

    up: nn.Linear
    down: nn.Linear


def narrow_feed_forward(
    classifier: Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    width: int,
    max_tokens: int,
    device: torch.device,
) -> None:
    """Keep `width` neurons in the feed-forward part of every layer of the encoder.

    Kept are those of the greatest root mean square activation on `texts`, times the norm of the weights that lead on
    from it (the measure of Sun et al. 2023, arXiv:2306.11695, for whole neurons). Raises RecipeError where the encoder
    has no such layers or they are narrower already.
    """
    config: Any = classifier.encoder.config
    key = next((key for key in WIDTHS if hasattr(config, key)), WIDTHS[0])
    full = int(getattr(config, key, 0))
    if not width <= full:
        raise RecipeError(f"feed_forward: {width}, but the base model's feed-forward layers are {full} wide")
    found = _feed_forwards(classifier.encoder, full)
    squares = [torch.zeros(full, dtype=torch.float64) for _ in found]
    mask = torch.zeros(0)

    def note(number: int) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            squares[number] += inputs[0][mask.bool()].double().square().sum(0).cpu()

        return found[number].down.register_forward_pre_hook(hook)

    hooks = [note(number) for number in range(len(found))]
    rows = sorted(token_rows(tokenizer, texts, max_tokens), key=len)
    was_training = classifier.training
    classifier.to(device).eval()
    with torch.inference_mode():
        for at in range(0, len(rows), 32):
            ids, mask = pad(rows[at : at + 32], pad_id(tokenizer))
            classifier(ids.to(device), mask.to(device))
    for handle in hooks:
        cast(torch.utils.hooks.RemovableHandle, handle).remove()
    classifier.train(was_training)
    for part, activity in zip(found, squares, strict=True):
        leading = part.down.weight.detach().double().norm(dim=0).cpu()
        kept = torch.topk(activity.sqrt() * leading, width).indices.sort().values.to(device)
        part.up.weight.data = part.up.weight.data[kept].clone()
        part.up.bias.data = part.up.bias.data[kept].clone()
        part.down.weight.data = part.down.weight.data[:, kept].clone()
        part.up.out_features = part.down.in_features = width
    setattr(config, key, width)


def _feed_forwards(encoder: nn.Module, width: int) -> list[_FeedForward]:
    """One per layer. Raises RecipeError where a layer has not just one pair of linear layers of that width."""
    layers: dict[int, list[nn.Linear]] = {}
    for name, module in encoder.named_modules():
        place = LAYER.search(f".{name}")
        if place and isinstance(module, nn.Linear) and width in (module.out_features, module.in_features):
            layers.setdefault(int(place.group(1)), []).append(module)
    parts = []
    for number, pair in sorted(layers.items()):
        if len(pair) != 2 or pair[0].out_features != width or pair[1].in_features != width:
            raise RecipeError(f"feed_forward: layer {number} of the base model has no feed-forward part that is known")
        parts.append(_FeedForward(*pair))
    if not parts:
        raise RecipeError("feed_forward: the base model has no feed-forward layers that are known")
    return parts
