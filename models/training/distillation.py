"""A student that learns from what trained models say of every text, for every task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.probabilities import softmax
from models.training.compute import Compute
from models.training.loop import Data, Say, fit
from models.training.losses import DistilledLoss, LossFunction
from models.training.measure import predict_logits
from models.training.network import load_classifier, new_classifier
from models.training.recipe import Distillation, Recipe, RecipeError


def distil(
    recipe: Recipe,
    settings: Distillation,
    data: Data,
    directory: Path,
    *,
    teachers: Sequence[Path],
    start: Path,
    compute: Compute,
    say: Say,
) -> None:
    """Fit a student to `teachers` (directories of finished models) and leave it in `directory`."""
    say(f"asking {len(teachers)} teachers")
    answers = ask(recipe, data, teachers, settings.temperature, compute)
    answers = {name: probabilities.to(compute.device) for name, probabilities in answers.items()}
    if settings.start == "average":
        classifier, tokenizer, _ = load_classifier(start)
        classifier.dropout.p = recipe.head_dropout
    else:
        classifier, tokenizer = new_classifier(recipe)
    rates = {name: getattr(recipe.optimiser, name) * settings.rate for name in ("rate", "head_rate")}
    changed = msgspec.structs.replace(
        recipe, epochs=settings.epochs, optimiser=msgspec.structs.replace(recipe.optimiser, **rates)
    )
    loss = DistilledLoss(LossFunction(recipe, data.splits), answers, settings)
    fit(changed, data, directory, classifier, tokenizer, loss, recipe.members, compute, say)


def ask(
    recipe: Recipe, data: Data, teachers: Sequence[Path], temperature: float, compute: Compute
) -> dict[str, Tensor]:
    """The teachers' joint probabilities, float32[texts, labels] per task: the softmax of their mean logits.

    Rows are the training texts in the order of tasks and examples. Raises RecipeError where a teacher is no
    finished model or answers other tasks.
    """
    texts = [example.text for task in recipe.tasks for example in data.splits[task.name].train]
    wanted = {task.name: task.labels for task in recipe.tasks}
    total = {name: np.zeros((len(texts), len(labels)), dtype=np.float64) for name, labels in wanted.items()}
    for teacher in teachers:
        try:
            classifier, tokenizer, layout = load_classifier(teacher)
        except OSError as error:
            raise RecipeError(f"distillation.teachers: {teacher} is no finished model: {error}") from error
        if layout.tasks != wanted:
            raise RecipeError(f"distillation.teachers: {teacher} has other tasks or labels than the recipe")
        said = predict_logits(
            classifier,
            Tokenizer.from_str(tokenizer),
            texts,
            max_tokens=recipe.train_tokens,
            compute=compute,
        )
        for name, logits in said.items():
            total[name] += logits
    return {
        name: torch.from_numpy(softmax(logits / len(teachers), temperature).astype(np.float32))
        for name, logits in total.items()
    }
