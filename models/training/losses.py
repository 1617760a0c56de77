"""What a training step minimises: cross-entropy on labels, and where there is a teacher, closeness to its answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from models.training.batches import Batch
from models.training.cleaning import Split
from models.training.recipe import Distillation, Recipe


class LossFunction:
    """Cross-entropy with label smoothing; each text weighs its task's weight times its label's.

    `smoothing` float32[texts] is what the recipe or a text's source says, for every text to train on.
    """

    def __init__(self, recipe: Recipe, splits: Mapping[str, Split]) -> None:
        said = [e.source.label_smoothing for task in recipe.tasks for e in splits[task.name].train]
        self.smoothing = torch.tensor([recipe.label_smoothing if each is None else each for each in said])
        self.names = [task.name for task in recipe.tasks]
        self.shares = [task.weight for task in recipe.tasks]
        self.weights = [torch.full((len(task.labels),), task.weight) for task in recipe.tasks]
        for number, task in enumerate(recipe.tasks):
            if task.class_weights == "balanced":
                train = splits[task.name].train
                counts = np.bincount(
                    [e.label for e in train], weights=[e.source.repeat for e in train], minlength=len(task.labels)
                )
                balance = counts.sum() / np.maximum(counts, 1) / len(counts)
                self.weights[number] *= torch.from_numpy(balance).float()
            elif isinstance(task.class_weights, dict):
                own = [task.class_weights.get(label, 1.0) for label in task.labels]
                self.weights[number] *= torch.tensor(own)

    def __call__(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:
        """What each text adds to the batch's loss, float32[n]."""
        losses = torch.zeros(len(batch.task), device=batch.task.device)
        for number, name in enumerate(self.names):
            mine = batch.task == number
            if not bool(mine.any()):
                continue
            truth = batch.label[mine]
            own = logits[name][mine].float()
            smoothing = self.smoothing.to(own.device)[batch.text[mine]]
            each = cross_entropy(own, truth, reduction="none") * (1.0 - smoothing)
            each = each - log_softmax(own, dim=1).mean(1) * smoothing
            losses = losses.index_put((mine.nonzero()[:, 0],), each * self.weights[number].to(truth.device)[truth])
        return losses


class DistilledLoss:
    """Labels and a teacher's answers together (Hinton et al. 2015, arXiv:1503.02531).

    `answers` maps a task to the teacher's probabilities at `settings.temperature`, float32[texts, labels], for every
    text to train on, also those that another task brought: a text then teaches all heads. `answered` float32[texts] is
    0 for texts of which it said nothing. `asked` float32[texts] is 1 for texts whose own task the teacher is asked
    about, 0 for those whose label alone counts there; `spread` float32[texts] the share of its answers there that goes
    evenly to all labels.
    """

    def __init__(
        self,
        labels: LossFunction,
        answers: Mapping[str, Tensor],
        settings: Distillation,
        *,
        answered: Tensor,
        asked: Tensor,
        spread: Tensor,
    ) -> None:
        self.labels = labels
        self.answers = answers
        self.answered = answered
        self.asked = asked
        self.spread = spread
        self.settings = settings

    def __call__(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:
        """What each text adds to the batch's loss, float32[n]."""
        answered, temperature = self.answered[batch.text], self.settings.temperature
        share, elsewhere = (
            self.settings.weight * self.asked[batch.text] * answered,
            self.settings.other_tasks * answered,
        )
        total = (1.0 - share) * self.labels(logits, batch)
        for number, name in enumerate(self.labels.names):
            said = log_softmax(logits[name].float() / temperature, dim=1)
            own = (batch.task == number).float()
            spread = (self.spread[batch.text] * own)[:, None]
            wanted = self.answers[name][batch.text]
            wanted = wanted * (1.0 - spread) + spread / wanted.shape[1]
            distance = (torch.xlogy(wanted, wanted) - wanted * said).sum(1) * temperature**2
            total = total + distance * self.labels.shares[number] * (own * share + (1 - own) * elsewhere)
        return total
