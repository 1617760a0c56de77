"""Linear layers that compute in training as they will in 8 bits, so that the model learns to live with it.

A layer's input is rounded to 256 steps of one fixed range, its weights to 127 steps of each output's own (7 bits: two
products of such a pair fit into the 16 bits in which processors without VNNI add them up). Nothing is scaled by what
the batch holds, so a text's result does not depend on its neighbours. Gradients pass through the rounding as if it
were not there (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv:1712.05877).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle

from models.int8 import INPUT_STEPS, WEIGHT_STEPS, Layer, affine
from models.quantise import is_stored, quantise_blocks
from models.training.batches import pad, pad_id, token_rows
from models.training.recipe import RecipeError

LAYER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")
"""In the dotted name of a parameter: the number of the encoder's layer that it is in."""

CALIBRATION_TEXTS = 512
SAMPLE = 1 << 18
CLIPS = np.linspace(0.3, 1.0, 36)


class _Seen(NamedTuple):
    """Of a layer's input: a sample, float32 arrays, and the least and the greatest number, or 0."""

    sample: list[NDArray[np.float32]]
    low: float
    high: float


class QuantisedLinear(nn.Module):
    """`forward(x)`, float[..., in], gives float[..., out] computed on rounded inputs and weights.

    `input_range` float32[2] is the lowest and the highest input that is not clipped. Out of training it computes in the
    whole numbers and with the steps of the graph that is exported: the next layer rounds what comes out, so that a last
    digit may become a whole step there.
    """

    input_range: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.register_buffer("input_range", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        x, weight = x.float(), self.weight.float()
        scale, zero = affine(*self.input_range.tolist())
        scales = weight.detach().abs().amax(dim=1).clamp(min=1e-6) / weight.new_tensor(WEIGHT_STEPS)
        with torch.autocast(x.device.type, enabled=False):  # bf16 would round what has just been rounded once more
            if self.training:
                rounded = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, INPUT_STEPS)
                zeros = torch.zeros_like(scales, dtype=torch.int32)
                weight = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -WEIGHT_STEPS, WEIGHT_STEPS)
                return linear(rounded, weight, self.bias)
            # A GPU would multiply by the reciprocal of a plain number, and round some inputs another way.
            rounded = ((x / x.new_tensor(scale)).round() + zero).clamp(0, INPUT_STEPS) - zero
            weight = (weight / scales[:, None]).round().clamp(-WEIGHT_STEPS, WEIGHT_STEPS)
            product = linear(rounded.double(), weight.double()).float() * (scales * scale)
            return product if self.bias is None else product + self.bias.float()


def quantise_layers(encoder: nn.Module) -> None:
    """Replace the linear layers inside the encoder's layers with quantised ones, whose ranges are not yet set."""
    for name, layer in _layers(encoder).items():
        _replace(encoder, name, QuantisedLinear(layer))


def plain_layers(encoder: nn.Module) -> None:
    """Undo `quantise_layers`: the same weights in ordinary layers."""
    for name, module in list(encoder.named_modules()):
        if isinstance(module, QuantisedLinear):
            outputs, inputs = module.weight.shape
            layer = nn.Linear(inputs, outputs, bias=module.bias is not None)
            layer.weight, layer.bias = module.weight, module.bias
            _replace(encoder, name, layer)


def quantised_layers(encoder: nn.Module) -> list[Layer]:
    """The quantised layers of an encoder, as an export needs them; none where it has none."""
    layers = []
    for module in encoder.modules():
        if isinstance(module, QuantisedLinear):
            low, high = module.input_range.tolist()
            layers.append(Layer(module.weight.detach().cpu().numpy(), low, high))
    return layers


def check_layers(encoder: nn.Module) -> None:
    """Raise RecipeError where `quantise_layers` would not do what it says: an encoder has no layers that are known, or
    one of them computes something else than a vector per token, once."""
    family = str(getattr(encoder.config, "model_type", "this encoder"))
    layers = _layers(encoder)
    if not layers:
        raise RecipeError(f"quantisation: no part of {family} is known as a layer, so there is nothing to round")
    seen: Counter[str] = Counter()

    def watch(name: str, layer: nn.Linear) -> RemovableHandle:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] += 1 if inputs[0].shape[:-1] == (2, 3) else 2

        return layer.register_forward_pre_hook(note)

    hooks = [watch(name, layer) for name, layer in layers.items()]
    ids = torch.ones((2, 3), dtype=torch.int64, device=next(encoder.parameters()).device)
    with torch.inference_mode():
        encoder(input_ids=ids, attention_mask=ids)
    for hook in hooks:
        hook.remove()
    for name in layers:
        if seen[name] != 1:
            raise RecipeError(
                f"quantisation: {name} of {family} is not used once for every token of a text, so it cannot be rounded "
                "in one range; leave `quantisation` out"
            )


def round_tables(encoder: nn.Module) -> None:
    """Give the encoder's tables outside its layers the values that an int8 bundle stores, and stop them from learning:
    embeddings, and what projects them.

    Layers that round what comes in are sensitive to the last digits of it, so they have to learn with these. A table
    that was rounded is stored without loss.
    """
    for name, module in encoder.named_modules():
        if not isinstance(module, nn.Embedding | nn.Linear) or LAYER.search(f".{name}"):
            continue
        axis = 1 if isinstance(module, nn.Embedding) else 0
        weight = module.weight
        table = weight.detach().cpu().numpy()
        table = table if axis else table.T
        if is_stored(table.shape, axis):
            numbers, scales = quantise_blocks(table, axis)
            stored = (numbers * scales.astype(np.float32)).reshape(table.shape)
            weight.data.copy_(torch.from_numpy(stored if axis else stored.T))
            weight.requires_grad_(False)


def set_ranges(
    classifier: nn.Module, tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int, device: torch.device
) -> None:
    """Quantise the layers of `classifier.encoder`, with the ranges that round what they see of `texts` best.

    Of every layer's input some hundred thousand numbers decide, padding left out; the range is from the least to the
    greatest of all, drawn in by the share that gives them the smallest mean squared error. Layers that share an input
    get the same range: of each batch the same numbers are drawn for all. They are seen in fp32, as they are exported.
    """
    encoder = cast(nn.Module, classifier.encoder)
    rows = sorted(token_rows(tokenizer, texts, max_tokens), key=len)
    filler = pad_id(tokenizer)
    batches = [pad(rows[at : at + 32], filler) for at in range(0, len(rows), 32)]
    seen = {name: _Seen([], 0.0, 0.0) for name in _layers(encoder)}
    share = -(-SAMPLE // len(batches))
    at, (_, mask) = 0, batches[0]

    def watch(layer: nn.Linear, name: str) -> RemovableHandle:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            numbers = inputs[0][mask.bool()].float().cpu().numpy().ravel()
            sample, low, high = seen[name]
            sample.append(numbers[np.random.default_rng(at).integers(len(numbers), size=share)])
            seen[name] = _Seen(sample, min(low, float(numbers.min())), max(high, float(numbers.max())))

        return layer.register_forward_pre_hook(note)

    hooks = [watch(layer, name) for name, layer in _layers(encoder).items()]
    classifier.to(device).eval()
    with torch.inference_mode():
        for at, (ids, mask) in enumerate(batches):  # noqa: B007 - the hooks read both
            classifier(ids.to(device), mask.to(device))
    for hook in hooks:
        hook.remove()
    quantise_layers(encoder)
    for name, (sample, low, high) in seen.items():
        layer = cast(QuantisedLinear, encoder.get_submodule(name))
        layer.input_range.copy_(torch.tensor(_best_range(np.concatenate(sample), low, high)))


def _layers(encoder: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers inside the encoder's layers; a pooler and the like is none of them."""
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and LAYER.search(f".{name}")
    }


def _replace(encoder: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(encoder.get_submodule(parent), own, module)


def _best_range(numbers: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    sample = numbers.astype(np.float64)

    def error(clip: float) -> float:
        scale, zero = affine(low * clip, high * clip)
        rounded = (np.clip(np.rint(sample / scale) + zero, 0, INPUT_STEPS) - zero) * scale
        return float(((rounded - sample) ** 2).mean())

    best = min(CLIPS.tolist(), key=error)
    return low * best, high * best
