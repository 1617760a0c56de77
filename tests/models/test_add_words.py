"""`bearwire models add-words` writes a whole new bundle, or nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from models.bundle import Bundle, write_manifest
from tests.models.tiny_bundle import write_tiny_bundle
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A bundle that scores no words, and whose graph has no hidden states to learn from."""
    bundle = write_tiny_bundle(tmp_path / "plain")
    write_manifest(bundle.path, msgspec.structs.replace(bundle.manifest, word_scores=None))
    return bundle.path


def add_words(bundle: Path, texts: Path | None) -> Result:
    more = () if texts is None else ("--texts", str(texts))
    return bearwire("models", "add-words", str(bundle), "-o", str(bundle.parent / "new"), *more)


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "profit\nperte l\u00e9g\u00e8re\n".encode("latin-1"),
            "texts.txt, line 2: expected UTF-8, found the byte 0xe9",
        ),
        (b"record profit today\n", "cannot be given words to score"),
        (b"fraud lawsuit\n" * 50, "cannot be given words to score"),
    ],
)
def test_nothing_is_left_where_it_fails(content: bytes, said: str, plain: Path) -> None:
    result = add_words(plain, write(plain.parent / "texts.txt", content))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "no bundle was written: " in result.output and said in result.output
    assert {path.name for path in plain.parent.iterdir()} == {"plain", "texts.txt"}


def test_a_bundle_that_scores_words_is_not_given_others(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    result = add_words(tmp_path / "tiny", None)
    assert result.exit_code == 1 and "scores words already" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}


def test_what_lies_there_is_kept(plain: Path) -> None:
    write_tiny_bundle(plain.parent / "new", seed=3)
    kept = Bundle.load(plain.parent / "new").version_id
    result = add_words(plain, None)
    assert result.exit_code == 1 and "new exists; choose another directory" in result.output
    assert Bundle.load(plain.parent / "new").version_id == kept


def test_a_version_that_is_none_is_found_before_anything_else(plain: Path) -> None:
    result = bearwire("models", "add-words", str(plain), "-o", str(plain.parent / "new"), "--version", "1.0 beta")
    assert result.exit_code == 1
    assert "no bundle was written: --version '1.0 beta' is no name for it; use letters" in result.output
