"""A half-finished training run on disk: safetensors and JSON, nothing pickled, replaced in one rename."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer


class Progress(NamedTuple):
    """Where a run stands: the epoch it is in (from 0), steps done in it and before it, the best mean validation
    accuracy and its epoch."""

    epoch: int
    step: int
    steps_before: int
    best: float
    best_epoch: int


def save_checkpoint(
    directory: Path, model: nn.Module, optimiser: Optimizer, progress: Progress, losses: dict[str, Tensor]
) -> None:
    """Write what is needed to go on after a kill. A kill during the write leaves the previous one valid."""
    draft = directory.with_name(directory.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file({n: p.detach().contiguous().clone() for n, p in model.named_parameters()}, draft / "model.safetensors")
    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{number}.{name}"] = torch.as_tensor(value).clone()
    save_file(tensors, draft / "optimiser.safetensors")
    save_file(losses, draft / "losses.safetensors")
    (draft / "progress.json").write_text(json.dumps(progress._asdict()), encoding="utf-8")
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    draft.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    directory: Path, model: nn.Module, optimiser: Optimizer, losses: dict[str, Tensor]
) -> Progress | None:
    """Restore what `save_checkpoint` wrote; None where there is nothing to go on from."""
    old = directory.with_name(directory.name + ".old")
    if not directory.exists() and old.exists():
        old.rename(directory)
    if not (directory / "progress.json").is_file():
        return None
    model.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
    tensors = load_file(directory / "optimiser.safetensors")
    parameters = _parameters(optimiser)
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        parameter = parameters[int(number)]
        optimiser.state[parameter][key] = value.to(parameter.device)
    losses.update(load_file(directory / "losses.safetensors"))
    content = json.loads((directory / "progress.json").read_text(encoding="utf-8"))
    return Progress(**content)


def _parameters(optimiser: Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
