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
    """Cross-entropy with label smoothing; each text weighs its task's weight times its label's."""

    def __init__(self, recipe: Recipe, splits: Mapping[str, Split]) -> None:
        self.smoothing = recipe.label_smoothing
        self.names = [task.name for task in recipe.tasks]
        self.weights = [torch.full((len(task.labels),), task.weight) for task in recipe.tasks]
        for number, task in enumerate(recipe.tasks):
            if task.class_weights == "balanced":
                counts = np.array(list(splits[task.name].report.train.values()), dtype=np.float64)
                balance = counts.sum() / np.maximum(counts, 1) / len(counts)
                self.weights[number] *= torch.from_numpy(balance).float()

    def __call__(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:
        """What each text adds to the batch's loss, float32[n]."""
        losses = torch.zeros(len(batch.task), device=batch.task.device)
        for number, name in enumerate(self.names):
            mine = batch.task == number
            if not bool(mine.any()):
                continue
            truth = batch.label[mine]
            each = cross_entropy(logits[name][mine].float(), truth, reduction="none", label_smoothing=self.smoothing)
            losses = losses.index_put((mine.nonzero()[:, 0],), each * self.weights[number].to(truth.device)[truth])
        return losses


class DistilledLoss:
    """Labels and a teacher's answers together (Hinton et al. 2015, arXiv:1503.02531).

    `answers` maps a task to the teacher's probabilities at `settings.temperature`, float32[texts, labels], for every
    text to train on, also those that another task brought: a text then teaches all heads. `asked` float32[texts] is 1
    for texts whose own task the teacher is asked about, 0 for those whose label alone counts there.
    """

    def __init__(
        self, labels: LossFunction, answers: Mapping[str, Tensor], asked: Tensor, settings: Distillation
    ) -> None:
        self.labels = labels
        self.answers = answers
        self.asked = asked
        self.settings = settings

    def __call__(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:
        """What each text adds to the batch's loss, float32[n]."""
        share, temperature = self.settings.weight * self.asked[batch.text], self.settings.temperature
        total = (1.0 - share) * self.labels(logits, batch)
        for number, name in enumerate(self.labels.names):
            said = log_softmax(logits[name].float() / temperature, dim=1)
            wanted = self.answers[name][batch.text]
            distance = (torch.xlogy(wanted, wanted) - wanted * said).sum(1) * temperature**2
            own = (batch.task == number).float()
            total = total + distance * (own * share + (1.0 - own) * self.settings.other_tasks)
        return total
