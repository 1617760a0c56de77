"""Fine-tuning from a recipe: `train` runs it from data to a finished training run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer

from models.training.alone import alone
from models.training.answers import Answers, read_answers, same_answers, write_answers
from models.training.compute import Compute, choose_compute
from models.training.distillation import (
    answers_file,
    as_taught,
    check_answers,
    check_teachers,
    distil,
    larger,
    own_answers,
    taught,
    teachers_of,
    train_teachers,
)
from models.training.loop import Data, Loss, adapt, fit_quantised, layout_of, load_data, train_member, untrained
from models.training.losses import LossFunction
from models.training.network import WEIGHTS, load_classifier, load_mean, save_classifier
from models.training.quantised import check_layers
from models.training.recipe import Recipe, RecipeError
from models.training.report import Reported, write_report
from models.training.run import (
    begun_recipe,
    made_of,
    members_of,
    read_held_back,
    read_learned,
    record_learned,
    record_teachers,
    settled,
    student_of,
    write_run,
)
from models.training.variants import make_variants


def train(
    recipe: Recipe,
    directory: Path,
    *,
    data: Path,
    recipe_directory: Path,
    answers: Path | None = None,
    threads: int = 0,
    say: Callable[[str], None] = print,
) -> list[Reported]:
    """Train every member of `recipe` in `directory`, average them, distil where asked, measure the result.

    With `answers`, a file that an earlier run has kept, a student learns from them, and no teacher is trained or asked.
    A run that was killed goes on where it was: started again with the same recipe, it gives the same weights
    (on the same machine and threads). Raises RecipeError where `directory` holds a run of another recipe, or another
    process trains in it.
    """
    with alone(directory, "training run"):
        return _train(recipe, directory, data, recipe_directory, answers, threads, say)


def _train(
    recipe: Recipe,
    directory: Path,
    data: Path,
    recipe_directory: Path,
    answers: Path | None,
    threads: int,
    say: Callable[[str], None],
) -> list[Reported]:
    begun = begun_recipe(directory)
    recipe = settled(msgspec.structs.replace(recipe, search=None), begun)
    if begun is not None and begun != recipe:
        changed = [name for name in recipe.__struct_fields__ if getattr(recipe, name) != getattr(begun, name)]
        raise RecipeError(
            f"{directory} holds a run of another recipe; they differ in {', '.join(changed)}; choose another directory"
        )
    if threads:
        torch.set_num_threads(threads)
    compute = choose_compute(recipe)
    say(f"computing in {compute.precision} on {compute.device.type}: {compute.why}")
    read = load_data(recipe, {"data": data, "recipe": recipe_directory}, say)
    settings, student = recipe.distillation, student_of(directory)
    kept = own = own_answers(directory, say)
    if answers is not None:
        kept = _given(recipe, read, answers, own)
    told = kept is not None
    check(recipe, read, compute, directory, told=told)
    teachers = [data / teacher for teacher in settings.teachers] if settings is not None and not told else []
    check_teachers(recipe, teachers, read, say)
    write_run(directory, recipe, read.splits)
    learned = [known for known in map(read_learned, teachers) if known is not None]
    if answers is not None and kept is not None:
        learned.append(kept.keys)
    record_learned(directory, read.texts, learned)
    if own is None:
        record_teachers(directory, made_of(teachers) if kept is None else kept.origin.models)
    if kept is not None:
        write_answers(answers_file(directory), kept)
    members: list[Path] = []
    if _members_needed(recipe, told=told):
        lesson = as_taught(read) if _members_teach(recipe) else read
        members = members_of(directory, recipe)
        for number, member in enumerate(members):
            if not (member / WEIGHTS).is_file():
                train_member(recipe, lesson, member, member=number, compute=compute, say=say)
        average(members, directory, recipe)
    loss: Loss = LossFunction(recipe, read.splits)
    if settings is not None:
        if settings.teacher is not None and not told:
            train_teachers(recipe, settings.teacher, read, directory, compute=compute, say=say)
            teachers = teachers_of(directory, settings.teacher)
        if settings.variants:
            made = make_variants(read.texts, settings.variants, recipe.seed)
            read = read._replace(unlabelled=tuple(made))
        loss, read = taught(recipe, settings, read, directory, teachers=teachers or members, compute=compute, say=say)
        if not (student / WEIGHTS).is_file():
            distil(recipe, settings, read, student, loss=loss, start=directory, compute=compute, say=say)
        average([student], directory, recipe)
    if recipe.quantisation is not None:
        rounding = directory / "quantised"
        if not (rounding / WEIGHTS).is_file():
            fit_quantised(
                recipe, recipe.quantisation, read, rounding, start=directory, loss=loss, compute=compute, say=say
            )
        average([rounding], directory, recipe)
    classifier, tokenizer, _ = load_classifier(directory)
    rows = read_held_back(directory)
    return write_report(directory, recipe, classifier, Tokenizer.from_str(tokenizer), rows, compute, say)


def _given(recipe: Recipe, data: Data, file: Path, own: Answers | None) -> Answers:
    """The answers in a file that an earlier run has kept. Raises RecipeError where they are not for this run."""
    if recipe.distillation is None:
        raise RecipeError(f"{file}: only a recipe with `distillation` has a student that learns from answers")
    given = read_answers(file)
    check_answers(recipe, recipe.distillation, data, given, file)
    if own is not None and not same_answers(given, own):
        raise RecipeError(f"{file} has other answers than those that the run goes on with; choose another directory")
    return given


def check(recipe: Recipe, data: Data, compute: Compute, directory: Path, *, told: bool) -> None:
    """Raise RecipeError for what would only fail after hours, or do something else than the recipe says. `told`: the
    teacher's answers are there already."""
    for name, split in data.splits.items():
        if not split.train:
            raise RecipeError(f"task {name!r} has no text to train on left after cleaning")
    if recipe.patience and not any(split.validation for split in data.splits.values()):
        raise RecipeError(
            "patience: no text is held back to validate on, so no epoch is better than another; raise `validation`, "
            "add texts, or leave `patience` out"
        )
    teacher = recipe.distillation.teacher if recipe.distillation is not None and not told else None
    if teacher is not None or (_members_teach(recipe) and _members_needed(recipe, told=told)):
        for name, split in as_taught(data).splits.items():
            if not split.train:
                raise RecipeError(f"task {name!r} has no text that its teacher may train on: all are `student_only`")
    with torch.random.fork_rng():
        if _begins_at_base(recipe, directory, told=told):
            _check_base(recipe, data, compute)
        if teacher is None or all((each / WEIGHTS).is_file() for each in teachers_of(directory, teacher)):
            return
        try:
            _check_base(larger(recipe, teacher), as_taught(data), compute)
        except RecipeError as error:
            raise RecipeError(f"distillation.teacher: {error}") from error


def _begins_at_base(recipe: Recipe, directory: Path, *, told: bool) -> bool:
    """Whether a fit remains to be done in `directory` that begins at the recipe's base model."""
    settings = recipe.distillation
    remaining = members_of(directory, recipe) if _members_needed(recipe, told=told) else []
    if settings is not None and settings.start == "base":
        remaining.append(student_of(directory))
    return any(not (each / WEIGHTS).is_file() for each in remaining)


def _check_base(recipe: Recipe, data: Data, compute: Compute) -> None:
    """Raise RecipeError where no fit can begin at the recipe's base model."""
    classifier, _ = untrained(recipe, data, compute)
    if recipe.quantisation is not None:
        check_layers(classifier.encoder)
    adapt(classifier, recipe)


def _members_needed(recipe: Recipe, *, told: bool) -> bool:
    """Whether anything is still to learn from the members, begins at them, or is them."""
    settings = recipe.distillation
    return settings is None or settings.start == "average" or (_members_teach(recipe) and not told)


def _members_teach(recipe: Recipe) -> bool:
    """Whether a student learns from the members themselves."""
    settings = recipe.distillation
    return settings is not None and not (settings.teacher or settings.teachers)


def average(members: list[Path], directory: Path, recipe: Recipe) -> None:
    """Write the mean of the members' weights to `directory`."""
    classifier, tokenizer, _ = load_mean(members)
    save_classifier(classifier, tokenizer, layout_of(recipe), directory)
