"""Where a training run computes, and in which precision."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
from msgspec import Struct

from models.training.recipe import Recipe, RecipeError

FAST_BF16 = ("amx_bf16", "avx10_2", "bf16", "sve_bf16")
"""Capabilities, as `torch.cpu.get_capabilities` names them, with which a processor multiplies bf16 faster than fp32.

AVX512-BF16 is one on AMD's processors alone. Intel's without AMX, which a virtual machine may hide, gain nothing by it:
a step of the shipped bundle's recipe takes 1.5 times as long as in fp32 (docs/benchmarks.md).
"""


class Compute(NamedTuple):
    """`precision` is what matrix products are done in; weights, sums and what is saved are always fp32."""

    device: torch.device
    precision: Literal["bf16", "fp32"]
    why: str

    def autocast(self) -> Any:
        """A context in which the forward pass runs."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class Computed(Struct, frozen=True, kw_only=True):
    """What a run's report says of the machine: figures of two runs differ where this does."""

    device: str
    precision: str
    why: str
    torch: str
    threads: int


def choose_compute(recipe: Recipe) -> Compute:
    """What `device` and `precision` of a recipe mean on this machine. RecipeError for a GPU that is not there."""
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device: cuda, but torch finds no CUDA device; say `device: auto` or `cpu`")
    on_gpu = recipe.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if recipe.precision != "auto":
        return Compute(device, recipe.precision, "the recipe says so")
    if on_gpu:
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = has_fast_bf16(getattr(torch.cpu, "get_capabilities", dict)())
    holder = "GPU" if on_gpu else "processor"
    if fast:
        return Compute(device, "bf16", f"the {holder} multiplies bf16 faster than fp32")
    return Compute(device, "fp32", f"the {holder} multiplies bf16 no faster than fp32, or only emulates it")


def has_fast_bf16(capabilities: Mapping[str, object]) -> bool:
    """Whether a processor of these capabilities (`torch.cpu.get_capabilities`) multiplies bf16 faster than fp32."""
    if any(bool(capabilities.get(name)) for name in FAST_BF16):
        return True
    return bool(capabilities.get("avx512_bf16")) and "AMD" in str(capabilities.get("cpu_name"))


def computed(compute: Compute) -> Computed:
    """`compute` as a report has it."""
    return Computed(
        device=torch.cuda.get_device_name() if compute.device.type == "cuda" else "cpu",
        precision=compute.precision,
        why=compute.why,
        torch=str(torch.__version__),
        threads=torch.get_num_threads(),
    )
