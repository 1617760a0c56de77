"""A student that learns from what trained models say of every text, for every task."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, compress
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer

from models.probabilities import softmax
from models.training.answers import STEP, Answers, Origin, answers_to, read_answers, write_answers
from models.training.compute import Compute
from models.training.loop import Data, Say, fit, paced, train_member, untrained
from models.training.losses import DistilledLoss, LossFunction
from models.training.measure import predict_logits
from models.training.network import WEIGHTS, Classifier, load_classifier
from models.training.recipe import Distillation, Recipe, RecipeError, Teacher
from models.training.run import (
    RECIPE,
    TeacherRun,
    is_finished,
    parent_of,
    public_teacher,
    read_data,
    read_learned,
    read_teachers,
    student_of,
)
from models.training.sources import Example
from models.training.text_keys import keys_of


def taught(
    recipe: Recipe,
    settings: Distillation,
    data: Data,
    run: Path,
    *,
    teachers: Sequence[Path],
    compute: Compute,
    say: Say,
) -> tuple[DistilledLoss, Data]:
    """What the student of `run` minimises, and on which texts: unlabelled ones that no teacher answered are left out.

    `teachers` (directories of finished models) are asked where the run has no answers yet; what they say is kept
    there, since asking takes long.
    """
    file = answers_file(run)
    if not file.is_file():
        say(f"asking {len(teachers)} teacher{'s' if len(teachers) > 1 else ''}")
        said = ask(recipe, data, teachers, settings.temperature, compute)
        write_answers(file, answers_to(data.texts, said, _origin(recipe, settings, run)))
    said, known = read_answers(file).of(data.texts, settings.temperature)
    labelled = len(data.texts) - len(data.unlabelled)
    if not known.all():
        say(
            f"the teacher has answered {known[:labelled].sum()} of {labelled} texts, the others teach by their label "
            f"alone; and {known[labelled:].sum()} of {len(data.unlabelled)} variants, the others are left out"
        )
        kept = known | (np.arange(len(known)) < labelled)
        data = data._replace(unlabelled=tuple(compress(data.unlabelled, kept[labelled:])))
        said, known = {name: rows[kept] for name, rows in said.items()}, known[kept]
    sources = [example.source for task in recipe.tasks for example in data.splits[task.name].train]
    rest = [0.0] * len(data.unlabelled)
    loss = DistilledLoss(
        LossFunction(recipe, data.splits),
        {name: torch.from_numpy(probabilities).to(compute.device) for name, probabilities in said.items()},
        settings,
        answered=torch.from_numpy(known).float().to(compute.device),
        asked=torch.tensor([float(not source.student_only) for source in sources] + rest, device=compute.device),
        spread=torch.tensor([source.label_smoothing or 0.0 for source in sources] + rest, device=compute.device),
    )
    return loss, data


def answers_file(run: Path) -> Path:
    """Where a run keeps what its teacher said."""
    return student_of(run) / "answers.safetensors"


def own_answers(run: Path, say: Say) -> Answers | None:
    """The answers that a run has kept. Those that cannot be read are removed, so that the teacher is asked again."""
    file = answers_file(run)
    if not file.is_file():
        return None
    try:
        return read_answers(file)
    except RecipeError as error:
        say(f"{error}; the teacher is asked again")
        file.unlink()
        return None


def _origin(recipe: Recipe, settings: Distillation, run: Path) -> Origin:
    """Whose answers the teachers of `run` give."""
    models = read_teachers(run)
    if not settings.teachers:
        models = (TeacherRun(recipe.name, (parent_of(settings.teacher or recipe),), read_data(run)),)
    return Origin(
        labels=_wanted(recipe),
        temperature=settings.temperature,
        teacher=_placeless(settings.teacher),
        models=tuple(public_teacher(each) for each in models),
        step=STEP,
    )


def check_answers(recipe: Recipe, settings: Distillation, data: Data, answers: Answers, file: Path) -> None:
    """Raise RecipeError where a student of the recipe cannot learn from the answers in `file`, or had better not."""
    origin = answers.origin
    if origin.labels != _wanted(recipe):
        raise RecipeError(f"{file} has answers for other tasks or labels than the recipe")
    if settings.teacher is not None and origin.teacher != _placeless(settings.teacher):
        raise RecipeError(
            f"{file} has the answers of another teacher than the recipe describes under `distillation.teacher`; "
            "leave the answers out to train that one, or describe the one that gave them"
        )
    if not answers.of(data.texts, settings.temperature)[1].any():
        raise RecipeError(f"{file} has no answer to any of the texts to train on; are the data the ones it is for?")
    judges = _judges(data)
    learned = int(np.isin(keys_of(judges), answers.keys).sum())
    if learned:
        raise RecipeError(
            f"{file}: the teacher has learned {learned} of the {len(judges)} texts that would judge this run; keep the "
            "`seed`, `validation` and `split` of the run that asked it, and its data, and measure on no text of these"
        )


def _judges(data: Data) -> list[str]:
    """The texts that are validated or measured on, without those that the run learns itself; each once."""
    splits = data.splits.values()
    rows = chain.from_iterable(chain(split.validation, *split.measure.values()) for split in splits)
    return sorted({e.text for e in rows} - set(data.texts))


def _placeless(teacher: Teacher | None) -> Teacher | None:
    """The teacher with the last part of its base's name alone, which is the same wherever the base lies."""
    return msgspec.structs.replace(teacher, base=Path(teacher.base).name) if teacher is not None else None


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
    fit(changed, data, directory, classifier, tokenizer, loss, recipe.members, compute, say, called="student")


def teachers_of(run: Path, settings: Teacher) -> list[Path]:
    """Where a run keeps the teachers that it trains itself."""
    return [run / f"teacher-{number}" for number in range(settings.members)]


def train_teachers(recipe: Recipe, settings: Teacher, data: Data, run: Path, *, compute: Compute, say: Say) -> None:
    """Train the larger models that `settings` describe on the recipe's texts, but for those that `run` has already."""
    for number, directory in enumerate(teachers_of(run, settings)):
        if not (directory / WEIGHTS).is_file():
            called = f"teacher {number + 1} of {settings.members}" if settings.members > 1 else "teacher"
            say(f"training the {called}, {settings.base}")
            train_member(
                larger(recipe, settings),
                as_taught(data),
                directory,
                member=number,
                compute=compute,
                say=say,
                called=called,
            )


def larger(recipe: Recipe, settings: Teacher) -> Recipe:
    """The recipe that a teacher is trained by."""
    changes = {name: getattr(settings, name) for name in settings.__struct_fields__}
    whole = msgspec.structs.replace(recipe.normalisation, vocabulary="full")
    return msgspec.structs.replace(
        recipe,
        **changes,
        normalisation=whole,
        feed_forward=None,
        lora=None,
        distillation=None,
        quantisation=None,
        patience=0,
    )


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


def check_teachers(recipe: Recipe, teachers: Sequence[Path], data: Data, say: Say) -> None:
    """Raise RecipeError where one of `teachers` is no finished model, is a run that goes on, answers other tasks, or
    has learned texts that judge the student; `say` hears of one that does not tell what it has learned."""
    judges = _judges(data)
    with torch.random.fork_rng():
        for teacher in teachers:
            if (teacher / RECIPE).is_file() and not is_finished(teacher):
                raise RecipeError(
                    f"distillation.teachers: {teacher} is a training run that has not finished; "
                    "run `bearwire models train` on it again"
                )
            _open_teacher(recipe, teacher)
            known = read_learned(teacher)
            if known is None:
                say(
                    f"distillation.teachers: {teacher} does not tell which texts it has learned, so nobody knows "
                    "whether some of them judge this run; a run that is started again with its recipe and data tells "
                    "it from then on"
                )
            elif learned := int(np.isin(keys_of(judges), known).sum()):
                raise RecipeError(
                    f"distillation.teachers: {teacher} has learned {learned} of the {len(judges)} texts that would "
                    "judge this run; keep the `seed`, `validation` and `split` of that run, and its data, and measure "
                    "on no text of these"
                )


def _open_teacher(recipe: Recipe, directory: Path) -> tuple[Classifier, str]:
    try:
        classifier, tokenizer, layout = load_classifier(directory)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RecipeError(f"distillation.teachers: {directory} is no finished model: {error}") from error
    if layout.tasks != _wanted(recipe):
        raise RecipeError(f"distillation.teachers: {directory} has other tasks or labels than the recipe")
    return classifier, tokenizer


def _wanted(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    return {task.name: task.labels for task in recipe.tasks}


def ask(
    recipe: Recipe, data: Data, teachers: Sequence[Path], temperature: float, compute: Compute
) -> dict[str, NDArray[np.float32]]:
    """The teachers' joint probabilities, float32[texts, labels] per task: the softmax of their mean logits.

    Rows are `data.texts`. Raises RecipeError where a teacher is no finished model or answers other tasks.
    """
    texts = data.texts
    wanted = _wanted(recipe)
    total = {name: np.zeros((len(texts), len(labels)), dtype=np.float64) for name, labels in wanted.items()}
    for teacher in teachers:
        classifier, tokenizer = _open_teacher(recipe, teacher)
        said = predict_logits(
            classifier,
            Tokenizer.from_str(tokenizer),
            texts,
            max_tokens=recipe.train_tokens,
            compute=compute,
        )
        for name, logits in said.items():
            total[name] += logits
    return {name: softmax(logits / len(teachers), temperature).astype(np.float32) for name, logits in total.items()}
