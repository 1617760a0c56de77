"""What tests of training and exporting need, and what to run where it is not installed."""

from __future__ import annotations

import importlib.util

import pytest

_PACKAGES = ("torch", "transformers", "optimum")


def needs_training() -> None:
    """Skip the calling module where the extra [train] is not installed."""
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(
            f"needs the extra [train] ({', '.join(missing)}); `make test-train` runs these", allow_module_level=True
        )
