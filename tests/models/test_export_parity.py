"""Comparing with torch finds what is no number, and says where few texts were compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models.tiny_bundle import TOPICS, write_tiny_bundle
from tests.models.tiny_model import write_classifier
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

TEXTS = ["record profit", "fraud in the market", "the company says"]


@pytest.mark.parametrize(
    ("overflowing", "torch_says", "message"),
    [
        ("fraud", 0.0, "the exported graph gives a text logits of 'topic' .*; export it with --precision fp32"),
        (None, np.nan, "torch gives a text logits of 'topic' that are not numbers"),
        (None, np.inf, "torch gives a text logits of 'topic' that are not numbers"),
    ],
)
def test_logits_that_are_no_numbers_are_refused(
    overflowing: str | None, torch_says: float, message: str, tmp_path: Path
) -> None:
    from models.export_parity import check_parity
    from models.export_source import ExportError

    bundle = write_tiny_bundle(tmp_path / "tiny", overflowing=overflowing)

    def reference(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        said = np.zeros((len(ids), len(TOPICS)), np.float32)
        said[-1, 1] = torch_says
        return {"topic": said}

    source: Any = SimpleNamespace(
        tasks={"topic": TOPICS},
        outputs={"topic": "topic"},
        tokenizer=bundle.read("tokenizer.json").decode(),
        max_tokens=bundle.max_tokens,
        reference=reference,
        unrounded=None,
    )
    with pytest.raises(ExportError, match=message):
        check_parity(bundle.path / "model.onnx", source, TEXTS)


def test_an_export_that_few_texts_were_compared_for_says_so(tmp_path: Path) -> None:
    write_classifier(tmp_path / "source", TEXTS, ["up", "down", "flat"])
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for precision, said in (("int8", True), ("fp32", False)):
        result = bearwire(
            "models", "export", str(tmp_path / "source"), "-o", str(tmp_path / precision), "--precision", precision,
            "--texts", str(tmp_path / "texts.txt"),
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert ("3 texts are few to tell 99.5% by, 200 or more are better" in result.output) == said
