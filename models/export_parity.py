"""Is an exported graph the model it came from, and does it treat the texts of a batch apart?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.export_source import Exportable, ExportError
from models.training.batches import pad, pad_id, token_rows

BATCH = 24
ALONE_TEXTS = 512


class Parity(Struct, frozen=True, kw_only=True):
    """What comparing found. `agreement` is the share of texts with torch's label, of the task where it is lowest;
    `unrounded_agreement` that with the label of the same weights in fp32, where torch rounds as the graph does;
    `alone_equal` of `alone` texts have the same logits, to the bit, alone and in their batch."""

    texts: int
    largest_difference: float
    agreement: float
    unrounded_agreement: float | None = None
    alone: int
    alone_equal: int


def check_parity(model: Path, source: Exportable, texts: Sequence[str]) -> Parity:
    """Compare the ONNX file with torch, and texts alone with the same texts in their batch, on real texts.

    Raises ExportError where either gives logits that are not numbers.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [source.outputs[task] for task in source.tasks]
    takes = {entry.name for entry in session.get_inputs()}
    largest, alone, equal = 0.0, 0, 0
    every = max(1, -(-len(texts) // ALONE_TEXTS))
    agreed, in_full = dict.fromkeys(source.tasks, 0), dict.fromkeys(source.tasks, 0)
    for ids, mask in _batches(source, texts):
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {name: value for name, value in feed.items() if name in takes}
        together = session.run(names, feed)
        wanted = source.reference(ids, mask)
        full = wanted if source.unrounded is None else source.unrounded(ids, mask)
        for task, logits in zip(source.tasks, together, strict=True):
            _check_numbers(task, wanted[task], "torch", "its weights overflow, so train it again at a lower rate")
            _check_numbers(task, logits, "the exported graph", "export it with --precision fp32")
            largest = max(largest, float(np.abs(logits - wanted[task]).max()))
            agreed[task] += int((logits.argmax(axis=1) == wanted[task].argmax(axis=1)).sum())
            in_full[task] += int((logits.argmax(axis=1) == full[task].argmax(axis=1)).sum())
        for row in range(0, len(ids), every):
            single = session.run(names, {name: value[row : row + 1] for name, value in feed.items()})
            alone += 1
            equal += all(np.array_equal(a[0], b[row]) for a, b in zip(single, together, strict=True))
    return Parity(
        texts=len(texts),
        largest_difference=largest,
        agreement=min(agreed.values()) / len(texts),
        unrounded_agreement=None if source.unrounded is None else min(in_full.values()) / len(texts),
        alone=alone,
        alone_equal=equal,
    )


def _check_numbers(task: str, logits: NDArray[np.float32], model: str, remedy: str) -> None:
    if not np.isfinite(logits).all():
        raise ExportError(f"{model} gives a text logits of {task!r} that are not numbers; {remedy}")


def _batches(source: Exportable, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    tokenizer = Tokenizer.from_str(source.tokenizer)
    filler = pad_id(tokenizer)
    rows = sorted(token_rows(tokenizer, texts, source.max_tokens), key=len)
    for at in range(0, len(rows), BATCH):
        ids, mask = pad(rows[at : at + BATCH], filler)
        yield ids.numpy(), mask.numpy()
