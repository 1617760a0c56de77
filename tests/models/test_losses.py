"""What a step minimises, term by term: labels, a teacher's answers, and what each of them weighs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.training import needs_training

needs_training()

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from models.training.batches import Batch
from models.training.cleaning import clean_and_split
from models.training.losses import DistilledLoss, LossFunction
from models.training.recipe import Distillation
from models.training.recipe_file import parse_recipe
from models.training.sources import Example

pytestmark = pytest.mark.train

LABELS = {"intent": ["billing", "login"], "mood": ["calm", "cross", "angry"]}
LOGITS = {"intent": torch.tensor([[2.0, -1.0], [0.5, 0.0]]), "mood": torch.tensor([[0.0, 1.0, 3.0], [2.0, 0.0, -1.0]])}
ANSWERS = {"intent": torch.tensor([[0.6, 0.4], [0.1, 0.9]]), "mood": torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])}
TRUTH = torch.tensor([1, 2])
BATCH = Batch(
    ids=torch.zeros(2, 1, dtype=torch.int64),
    mask=torch.ones(2, 1, dtype=torch.int64),
    task=torch.tensor([0, 1]),
    label=TRUTH,
    text=torch.tensor([0, 1]),
    weight=torch.ones(2),
)
"""A text of each task, the first one's number being 0."""


def labels_alone(**weights: float) -> LossFunction:
    """The loss on labels of a recipe whose tasks have these weights."""
    source = {"path": "texts.csv"}
    tasks = [{"name": name, "labels": each, "sources": [source]} for name, each in LABELS.items()]
    weighed = [task | ({"weight": weights[task["name"]]} if task["name"] in weights else {}) for task in tasks]
    recipe = parse_recipe({"name": "desk", "base": "somewhere", "tasks": weighed})
    splits = {
        task.name: clean_and_split(task, [Example(f"of {task.name}", 0, task.sources[0])], validation=0.01, seed=1)
        for task in recipe.tasks
    }
    return LossFunction(recipe, splits)


def told(labels: LossFunction, **settings: Any) -> Tensor:
    """The loss of the two texts where a teacher has answered both."""
    ones = torch.ones(2)
    told = Distillation(**settings)
    return DistilledLoss(labels, ANSWERS, told, answered=ones, asked=ones, spread=0 * ones)(LOGITS, BATCH)


def distance(task: str, text: int, temperature: float) -> float:
    """Kullback and Leibler's between a teacher's answer and the student's, times the temperature squared."""
    said = log_softmax(LOGITS[task][text] / temperature, dim=0)
    return float(kl_div(said, ANSWERS[task][text], reduction="sum")) * temperature**2


def test_a_task_weighs_on_labels_what_its_recipe_says() -> None:
    plain, weighed = labels_alone()(LOGITS, BATCH), labels_alone(mood=3.0)(LOGITS, BATCH)
    wanted = [cross_entropy(LOGITS[task][at], TRUTH[at]) for at, task in enumerate(LABELS)]
    assert torch.allclose(plain, torch.stack(wanted))
    assert (weighed / plain).tolist() == pytest.approx([1.0, 3.0])


def test_a_task_weighs_on_a_teachers_answers_what_its_recipe_says() -> None:
    settings = {"weight": 1.0, "other_tasks": 0.5, "temperature": 2.0}
    weighed = told(labels_alone(mood=3.0), **settings)
    wanted = [
        distance("intent", 0, 2.0) + 0.5 * 3.0 * distance("mood", 0, 2.0),
        3.0 * distance("mood", 1, 2.0) + 0.5 * distance("intent", 1, 2.0),
    ]
    assert weighed.tolist() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("other_tasks", [0.0, 0.6])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_student_learns_from_labels_and_answers_in_the_shares_of_its_recipe(
    weight: float, other_tasks: float, temperature: float
) -> None:
    labels = labels_alone()
    found = told(labels, weight=weight, other_tasks=other_tasks, temperature=temperature)
    own, other = ("intent", "mood"), ("mood", "intent")
    wanted = [
        (1 - weight) * float(labels(LOGITS, BATCH)[at])
        + weight * distance(own[at], at, temperature)
        + other_tasks * distance(other[at], at, temperature)
        for at in range(2)
    ]
    assert found.tolist() == pytest.approx(wanted, rel=1e-4)


def test_balanced_labels_count_a_text_as_often_as_its_source_repeats() -> None:
    sources = [{"path": "often.csv", "repeat": 3}, {"path": "once.csv"}]
    task = {"name": "intent", "labels": LABELS["intent"], "sources": sources, "class_weights": "balanced"}
    recipe = parse_recipe({"name": "desk", "base": "somewhere", "tasks": [task]})
    often, once = recipe.tasks[0].sources
    rows = [("bill", 0, often), ("fee", 0, once), ("code", 1, once)]
    split = clean_and_split(recipe.tasks[0], [Example(*row) for row in rows], validation=0.01, seed=1)
    loss = LossFunction(recipe, {"intent": split})
    batch = BATCH._replace(task=torch.tensor([0, 0]), label=torch.tensor([0, 1]))
    each = loss({"intent": torch.zeros(2, 2)}, batch)
    assert float(each[1] / each[0]) == pytest.approx(4.0)
