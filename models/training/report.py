"""What a finished run is worth: report.json, a picture per task, and the mistakes worth reading."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.calibrate import typo_copies
from models.calibration import EXPONENT_TEXTS, fit_calibration
from models.evaluate import Evaluation, evaluate
from models.probabilities import Calibration, softmax
from models.training.compute import Compute, Computed, computed
from models.training.measure import predict_logits, report_table
from models.training.network import Classifier
from models.training.recipe import Recipe
from models.training.run import HeldBack, calibrating, finish_run, group_of, grouped

MISTAKES = 100
_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
)


class Reported(Struct, frozen=True, kw_only=True):
    """One data set under the calibration that the task's validation texts gave."""

    data: str
    use: str
    temperature: float
    exponent: float = 1.0
    result: Evaluation


class Report(Struct, frozen=True, kw_only=True):
    """The content of report.json: what the run was computed with, and a result per task and data set.

    `validation_only` are the tasks without a data set that is only measured: all results of theirs are of texts that
    early stopping, search and calibration look at.
    """

    computed: Computed
    results: tuple[Reported, ...]
    validation_only: tuple[str, ...] = ()


class Mistake(Struct, frozen=True, kw_only=True):
    """A text that the model is wrong about, and how sure it was."""

    task: str
    data: str
    text: str
    true: str
    said: str
    probability: float


def write_report(
    directory: Path,
    recipe: Recipe,
    classifier: Classifier,
    tokenizer: Tokenizer,
    rows: tuple[HeldBack, ...],
    compute: Compute,
    say: Callable[[str], None],
) -> list[Reported]:
    """Measure the run's result on what it held back; writes mistakes.jsonl, report.json, and pictures: TASK.png of the
    texts that the calibration is fitted on, and TASK-DATA.png of each data set that is only measured."""
    groups = grouped(rows)
    exact = compute._replace(precision="fp32")
    logits = {
        key: predict_logits(
            classifier, tokenizer, [r.text for r in group], max_tokens=recipe.max_tokens, compute=exact
        )[key[0]]
        for key, group in groups.items()
    }
    truth = {key: np.array([row.label for row in group], dtype=np.int64) for key, group in groups.items()}
    reported: list[Reported] = []
    mistakes: list[Mistake] = []
    for task in recipe.tasks:
        own = [key for key in groups if key[0] == task.name]
        fitted = sorted({group_of(row) for row in calibrating(recipe, task.name, rows)})
        calibration = Calibration()
        if fitted:
            answers = np.concatenate([truth[key] for key in fitted])
            texts = [row.text for key in fitted for row in groups[key]]
            known = np.concatenate([logits[key] for key in fitted])
            copies = typo_copies(texts, recipe.calibration_typos)
            if copies:
                noisy = predict_logits(classifier, tokenizer, copies, max_tokens=recipe.max_tokens, compute=exact)
                known = np.concatenate([known, noisy[task.name]])
            times = len(known) // len(texts)
            calibration = fit_calibration(known, np.tile(answers, times), exponent_texts=EXPONENT_TEXTS * times)
        for key in own:
            probabilities = softmax(logits[key], *calibration).astype(np.float32)
            result = evaluate(probabilities, truth[key], task=task.name, labels=task.labels)
            reported.append(Reported(data=key[2], use=key[1], **calibration._asdict(), result=result))
            say(f"{task.name} on {key[2]} ({key[1]})\n{report_table(result)}")
            mistakes += _mistakes(task.labels, key[2], groups[key], probabilities)
            if key not in fitted:
                use = "" if key[1] == "measuring" else f"-{key[1]}"
                picture = directory / f"{task.name}-{_file_name(key[2])}{use}.png"
                draw_task(picture, f"{task.name} on {key[2]}", task.labels, probabilities, truth[key])
        if fitted:
            together = softmax(known[: len(answers)], *calibration)
            draw_task(directory / f"{task.name}.png", task.name, task.labels, together, answers)
    mistakes.sort(key=lambda mistake: -mistake.probability)
    (directory / "mistakes.jsonl").write_bytes(
        b"".join(msgspec.json.encode(mistake) + b"\n" for mistake in mistakes[:MISTAKES])
    )
    uses = {task.name: {each.use for each in reported if each.result.task == task.name} for task in recipe.tasks}
    alone = tuple(name for name, found in uses.items() if found == {"validation"})
    if alone:
        say(
            f"{', '.join(alone)}: reported on validation texts alone, which early stopping, search and calibration "
            "look at, so new texts may fare worse; give a source with `use: measure` for the final word"
        )
    finish_run(directory, Report(computed=computed(compute), results=tuple(reported), validation_only=alone))
    return reported


def _mistakes(
    labels: tuple[str, ...], data: str, rows: list[HeldBack], probabilities: NDArray[np.float32]
) -> list[Mistake]:
    said = probabilities.argmax(axis=1)
    return [
        Mistake(
            task=row.task,
            data=data,
            text=row.text,
            true=labels[row.label],
            said=labels[said[at]],
            probability=round(float(probabilities[at, said[at]]), 4),
        )
        for at, row in enumerate(rows)
        if said[at] != row.label
    ]


def _file_name(data: str) -> str:
    """The name of a data set, which may be a path or hold spaces, as a part of a file's name."""
    return re.sub(r"[^\w.]+", "-", data).strip("-.") or "data"


def draw_task(
    file: Path,
    name: str,
    labels: tuple[str, ...],
    probabilities: NDArray[np.float32] | NDArray[np.float64],
    truth: NDArray[np.int64],
) -> None:
    """A PNG with the confusion matrix (rows: truth, shares of the row) and the calibration curve.

    Labels in a script that no installed font has are shown as their numbers in the recipe, from 0.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fonts, drawable = _fonts((name, *labels))
    if not drawable:
        name, labels = "task", tuple(str(number) for number in range(len(labels)))
    with rc_context({"font.family": fonts}):
        said, size = probabilities.argmax(axis=1), len(labels)
        counts = np.bincount(truth * size + said, minlength=size * size).reshape(size, size)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        figure = Figure(figsize=(7 + 0.3 * size, 4 + 0.2 * size), layout="constrained")
        FigureCanvasAgg(figure)
        matrix: Any = figure.add_subplot(1, 2, 1)
        curve: Any = figure.add_subplot(1, 2, 2)
        matrix.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        matrix.set_xticks(range(size), labels, rotation=90)
        matrix.set_yticks(range(size), labels)
        matrix.set(title=f"{name}: said (across), true (down)")
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "black"
            matrix.text(column, row, counts[row, column], ha="center", va="center", color=ink, fontsize=7)
        confidence, right = probabilities.max(axis=1), (said == truth).astype(np.float64)
        place = np.minimum((confidence * 10).astype(np.int64), 9)
        filled = [at for at in range(10) if (place == at).any()]
        curve.plot([0, 1], [0, 1], color="grey", linewidth=1)
        curve.plot(
            [confidence[place == at].mean() for at in filled], [right[place == at].mean() for at in filled], marker="o"
        )
        curve.set(title="calibration", xlabel="stated probability", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
        figure.savefig(file, dpi=110)


def _fonts(texts: Sequence[str]) -> tuple[list[str], bool]:
    """Names of fonts to draw `texts` with, and whether these have every letter."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    installed = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _CHINESE_FONTS if font in installed)]
    known = {code for font in fonts for code in get_font(findfont(font)).get_charmap()}
    return fonts, all(ord(letter) in known for text in texts for letter in text)
