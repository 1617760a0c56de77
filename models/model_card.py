"""The model card of a bundle, in Markdown, made from its manifest so that the two cannot disagree.

The sections follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.bundle import Manifest, ParentModel


def render_model_card(manifest: Manifest) -> str:
    """The card's text. Sections without anything to say are left out."""
    parts = [f"# {manifest.name} {manifest.version}"]
    if manifest.description:
        parts.append(manifest.description)
    parts.append(_details(manifest))
    parts.append("## Tasks\n\n" + _table(("task", "labels", "temperature", "exponent"), _task_rows(manifest)))
    if manifest.data:
        rows = [(d.name, d.use, str(d.rows), d.licence, d.source) for d in manifest.data]
        parts.append("## Data\n\n" + _table(("data", "used for", "rows", "licence", "source"), rows))
    if manifest.metrics:
        parts.append("## Measured\n\n" + _table(METRIC_HEADS, _metric_rows(manifest)))
    scored = manifest.word_scores
    if scored:
        parts.append(
            f"## Words\n\nThe graph also scores the words that make a text {scored.label}, in the same pass. On texts "
            f"that this was not fitted to, taking out the three heaviest words lowers the probability of "
            f"{scored.label} by {scored.drop:.2f} on average, taking out three others by {scored.drop_others:.2f}."
        )
    if manifest.limitations:
        parts.append("## Limitations\n\n" + manifest.limitations)
    return "\n\n".join(parts) + "\n"


METRIC_HEADS = ("data", "task", "rows", "accuracy", "macro F1", "calibration error (ECE)")


def _details(manifest: Manifest) -> str:
    parent = manifest.parent
    lines = [
        ("Languages", ", ".join(manifest.languages)),
        ("Precision", manifest.precision),
        ("Longest text", f"{manifest.max_tokens} tokens"),
        ("Licence", manifest.licence),
        ("Fine-tuned from", _parent(parent) if parent else ""),
        ("Recipe", manifest.recipe),
        ("Created", manifest.created),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in lines if value)


def _parent(parent: ParentModel) -> str:
    licence = f"({parent.licence})" if parent.licence else ""
    source = parent.source if parent.source != parent.name else ""
    revision = f"revision {parent.revision}" if parent.revision else ""
    return " ".join(part for part in (parent.name, licence, source, revision) if part)


def _task_rows(manifest: Manifest) -> list[tuple[str, ...]]:
    return [
        (task.name, ", ".join(task.labels), f"{task.temperature:.4g}", f"{task.exponent:.4g}")
        for task in manifest.tasks
    ]


def _metric_rows(manifest: Manifest) -> list[tuple[str, ...]]:
    return [
        (
            m.data,
            m.task,
            str(m.rows),
            f"{m.accuracy:.4f}",
            f"{m.macro_f1:.4f}",
            _ece(m.ece),
        )
        for m in manifest.metrics
    ]


def _ece(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heads), line(("---",) * len(heads)), *map(line, rows)])
