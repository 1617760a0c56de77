"""The reference is what the code says now, and its examples are records as they are really written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from streamer.config.settings import Config
from streamer.config.tree import fields_of
from streamer.schemas import SCHEMAS, load_schema
from streamer.worker.metrics import METRICS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

sys.path.append(str(DOCS))
from metrics_page import scraped_names  # noqa: E402
from recipe_page import recipe_sections  # noqa: E402
from topic_examples import examples  # noqa: E402


def test_the_reference_is_what_the_code_says_now() -> None:
    ran = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_every_key_of_a_recipe_is_described() -> None:
    assert not [
        f"{struct.__name__}.{name}"
        for struct in recipe_sections()
        for name, field in fields_of(struct).items()
        if not field.meta.description
    ]


def test_every_schema_has_an_example() -> None:
    assert examples().keys() == SCHEMAS.keys()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_example_of_each_topic_fits_its_schema(name: str) -> None:
    example = examples()[name]
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(load_schema(name), format_checker=checker)
    validator.validate(dict(example.headers) or example.value)


def test_every_topic_and_every_metric_is_described() -> None:
    topics = (DOCS / "reference" / "topics.md").read_text(encoding="utf-8")
    for setting in (
        "documents",
        "scores",
        "digests",
        "windows",
        "alerts",
        "notifications",
        "silences",
        "dead_letters",
        "late",
    ):
        assert f"`{getattr(Config().topics, setting).name}`" in topics
    metrics = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    for name, described in METRICS.items():
        assert f"| `{scraped_names(name, described)[0].removesuffix('_bucket')}` |" in metrics
