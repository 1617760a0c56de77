"""From a trained model to a bundle: traced, fused, quantised, compared with torch, calibrated, measured, hashed.

Nothing is left at the destination unless the graph says what torch says and treats the texts of a batch apart.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.bundle import (
    MANIFEST,
    MODEL,
    SENTIMENT_LABELS,
    TOKENIZER,
    Bundle,
    BundleError,
    Manifest,
    Task,
    unlisted,
    write_manifest,
)
from models.calibrate import by_halves, second_half, typo_copies
from models.calibration import EXPONENT_TEXTS, fit_calibration
from models.evaluate import as_metric, evaluate
from models.export_parity import Parity, check_parity
from models.export_source import Exportable, ExportError, open_source, plain_name
from models.int8 import Int8Error, to_int8
from models.onnx_fusion import fuse, plain_normalisations
from models.predictor import Predictor
from models.probabilities import Calibration, softmax
from models.quantise import quantise
from models.training.recipe import Recipe
from models.training.recipe_file import load_recipe
from models.training.run import calibrating, group_of, grouped, parent_of, public_file
from models.verify import verify_predictor
from models.word_scores_fit import add_word_scores, word_texts

Precision = Literal["fp32", "fp16", "int8"]
AGREEMENT = {"fp32": 1.0, "fp16": 0.995, "int8": 0.995}
LARGEST_FP32 = 1e-3
PARITY_TEXTS = 2560
ENOUGH_TEXTS = 200
"""Of fewer, one text with another label is more than what int8 and fp16 are allowed."""


class Exported(NamedTuple):
    """The bundle that was written, and how it compared with torch."""

    bundle: Bundle
    parity: Parity


def export(
    source: str,
    destination: Path,
    *,
    precision: Precision = "int8",
    name: str | None = None,
    version: str = "1.0.0",
    created: str = "",
    task: str | None = None,
    languages: Sequence[str] = (),
    licence: str = "",
    revision: str = "",
    before_rounding: bool = False,
    texts: list[str] | None = None,
    say: Callable[[str], None] = print,
) -> Exported:
    """Write the model at `source` (see `open_source`) as a bundle at `destination`, replacing a bundle there, or the
    one that a link there leads to.

    `texts` are what it is compared with torch on; without them, texts that the run held back, or the sentiment
    texts that ship with Bearwire, which are English. `languages` are those that a Hugging Face model reads, "en" where
    none is said; a run's recipe names its own. Raises ExportError where it disagrees with torch, where a text's logits
    depend on its batch, or where `destination` holds something else than a bundle and its files. `name` is what the
    bundle is called; without it, what the recipe, the Hugging Face id or the directory is.
    """
    destination = Path(os.path.realpath(destination)) if destination.is_symlink() else destination
    _check_destination(destination)
    plain_name("--version", version)
    if name is not None:
        plain_name("--name", name)
    model = open_source(
        source,
        task,
        revision=revision,
        licence=licence,
        rounded=precision == "int8",
        before_rounding=before_rounding,
    )
    model = model._replace(name=name or model.name)
    if not model.name:
        raise ExportError(f"{source} has no name that a bundle could have; give one with --name")
    if model.recipe is not None and languages:
        raise ExportError(f"{source} is a training run, whose recipe names its languages; leave --language out")
    if model.recipe is not None and task is not None:
        raise ExportError(f"{source} is a training run, whose recipe names its tasks; leave --task out")
    if model.recipe is not None and licence:
        raise ExportError(f"{source} is a training run, whose recipe names its licence; leave --licence out")
    read = model.recipe.languages if model.recipe else tuple(languages) or ("en",)
    if not model.held_back and not texts and "en" not in read:
        raise ExportError(
            f"there are no texts in {', '.join(read)} to compare the export on; give some with --texts FILE"
        )
    draft = _new_draft(destination)
    try:
        try:
            _write_graph(model, draft / MODEL, precision)
        except Int8Error as error:
            raise ExportError(f"{error}; export it with --precision fp32") from error
        (draft / TOKENIZER).write_text(model.tokenizer, encoding="utf-8")
        parity = check_parity(draft / MODEL, model, texts or parity_texts(model))
        say(
            f"against torch on {parity.texts} texts: same label {parity.agreement:.2%}, largest difference of a "
            f"logit {parity.largest_difference:.2g}; alone as in a batch: {parity.alone_equal} of {parity.alone}"
        )
        if parity.unrounded_agreement is not None:
            say(f"against torch with the same weights unrounded, in fp32: same label {parity.unrounded_agreement:.2%}")
        _refuse(parity, precision)
        if AGREEMENT[precision] < 1.0 and parity.texts < ENOUGH_TEXTS:
            say(
                f"{parity.texts} texts are few to tell {AGREEMENT[precision]:.1%} by, {ENOUGH_TEXTS} or more are "
                "better; give them with --texts FILE"
            )
        (draft / "NOTICE").write_text(_notice(model), encoding="utf-8")
        manifest = _manifest(model, precision, version, created, read)
        write_manifest(draft, manifest)
        bundle = write_manifest(draft, _calibrated(manifest, draft, model))
        if SENTIMENT_LABELS[0] in model.tasks.get("sentiment", ()):
            learnable = [row.text for row in model.held_back if row.use == "validation"]
            learnable += word_texts() if "en" in bundle.languages else []
            bundle = add_word_scores(bundle, learnable, task="sentiment", label=SENTIMENT_LABELS[0], say=say)
        _check_served(bundle)
        for metric in bundle.manifest.metrics:
            say(f"{metric.task} on {metric.data}: accuracy {metric.accuracy:.4f}, macro F1 {metric.macro_f1:.4f}")
        _check_destination(destination)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _replace(destination, draft)
    return Exported(Bundle.load(destination), parity)


def parity_texts(model: Exportable) -> list[str]:
    """Real texts to compare on, evenly from what there is."""
    texts = [row.text for row in model.held_back]
    texts = texts or word_texts()
    if not texts:
        raise ExportError("there are no texts to compare the export on; give some with --texts FILE")
    return texts[:: max(1, -(-len(texts) // PARITY_TEXTS))]


def _check_destination(destination: Path) -> None:
    """Raise ExportError where replacing `destination` would destroy anything but a bundle, or cannot be done."""
    if destination.is_mount():
        raise ExportError(f"{destination} is a mount point, which cannot be replaced; choose a directory inside it")
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return
    if not (destination / MANIFEST).is_file():
        raise ExportError(f"{destination} exists and is not a bundle; choose another directory")
    try:
        others = unlisted(destination)
    except BundleError as error:
        raise ExportError(f"{error}; or choose another directory than {destination}") from error
    if others:
        raise ExportError(
            f"{destination} holds more than the bundle that would be replaced: {', '.join(others)}; move "
            f"{'it' if len(others) == 1 else 'them'} away or choose another directory"
        )


def _new_draft(destination: Path) -> Path:
    """An empty directory beside `destination`, so that it can be put there by its name alone."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        place = destination.parent
        raise ExportError(f"{place} cannot be written to: {error.strerror}; choose another place") from error


def _write_graph(model: Exportable, file: Path, precision: Precision) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        traced = Path(scratch) / "traced.onnx"
        model.trace(traced)
        graph = fuse(traced, architecture=model.architecture, heads=model.heads, width=model.width)
    for name, order in model.order.items():
        _reorder(graph, model.outputs[name], order)
    if precision == "int8":
        graph = quantise(plain_normalisations(to_int8(graph, model.rounded)))
    elif precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        if all(entry.domain != "com.microsoft" for entry in graph.opset_import):
            graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        graph = convert_float_to_float16(graph, keep_io_types=True)
    onnx.save(graph, str(file))


def _reorder(model: Any, output: str, order: list[int]) -> None:
    """Put an output's columns in the order of the bundle's labels."""
    raw = f"{output}.as_trained"
    for node in model.graph.node:
        node.output[:] = [raw if name == output else name for name in node.output]
        node.input[:] = [raw if name == output else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array(order, dtype=np.int64), f"{output}.order"))
    model.graph.node.append(helper.make_node("Gather", [raw, f"{output}.order"], [output], axis=1))


def _refuse(parity: Parity, precision: Precision) -> None:
    if parity.agreement < AGREEMENT[precision]:
        raise ExportError(
            f"the {precision} graph gives another label than torch on {1 - parity.agreement:.2%} of "
            f"{parity.texts} texts, at most {1 - AGREEMENT[precision]:.1%} are allowed; try a higher precision"
        )
    if precision == "fp32" and parity.largest_difference > LARGEST_FP32:
        raise ExportError(
            f"the fp32 graph's logits differ from torch's by up to {parity.largest_difference:.2g}, "
            f"at most {LARGEST_FP32} is allowed"
        )
    if precision != "fp16" and parity.alone_equal < parity.alone:
        raise ExportError(
            f"{parity.alone - parity.alone_equal} of {parity.alone} texts score differently alone and in a batch; "
            "a bundle must treat the texts of a batch apart"
        )


def _check_served(bundle: Bundle) -> None:
    """Load the finished bundle as the daemon does; what would be refused there is refused here."""
    predictor = Predictor(bundle, cache_entries=0)
    predictor.warm_up()
    problems = verify_predictor(predictor)
    if problems:
        raise ExportError("; ".join(problems))


def _manifest(
    model: Exportable, precision: Precision, version: str, created: str, languages: tuple[str, ...]
) -> Manifest:
    recipe = model.recipe
    return Manifest(
        name=model.name,
        version=version,
        tasks=tuple(Task(name=name, labels=labels, output=model.outputs[name]) for name, labels in model.tasks.items()),
        max_tokens=model.max_tokens,
        languages=languages,
        precision=precision,
        description=recipe.description if recipe else "",
        licence=recipe.licence if recipe else model.parent.licence,
        limitations=recipe.limitations if recipe else "",
        recipe=_recipe_name(recipe) if recipe else "",
        created=created,
        parent=model.parent,
        data=model.data,
    )


def _recipe_name(recipe: Recipe) -> str:
    """What people find the recipe by: its file where Bearwire comes with it, else its name."""
    file = Path(__file__).parent / "recipes" / f"{recipe.name}.yaml"
    if file.is_file() and msgspec.structs.replace(load_recipe(file), search=None) == recipe:
        return f"models/recipes/{file.name}"
    return recipe.name


def _calibrated(manifest: Manifest, draft: Path, model: Exportable) -> Manifest:
    """The manifest with each task's calibration fitted on validation texts, and what the bundle reaches: on these each
    half under the calibration that was fitted on the other half, so that the calibration error is none of texts that
    the calibration knows."""
    groups = grouped(model.held_back)
    if not groups:
        return manifest
    predictor = Predictor(Bundle.load(draft), cache_entries=0)
    share = model.recipe.calibration_typos if model.recipe is not None else 0.0

    def logits_of(texts: list[str], task: str) -> NDArray[np.float32]:
        return np.log(np.maximum(predictor.predict(texts).of_all(task), 1e-30))

    said = {key: logits_of([row.text for row in rows], key[0]) for key, rows in groups.items()}
    truth = {key: np.array([row.label for row in rows], dtype=np.int64) for key, rows in groups.items()}
    tasks = []
    halved: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    for task in manifest.tasks:
        fitted = sorted({group_of(row) for row in calibrating(model.recipe, task.name, model.held_back)})
        calibration = Calibration()
        if fitted:
            texts = [row.text for key in fitted for row in groups[key]]
            copies = typo_copies(texts, share)
            logits = np.concatenate(
                [*(said[key] for key in fitted), *([logits_of(copies, task.name)] if copies else [])]
            )
            times = len(logits) // len(texts)
            answers = np.tile(np.concatenate([truth[key] for key in fitted]), times)
            calibration = fit_calibration(logits, answers, exponent_texts=EXPONENT_TEXTS * times)
            least = 0 if len(texts) >= EXPONENT_TEXTS else len(answers) + 1
            apart = by_halves(logits, answers, np.tile(second_half(texts), times), exponent_texts=least)
            ends = np.cumsum([len(groups[key]) for key in fitted])[:-1]
            halved.update(zip(fitted, np.split(apart[: len(texts)], ends), strict=True))
        tasks.append(msgspec.structs.replace(task, **calibration._asdict()))
    by_name = {task.name: task for task in tasks}
    metrics = []
    for key, logits in said.items():
        task = by_name[key[0]]
        stated = halved[key] if key in halved else softmax(logits, *task.calibration)
        result = evaluate(stated.astype(np.float32), truth[key], task=task.name, labels=task.labels)
        use = "held back" if key[1] == "validation" else "never trained on"
        if key in halved:
            use += "; calibrated on, by halves"
        metrics.append(as_metric(result, f"{public_file(key[2])} ({use})"))
    return msgspec.structs.replace(manifest, tasks=tuple(tasks), metrics=tuple(metrics))


def _notice(model: Exportable) -> str:
    lines = [model.name, ""]
    if model.parent.name:
        lines.append(f"Fine-tuned from {model.parent.name}{_under(model.parent.licence)}.")
    distillation = model.recipe.distillation if model.recipe else None
    if distillation is not None and distillation.teacher is not None:
        teacher = distillation.teacher
        lines.append(f"Taught by a model fine-tuned from {parent_of(teacher).name}{_under(teacher.base_licence)}.")
    learned = {(d.name, d.licence, d.source) for d in model.data if d.use != "measuring"}
    for name, licence, origin in sorted(learned):
        lines.append(f"Trained on {name}{f': {origin}' if origin else ''}{_under(licence)}.")
    for teacher_name, licence in sorted({(p.name, p.licence) for run in model.teachers for p in run.parents}):
        lines.append(f"Taught by a model fine-tuned from {teacher_name}{_under(licence)}.")
    taught = {
        (public_file(d.name), d.licence, d.source) for run in model.teachers for d in run.data if d.use != "measuring"
    }
    for name, licence, origin in sorted(taught - learned):
        lines.append(f"Taught by a model trained on {name}{f': {origin}' if origin else ''}{_under(licence)}.")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _under(licence: str) -> str:
    return f" ({licence} licence)" if licence else ""


def _replace(destination: Path, draft: Path) -> None:
    """Put the finished draft where the bundle belongs; the old bundle goes only once the new one is in its place.

    Where that fails, the old one is put back, the draft stays, and ExportError says where it is. A process that is
    killed in between leaves both beside `destination`, with names that begin with a dot.
    """
    old = draft.with_name(f"{draft.name}.old")
    try:
        draft.chmod(0o755)
        try:
            if destination.exists():
                destination.rename(old)
            draft.rename(destination)
        except BaseException:
            if old.exists() and not destination.exists():
                old.rename(destination)
            raise
    except OSError as error:
        raise ExportError(
            f"{destination} cannot be replaced: {error.strerror}; the finished bundle is in {draft}, move it from there"
        ) from error
    shutil.rmtree(old, ignore_errors=True)
