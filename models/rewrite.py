"""A bundle made from another one: the whole of it at its place, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from models.bundle import Bundle, write_manifest


def rewrite(
    bundle: Bundle, destination: Path, change: Callable[[Bundle], Bundle], *, version: str | None = None
) -> Bundle:
    """Put what `change` makes of a copy of `bundle`, with the given version, at `destination`.

    Raises FileExistsError where something is there, and what `change` raises; then nothing is left.
    """
    check_free(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        for name in bundle.manifest.files:
            (draft / name).write_bytes(bundle.read(name))
        change(
            write_manifest(draft, msgspec.structs.replace(bundle.manifest, version=version or bundle.manifest.version))
        )
        draft.chmod(0o755)
        draft.rename(destination)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Bundle.load(destination)


def check_free(destination: Path) -> None:
    """Raise FileExistsError where something is at `destination`."""
    if destination.exists():
        raise FileExistsError(f"{destination} exists; choose another directory")
