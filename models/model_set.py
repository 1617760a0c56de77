"""One model for most texts and others for some languages, answering as one.

    texts, routes ─► the predictor of each route ─► probabilities in the columns of all labels, rows in input order

Every text is scored by the one predictor of its route, so its probabilities depend on the text and that bundle alone.
All run in the threads of the first, so that calls for several models take no more cores than for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import BundleError
from models.predictor import Predictor, PredictorStats
from models.probabilities import not_finite
from models.word_scores import Words


class Answer(NamedTuple):
    """`probabilities`: task to float32[n_texts, n_labels], rows that are not finite where a model overflows on a text,
    see `unscored`; `versions`: the id of the model of each route; `words`: per text those that made it negative,
    heaviest first, where its model scores words."""

    probabilities: dict[str, NDArray[np.float32]]
    versions: tuple[str, ...]
    words: Sequence[Words]

    def part(self, start: int, end: int) -> Answer:
        """The answer for the texts from `start` up to, not including, `end`."""
        rows = {task: table[start:end] for task, table in self.probabilities.items()}
        return Answer(rows, self.versions, self.words[start:end])

    @property
    def unscored(self) -> NDArray[np.bool_]:
        """bool[n_texts]: the texts whose probabilities are no numbers. What they say must go nowhere."""
        return not_finite(self.probabilities.values())

    def only(self, rows: NDArray[np.int64]) -> Answer:
        """The answer for some of the texts, by their number."""
        tables = {task: table[rows] for task, table in self.probabilities.items()}
        return Answer(tables, self.versions, [self.words[row] for row in rows.tolist()])

    @property
    def version_id(self) -> str:
        """What names all of the models together."""
        return joined_versions(self.versions)


def joined_versions(versions: Sequence[str]) -> str:
    """`a` of ("a",), `a + b` of ("a", "b"): the same for the same models in the same order."""
    return " + ".join(versions)


class ModelSet:
    """Predictors by route; route 0 is the default. `predict` may be called from several threads at once.

    `labels` maps a task to the labels of all predictors, in order of first appearance; a label that a model does not
    know has the probability 0 there. Raises BundleError where the bundles have different tasks, or sentiment labels
    of another kind or order than the default one.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        first = predictors[0]
        for other in predictors[1:]:
            if other.labels.keys() != first.labels.keys() or other.labels.get("sentiment") != first.labels.get(
                "sentiment"
            ):
                raise BundleError(
                    f"{other.version_id} has the tasks {_tasks(other)}, but {first.version_id} has {_tasks(first)}; "
                    "models side by side need the same tasks, and the same sentiment labels"
                )
        for other in predictors[1:]:
            other.share_threads(first)
        self.predictors = tuple(predictors)
        self.versions = tuple(predictor.version_id for predictor in predictors)
        self.version_id = joined_versions(self.versions)
        self.provider_in_use = first.provider_in_use
        self.labels = {
            task: tuple(dict.fromkeys(label for predictor in predictors for label in predictor.labels[task]))
            for task in first.labels
        }
        self._columns = [
            {
                task: np.array([self.labels[task].index(label) for label in labels], dtype=np.int64)
                for task, labels in predictor.labels.items()
            }
            for predictor in predictors
        ]

    @property
    def stats(self) -> PredictorStats:
        """The predictors' counters, added up."""
        return PredictorStats(
            **{
                field.name: sum(getattr(predictor.stats, field.name) for predictor in self.predictors)
                for field in fields(PredictorStats)
            }
        )

    def warm_up(self) -> None:
        """Run every model before the first text comes."""
        for predictor in self.predictors:
            predictor.warm_up()

    def predict(self, texts: Sequence[str], routes: NDArray[np.int32] | None = None) -> Answer:
        """Probabilities of any number of texts; `routes` int32[n_texts], all 0 where not given."""
        if len(self.predictors) == 1:
            predictions = self.predictors[0].predict(texts)
            return Answer(predictions.probabilities, self.versions, predictions.words)
        ways = np.zeros(len(texts), np.int32) if routes is None else routes
        whole = {task: np.zeros((len(texts), len(labels)), np.float32) for task, labels in self.labels.items()}
        words: list[Words] = [()] * len(texts)
        for route, predictor in enumerate(self.predictors):
            rows = np.flatnonzero(ways == route)
            if len(rows):
                part = predictor.predict([texts[row] for row in rows.tolist()])
                for task, columns in self._columns[route].items():
                    whole[task][np.ix_(rows, columns)] = part.probabilities[task]
                for row, of_text in zip(rows.tolist(), part.words, strict=True):
                    words[row] = of_text
        return Answer(whole, self.versions, words)

    def of_route(
        self, route: int, texts: Sequence[str], routes: NDArray[np.int32] | None, answer: Answer
    ) -> tuple[Sequence[str], dict[str, NDArray[np.float32]]]:
        """Those of `texts` that went to one route, and of the `answer` for all their rows in its model's labels."""
        if len(self.predictors) == 1:
            return texts, answer.probabilities
        rows = np.flatnonzero((np.zeros(len(texts), np.int32) if routes is None else routes) == route)
        columns = self._columns[route]
        return [texts[row] for row in rows.tolist()], {
            task: table[np.ix_(rows, columns[task])] for task, table in answer.probabilities.items()
        }


def _tasks(predictor: Predictor) -> str:
    return ", ".join(f"{task} {list(labels)}" for task, labels in predictor.labels.items())
