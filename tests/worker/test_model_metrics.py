"""What is told of the model: how often a copy spared it the work, and how far a shadow agrees, nothing else of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from models.bundle import Bundle
from streamer.config.settings import Config, ModelSettings
from streamer.worker.metrics import METRICS, worker_registry
from streamer.worker.models_in_service import ModelsInService
from streamer.worker.status import WorkerStatus
from tests.models.tiny_bundle import write_tiny_bundle


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "tiny")


def told(models: ModelsInService) -> dict[str, float]:
    """Every sample, by its name and its labels' values."""
    text = generate_latest(worker_registry(WorkerStatus("score"), version="0", models=lambda: models.service)).decode()
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_copies_are_hits_and_change_no_score(tiny: Bundle) -> None:
    models = ModelsInService(ModelSettings(bundle=str(tiny.path), threads=1))
    plain = ModelsInService(ModelSettings(bundle=str(tiny.path), threads=1, cache_entries=0))
    texts = ["record profit", "fraud lawsuit", "record profit", "market"]
    routes = np.zeros(4, np.int32)
    for _ in range(2):
        found, wanted = models.predict(texts, routes), plain.predict(texts, routes)
        assert found.words == wanted.words
        assert all(np.array_equal(table, wanted.probabilities[task]) for task, table in found.probabilities.items())
    samples = told(models)
    assert (samples["bearwire_cache_total hit"], samples["bearwire_cache_total miss"]) == (5, 3)


def test_a_shadow_is_heard_of_by_its_agreement_alone(tiny: Bundle, tmp_path: Path) -> None:
    shadow = write_tiny_bundle(tmp_path / "shadow", version="next", seed=3)
    alone = ModelsInService(ModelSettings(bundle=str(tiny.path), threads=1))
    watched = ModelsInService(ModelSettings(bundle=str(tiny.path), threads=1, shadow=str(shadow.path)))
    texts, routes = ["record profit", "fraud lawsuit", "market"], np.zeros(3, np.int32)
    expected, found = alone.predict(texts, routes), watched.predict(texts, routes)
    assert watched.service.shadow is not None
    watched.service.shadow.close()
    assert found.versions == expected.versions == (tiny.version_id,)
    assert all(np.array_equal(table, expected.probabilities[task]) for task, table in found.probabilities.items())
    samples = told(watched)
    more = {name for name in samples if name not in told(alone)}
    assert more and all(name.startswith("bearwire_shadow_") for name in more)
    assert samples["bearwire_shadow_texts_total sentiment"] == 3
    assert samples["bearwire_shadow_failed"] == 0
    watched.service.shadow.failure = "RuntimeError: no memory"
    assert told(watched)["bearwire_shadow_failed"] == 1


async def test_a_swap_sets_the_counters_of_the_models_back_and_no_other(tiny: Bundle, tmp_path: Path) -> None:
    shadow = write_tiny_bundle(tmp_path / "shadow", version="next", seed=3)
    settings = ModelSettings(bundle=str(tiny.path), threads=1, shadow=str(shadow.path))
    models = ModelsInService(settings)
    nothing = told(models)
    models.predict(["record profit", "fraud lawsuit", "market", "market"], np.zeros(4, np.int32))
    assert models.service.shadow is not None
    models.service.shadow.skipped = 1
    models.service.shadow.close()
    counted = told(models)
    await models.swap(lambda: Config(model=settings), WorkerStatus("score"))
    swapped = told(models)
    for name in (name for name, described in METRICS.items() if described.kind == "counter"):
        first, later, last = (
            [value for key, value in each.items() if key.split()[0] == f"{name}_total"]
            for each in (nothing, counted, swapped)
        )
        begins_anew = METRICS[name].since == "models"
        assert (later > first) == begins_anew, name
        assert last == (first if begins_anew else later), name
