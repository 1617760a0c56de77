"""What the daemon would refuse to load is not written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models.tiny_model import write_classifier
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

TEXTS = ["orders at the pump maker rise", "profit falls", "the meeting is on tuesday"]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_tokenizer_with_tokens_that_the_model_lacks_makes_no_bundle(precision: str, tmp_path: Path) -> None:
    write_classifier(tmp_path / "source", TEXTS, ["up", "down", "flat"])
    file = tmp_path / "source" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["takeover"] = 3999
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    source, bundle = str(tmp_path / "source"), str(tmp_path / "bundle")
    asked = ("models", "export", source, "-o", bundle, "--precision", precision)
    result = bearwire(*asked, "--texts", str(tmp_path / "texts.txt"))
    assert result.exit_code == 1
    assert "no bundle was written" in result.output and "has tokens up to number 3999" in result.output
    assert not (tmp_path / "bundle").exists()
