"""What can be exported: a training run, or a Hugging Face directory for sequence classification."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle import SENTIMENT_LABELS, BundleError, DataSource, ParentModel
from models.bundle import plain_name as checked_name
from models.int8 import Layer
from models.training.network import WEIGHTS, Classifier, base_directory, load_mean, positions
from models.training.quantised import plain_layers, quantised_layers
from models.training.recipe import Normalisation, Recipe, RecipeError
from models.training.run import (
    RECIPE,
    HeldBack,
    TeacherRun,
    is_finished,
    kept_recipe,
    members_of,
    parent_of,
    public_file,
    read_data,
    read_held_back,
    read_teachers,
    student_of,
)
from models.training.tokenisation import build_tokenizer

Reference = Callable[[NDArray[np.int64], NDArray[np.int64]], dict[str, NDArray[np.float32]]]
OPSET = 17
LONGEST = 512
"""Tokens of a text that a Hugging Face model reads at most in a bundle."""

_COMMIT = re.compile("[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class ExportError(Exception):
    """No bundle was written. The message says why and what to do."""


class Exportable(NamedTuple):
    """A model to export.

    `trace(file)` writes it as fp32 ONNX; `reference(ids, mask)` gives torch's logits per task; `order` per task
    says which of its logits belongs to each of `tasks`' labels, where the two differ. `rounded` are the layers that
    were trained to compute in 8 bits, as `reference` does, and `unrounded` computes with the same weights in full; none
    where it was not.
    """

    name: str
    tasks: dict[str, tuple[str, ...]]
    outputs: dict[str, str]
    order: dict[str, list[int]]
    tokenizer: str
    max_tokens: int
    architecture: str
    heads: int
    width: int
    trace: Callable[[Path], None]
    reference: Reference
    recipe: Recipe | None
    parent: ParentModel
    data: tuple[DataSource, ...]
    held_back: tuple[HeldBack, ...]
    rounded: tuple[Layer, ...] = ()
    unrounded: Reference | None = None
    teachers: tuple[TeacherRun, ...] = ()


def open_source(
    source: str,
    task: str | None,
    *,
    revision: str = "",
    licence: str = "",
    rounded: bool = False,
    before_rounding: bool = False,
) -> Exportable:
    """The model at `source`: a run's directory, a Hugging Face directory, or a Hugging Face id (downloaded at
    `revision`).

    `task` names the one task of a Hugging Face model, `licence` what it may be used under. A run that was trained to
    compute in 8 bits does so where it is to be `rounded`, else in full; `before_rounding` gives the model that it was
    before it learned to. Raises ExportError.
    """
    directory = Path(source)
    if revision and (directory.is_dir() or source.startswith("wheel:")):
        raise ExportError(f"--revision {revision}: {source} is no Hugging Face id, which alone has any; leave it out")
    if (directory / RECIPE).is_file():
        return _run(directory, rounded, before_rounding)
    if before_rounding:
        raise ExportError(f"--before-rounding: {source} is no training run; leave it out")
    if task is not None:
        plain_name("--task", task)
    try:
        directory = base_directory(source, revision)
    except RecipeError as error:
        raise ExportError(str(error)) from error
    if not (directory / "config.json").is_file():
        raise ExportError(f"{directory} is neither a training run ({RECIPE}) nor a model (config.json)")
    return _hugging_face(directory, source, task, licence)


def _run(directory: Path, rounded: bool, before_rounding: bool) -> Exportable:
    recipe = kept_recipe(directory / RECIPE)
    if not is_finished(directory):
        raise ExportError(f"{directory} is a training run that has not finished; run `bearwire models train` again")
    parts = [directory]
    if before_rounding:
        parts = _before_rounding(directory, recipe)
        recipe = msgspec.structs.replace(recipe, quantisation=None)
    classifier, tokenizer, layout = load_mean(parts)
    if not rounded:
        plain_layers(classifier.encoder)
    layers = quantised_layers(classifier.encoder)
    names = list(layout.tasks)

    def in_full() -> Classifier:
        plain, _, _ = load_mean(parts)
        plain_layers(plain.encoder)
        return plain

    def trace(file: Path) -> None:
        from optimum.exporters.onnx import export

        plain = _as_pretrained(in_full())
        export(plain, _heads_config(classifier.encoder.config, names), output=file, opset=OPSET)

    config: Any = classifier.encoder.config
    return Exportable(
        name=recipe.name,
        tasks=layout.tasks,
        outputs={name: name for name in names},
        order={},
        tokenizer=tokenizer,
        max_tokens=layout.max_tokens,
        architecture=config.model_type,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        trace=trace,
        reference=_reference(classifier),
        recipe=recipe,
        parent=parent_of(recipe),
        data=tuple(msgspec.structs.replace(source, name=public_file(source.name)) for source in read_data(directory)),
        held_back=read_held_back(directory),
        rounded=tuple(layers),
        unrounded=_reference(in_full()) if layers else None,
        teachers=read_teachers(directory),
    )


def _before_rounding(directory: Path, recipe: Recipe) -> list[Path]:
    """The models whose mean the last fit of the run in `directory` began to round; ExportError where there are none."""
    if recipe.quantisation is None:
        raise ExportError(f"--before-rounding: {directory} has not learned to round (`quantisation`); leave it out")
    parts = members_of(directory, recipe) if recipe.distillation is None else [student_of(directory)]
    gone = [str(part / WEIGHTS) for part in parts if not (part / WEIGHTS).is_file()]
    if gone:
        raise ExportError(f"--before-rounding: the run keeps no {', '.join(gone)} any more; train it again")
    return parts


def _reference(classifier: Classifier) -> Reference:
    def reference(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            logits = classifier(torch.from_numpy(ids), torch.from_numpy(mask))
        return {name: value.numpy() for name, value in logits.items()}

    return reference


def _as_pretrained(classifier: Any) -> Any:
    """The classifier with what optimum expects of a model: its configuration."""
    classifier.config = classifier.encoder.config
    return classifier.eval()


def _heads_config(config: Any, names: list[str]) -> Any:
    """How optimum is to export a text encoder with several heads: one output of logits per task."""
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig
    from optimum.utils import NormalizedTextConfig

    class HeadsOnnxConfig(TextEncoderOnnxConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {name: {0: "batch", 1: "seq"} for name in ("input_ids", "attention_mask")}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {name: {0: "batch"} for name in names}

    return HeadsOnnxConfig(config, task="text-classification")


def hub_origin(directory: Path, source: str) -> ParentModel:
    """Where a Hugging Face directory is from: its id and commit where it is a snapshot of the hub's, the id that its
    configuration names, or else its name."""
    place = directory.resolve()
    revision = place.name if _COMMIT.fullmatch(place.name) and place.parent.name == "snapshots" else ""
    repository = place.parents[1].name if revision else ""
    if not Path(source).is_dir():
        return ParentModel(name=source, licence="", source=source, revision=revision)
    if repository.startswith("models--"):
        name = repository.removeprefix("models--").replace("--", "/")
        return ParentModel(name=name, licence="", source=name, revision=revision)
    named = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("_name_or_path")
    return ParentModel(name=named if isinstance(named, str) and _HUB_ID.fullmatch(named) else place.name, licence="")


def _bundle_name(parent: ParentModel, source: str) -> str:
    """A name for the bundle like that of the directory or id; empty where it has no letter or digit of ASCII."""
    own = Path(source).resolve().name if Path(source).is_dir() and not parent.source else parent.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", own.rpartition("/")[2].rpartition(":")[2]).strip("._-")[:100]


def _hugging_face(directory: Path, source: str, task: str | None, licence: str) -> Exportable:
    if not any(directory.glob("*.safetensors")):
        other = "; or name a revision that has some (--revision), such as a pull request that converts them (refs/pr/N)"
        raise ExportError(
            f"{source} has no .safetensors weights; pickled ones are not loaded, since unpickling runs code. Where you "
            "trust it, convert it first, with transformers: AutoModelForSequenceClassification.from_pretrained("
            f"{source!r}).save_pretrained(DIR, safe_serialization=True), AutoTokenizer.from_pretrained({source!r})."
            f"save_pretrained(DIR); then export DIR{'' if Path(source).is_dir() else other}"
        )
    model = _classifier(directory)
    config = model.config
    written = [str(config.id2label[number]) for number in range(config.num_labels)]
    labels, order = _ordered(written)
    name = task or ("sentiment" if labels == SENTIMENT_LABELS else "label")
    parent = msgspec.structs.replace(hub_origin(directory, source), licence=licence)

    def trace(file: Path) -> None:
        from optimum.exporters.onnx import export
        from optimum.exporters.tasks import TasksManager

        make = TasksManager.get_exporter_config_constructor("onnx", model, task="text-classification")
        export(model, make(config), output=file, opset=OPSET)

    def reference(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        return {name: cast(NDArray[np.float32], logits.numpy()[:, order])}

    unchanged = Normalisation(html_entities=False, urls="keep")
    longest = positions(model) or int(getattr(config, "max_position_embeddings", LONGEST))
    return Exportable(
        name=_bundle_name(parent, source),
        tasks={name: labels},
        outputs={name: "logits"},
        order={name: order} if order != sorted(order) else {},
        tokenizer=build_tokenizer(directory, unchanged).json,
        max_tokens=min(longest, LONGEST),
        architecture=config.model_type,
        heads=int(getattr(config, "num_attention_heads", 0)),
        width=int(config.hidden_size),
        trace=trace,
        reference=reference,
        recipe=None,
        parent=parent,
        data=(),
        held_back=(),
    )


def _classifier(directory: Path) -> Any:
    """The classifier in a Hugging Face directory, in evaluation mode. ExportError where its answers would not be the
    softmax of what it was trained for: no trained head, one number, or several labels at once."""
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            directory,
            use_safetensors=True,
            attn_implementation="eager",
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ExportError(
            f"{directory} cannot be loaded (no pickle and no code of its own is): {type(error).__name__}: {error}"
        ) from error
    if loaded["missing_keys"]:
        raise ExportError(
            f"{directory} has no weights for {', '.join(sorted(loaded['missing_keys']))}, which would be random; "
            "export a model that was fine-tuned for classification, or train one with `bearwire models train`"
        )
    labels, kind = int(model.config.num_labels), model.config.problem_type
    if labels < 2 or kind not in (None, "single_label_classification"):
        raise ExportError(
            f"{directory} is a model of {labels} label{'s' if labels != 1 else ''} and problem type {kind}; a bundle's "
            "task chooses one of two labels or more, with probabilities that add up to 1"
        )
    return model.eval()


def plain_name(option: str, name: str) -> str:
    """`name`, where a manifest may hold it as a name or version; else ExportError."""
    try:
        return checked_name(option, name)
    except BundleError as error:
        raise ExportError(str(error)) from error


def _ordered(written: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Labels as a bundle names and orders them, and where each stands among the model's own."""
    lowered = [label.lower() for label in written]
    if sorted(lowered) == sorted(SENTIMENT_LABELS):
        return SENTIMENT_LABELS, [lowered.index(label) for label in SENTIMENT_LABELS]
    if len(set(written)) != len(written):
        raise ExportError(f"the model's labels are not distinct: {json.dumps(written)}")
    return tuple(written), list(range(len(written)))
