"""A student that learns from what trained models say of every text, for every task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from models.probabilities import softmax
from models.training.compute import Compute
from models.training.loop import Data, Say, fit, paced, train_member, untrained
from models.training.losses import DistilledLoss, LossFunction
from models.training.measure import predict_logits
from models.training.network import load_classifier
from models.training.recipe import Distillation, Recipe, RecipeError, Teacher
from models.training.sources import Example

ANSWERS = "answers.safetensors"


def taught(
    recipe: Recipe,
    settings: Distillation,
    data: Data,
    directory: Path,
    *,
    teachers: Sequence[Path],
    compute: Compute,
    say: Say,
) -> DistilledLoss:
    """What a student of `teachers` (directories of finished models) minimises. Their answers are kept in `directory`,
    since asking takes long."""
    file = directory / ANSWERS
    if not file.is_file():
        say(f"asking {len(teachers)} teacher{'s' if len(teachers) > 1 else ''}")
        directory.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        save_file(ask(recipe, data, teachers, settings.temperature, compute), draft)
        draft.rename(file)
    answers = {name: probabilities.to(compute.device) for name, probabilities in load_file(file).items()}
    sources = [example.source for task in recipe.tasks for example in data.splits[task.name].train]
    rest = [0.0] * len(data.unlabelled)
    return DistilledLoss(
        LossFunction(recipe, data.splits),
        answers,
        settings,
        asked=torch.tensor([float(not source.student_only) for source in sources] + rest, device=compute.device),
        spread=torch.tensor([source.label_smoothing or 0.0 for source in sources] + rest, device=compute.device),
    )


def distil(
    recipe: Recipe,
    settings: Distillation,
    data: Data,
    directory: Path,
    *,
    loss: DistilledLoss,
    start: Path,
    compute: Compute,
    say: Say,
) -> None:
    """Fit a student that minimises `loss` and leave it in `directory`; `start` holds the members' average."""
    if settings.start == "average":
        classifier, tokenizer, _ = load_classifier(start)
        classifier.dropout.p = recipe.head_dropout
    else:
        classifier, tokenizer = untrained(recipe, data, compute)
    changed = paced(recipe, settings.epochs, settings.rate)
    fit(changed, data, directory, classifier, tokenizer, loss, recipe.members, compute, say)


def train_teacher(
    recipe: Recipe, settings: Teacher, data: Data, directory: Path, *, compute: Compute, say: Say
) -> None:
    """Train the larger model that `settings` describe on the recipe's texts and leave it in `directory`."""
    changes = {name: getattr(settings, name) for name in settings.__struct_fields__}
    whole = msgspec.structs.replace(recipe.normalisation, vocabulary="full")
    larger = msgspec.structs.replace(
        recipe, **changes, normalisation=whole, feed_forward=None, lora=None, distillation=None, patience=0
    )
    say(f"training the teacher, {settings.base}")
    train_member(larger, as_taught(data), directory, member=0, compute=compute, say=say)


def as_taught(data: Data) -> Data:
    """What a teacher learns from: not the texts for its student alone, and with the recipe's label smoothing."""

    def plain(example: Example) -> Example:
        return example._replace(source=msgspec.structs.replace(example.source, label_smoothing=None))

    return Data(
        {
            name: split._replace(train=[plain(e) for e in split.train if not e.source.student_only])
            for name, split in data.splits.items()
        }
    )


def ask(
    recipe: Recipe, data: Data, teachers: Sequence[Path], temperature: float, compute: Compute
) -> dict[str, Tensor]:
    """The teachers' joint probabilities, float32[texts, labels] per task: the softmax of their mean logits.

    Rows are `data.texts`. Raises RecipeError where a teacher is no
    finished model or answers other tasks.
    """
    texts = data.texts
    wanted = {task.name: task.labels for task in recipe.tasks}
    total = {name: np.zeros((len(texts), len(labels)), dtype=np.float64) for name, labels in wanted.items()}
    for teacher in teachers:
        try:
            classifier, tokenizer, layout = load_classifier(teacher)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
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
