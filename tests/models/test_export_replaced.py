"""A finished export takes the place of the bundle before, or both are kept and the reason is said."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.models.training import needs_training

needs_training()

from models.bundle import Bundle
from models.export import _check_destination, _new_draft, _replace
from models.export_source import ExportError
from tests.models.tiny_bundle import write_tiny_bundle
from tests.models.tiny_model import write_classifier
from tests.shell.commands import bearwire

pytestmark = pytest.mark.train


@pytest.fixture
def old(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / ".bundle.new", seed=3).path


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    """Let the renaming of that number fail."""
    rename, count = Path.rename, iter(range(1, 9))

    def renamed(self: Path, target: Path) -> Path:
        if next(count) == number:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)


def test_the_new_bundle_takes_the_place_of_the_old(old: Bundle, draft: Path) -> None:
    new = Bundle.load(draft).version_id
    _replace(old.path, draft)
    assert Bundle.load(old.path).version_id == new != old.version_id
    assert list(old.path.parent.iterdir()) == [old.path]


@pytest.mark.parametrize("number", [1, 2])
def test_where_it_cannot_be_put_in_place_both_are_kept(
    old: Bundle, draft: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Bundle.load(draft).version_id
    fail_at(monkeypatch, number, OSError(errno.EBUSY, "Device or resource busy"))
    with pytest.raises(ExportError, match=f"bundle cannot be replaced: Device or resource busy; .*is in {draft}"):
        _replace(old.path, draft)
    assert Bundle.load(old.path).version_id == old.version_id
    assert Bundle.load(draft).version_id == new


def test_an_interruption_between_old_and_new_leaves_the_old(
    old: Bundle, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        _replace(old.path, draft)
    assert Bundle.load(old.path).version_id == old.version_id


def test_a_mount_point_is_refused_before_the_work() -> None:
    with pytest.raises(ExportError, match="/proc is a mount point, which cannot be replaced"):
        _check_destination(Path("/proc"))


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    with pytest.raises(ExportError, match=f"{tmp_path / 'file'} cannot be written to: "):
        _new_draft(tmp_path / "file" / "bundle")


def test_where_a_link_lies_the_bundle_that_it_leads_to_is_replaced_and_the_link_stays(
    old: Bundle, tmp_path: Path
) -> None:
    texts = ["orders rise", "profit falls", "the meeting is on tuesday"]
    write_classifier(tmp_path / "source", texts, ["up", "down", "flat"])
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "current"
    link.symlink_to(old.path)
    result = bearwire(
        "models", "export", str(tmp_path / "source"), "-o", str(link), "--precision", "fp32",
        "--texts", str(tmp_path / "texts.txt"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert link.readlink() == old.path
    assert Bundle.load(old.path).version_id == Bundle.load(link).version_id != old.version_id
    assert list(link.parent.iterdir()) == [link]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
