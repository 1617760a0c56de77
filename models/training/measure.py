"""What a classifier in training says of texts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.evaluate import Evaluation
from models.training.batches import pad, pad_id, token_rows
from models.training.compute import Compute
from models.training.network import Classifier


def predict_logits(
    classifier: Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_tokens: int,
    compute: Compute | None = None,
    batch: int = 64,
) -> dict[str, NDArray[np.float32]]:
    """Logits float32[n, labels] per task, in the order of `texts`, n >= 1; in fp32 on the CPU without `compute`."""
    rows = token_rows(tokenizer, texts, max_tokens)
    order = np.argsort([len(row) for row in rows], kind="stable")
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in classifier.heads}
    was_training = classifier.training
    classifier.eval()
    filler = pad_id(tokenizer)
    device = compute.device if compute else torch.device("cpu")
    classifier.to(device)
    cast: Any = compute.autocast() if compute else nullcontext()
    with torch.inference_mode(), cast:
        for at in range(0, len(order), batch):
            ids, mask = pad([rows[i] for i in order[at : at + batch]], filler)
            for name, logits in classifier(ids.to(device), mask.to(device)).items():
                parts[name].append(logits.float().cpu().numpy())
    classifier.train(was_training)
    back = np.argsort(order, kind="stable")
    return {name: np.concatenate(chunks)[back] for name, chunks in parts.items()}


def report_table(result: Evaluation) -> str:
    """A classification report as people know it, one line per label."""
    width = max(len(label) for label in result.per_label)
    lines = [f"{'':{width}}  precision  recall      F1  support"]
    lines += [
        f"{label:{width}}  {s.precision:9.3f}  {s.recall:6.3f}  {s.f1:6.3f}  {s.support:7d}"
        for label, s in result.per_label.items()
    ]
    summary = f"accuracy {result.accuracy:.4f}  macro F1 {result.macro_f1:.4f}  ECE {result.ece:.4f}"
    return "\n".join([*lines, f"{summary}  n {result.rows}"])
