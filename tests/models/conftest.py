from __future__ import annotations

from pathlib import Path

import pytest

from models.bundle import Bundle, default_bundle_path
from models.predictor import Predictor
from tests.models.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that no test changes."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A bundle of its own for a test that damages it."""
    write_tiny_bundle(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def predictor(tiny: Bundle) -> Predictor:
    return Predictor(tiny, threads=2)


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    """The bundle in the package."""
    if not (default_bundle_path() / "bundle.json").exists():
        pytest.skip("the bundle models/bundles/finance-en is not in this checkout")
    return Bundle.load(default_bundle_path())


@pytest.fixture(scope="session")
def shipped_predictors(shipped: Bundle) -> tuple[Predictor, Predictor]:
    """The shipped model twice, without a cache: wide batches on two threads, narrow ones on one."""
    return Predictor(shipped, threads=2, cache_entries=0), Predictor(
        shipped, threads=1, cache_entries=0, max_batch_tokens=96
    )
