"""A worker that is told to change its model says what came of it, whatever that is, and goes on serving."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from models.bundle import Bundle
from streamer.config.load import ConfigError
from streamer.config.settings import Config, ModelRoute, ModelSettings
from streamer.worker.metrics import worker_registry
from streamer.worker.models_in_service import ModelsInService
from streamer.worker.status import WorkerStatus
from tests.models.tiny_bundle import write_tiny_bundle


def configured(path: Path, **settings: object) -> Config:
    return Config(model=ModelSettings(bundle=str(path), threads=1, **settings))  # type: ignore[arg-type]


@pytest.fixture
def old(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "old", version="1")


def serving(bundle: Bundle) -> tuple[ModelsInService, WorkerStatus]:
    return ModelsInService(configured(bundle.path).model), WorkerStatus("score")


async def test_a_new_bundle_takes_over_and_is_named_with_what_it_runs_on(
    old: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = write_tiny_bundle(tmp_path / "new", version="2", seed=1)
    models, status = serving(old)
    status.provider = "cuda"  # as if the one before had run there
    with caplog.at_level(logging.INFO):
        await models.swap(lambda: configured(new.path), status)
    assert (status.model_swaps["done"], status.model_swaps["refused"]) == (1, 0)
    assert (status.model, status.provider) == (new.version_id, "cpu")
    assert f"{new.version_id} has taken the place of {old.version_id} on cpu" in caplog.text
    told = generate_latest(worker_registry(status, version="0", models=lambda: models.service)).decode()
    assert [line for line in told.splitlines() if line.startswith("bearwire_worker_info{") and 'provider="cpu"' in line]
    assert models.predict(["profit"], np.zeros(1, np.int32)).version_id == new.version_id


async def test_the_only_model_may_make_way_for_one_of_another_language_and_its_documents_are_counted_anew(
    old: Bundle, tmp_path: Path
) -> None:
    chinese = write_tiny_bundle(tmp_path / "zh", version="2", languages=("zh",))
    models, status = serving(old)
    assert [models.languages.way(lang, "x").read_anyway for lang in ("en", "zh-CN")] == [False, True]
    await models.swap(lambda: configured(chinese.path), status)
    assert status.model_swaps["done"] == 1
    assert [models.languages.way(lang, "x").read_anyway for lang in ("en", "zh-CN")] == [True, False]


async def test_the_shadow_is_that_of_the_configuration_that_was_read_last(old: Bundle, tmp_path: Path) -> None:
    new = write_tiny_bundle(tmp_path / "new", version="2", seed=1)
    models, status = serving(old)

    async def swapped(bundle: Bundle, shadow: Bundle | None) -> str | None:
        path = None if shadow is None else str(shadow.path)
        await models.swap(lambda: configured(bundle.path, shadow=path), status)
        models.predict(["profit"], np.zeros(1, np.int32))
        behind = models.service.shadow
        return None if behind is None else behind.shadow.candidate.version_id

    assert await swapped(old, new) == new.version_id
    assert await swapped(new, old) == old.version_id
    assert await swapped(new, None) is None
    assert (status.model_swaps["done"], status.model_swaps["refused"]) == (3, 0)


@pytest.mark.parametrize(
    ("candidate", "route"), [("en", 0), ("zh", 1), ("zh-Hans", 1), ("cmn", 1), ("fr-CA", 2), ("it", 0)]
)
def test_a_shadow_stands_behind_the_model_that_reads_its_language(
    old: Bundle, tmp_path: Path, candidate: str, route: int
) -> None:
    shadow = write_tiny_bundle(tmp_path / "shadow", version="3", seed=2, languages=(candidate,))
    routes = tuple(ModelRoute(languages=tags, bundle=str(old.path)) for tags in (("zh-CN",), ("de", "fr")))
    models = ModelsInService(configured(old.path, routes=routes, shadow=str(shadow.path)).model)
    assert models.service.shadow is not None
    assert models.service.shadow.shadow.route == route


def other_languages(path: Path) -> Config:
    return configured(path / "old", other_languages="dead_letter")


def no_shadow_there(path: Path) -> Config:
    return configured(path / "old", shadow=str(path / "missing-shadow"))


def another_language(path: Path) -> Config:
    spanish = write_tiny_bundle(path / "es", languages=("es",))
    return configured(path / "old", routes=(ModelRoute(languages=("es",), bundle=str(spanish.path)),))


def no_memory(path: Path) -> Config:
    raise MemoryError("4 GiB wanted")


class PanicException(BaseException):
    """As `pyo3_runtime.PanicException`, by which a library in Rust says that it has panicked."""


def a_panic(path: Path) -> Config:
    raise PanicException("index out of bounds")


def nowhere(path: Path) -> Config:
    return configured(path / "nowhere")


def unreadable(path: Path) -> Config:
    raise ConfigError([])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (nowhere, "is not a directory"),
        (another_language, "restart the worker"),
        (other_languages, "model.other_languages cannot change while the worker runs"),
        (no_shadow_there, "missing-shadow is not a directory"),
        (unreadable, "stays in service"),
        (no_memory, "MemoryError"),
        (a_panic, "index out of bounds"),
    ],
)
async def test_what_goes_wrong_is_counted_and_told_and_the_old_model_stays(
    asked: Callable[[Path], Config], said: str, old: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models, status = serving(old)
    with caplog.at_level(logging.ERROR):
        await models.swap(lambda: asked(tmp_path), status)
    assert (status.model_swaps["done"], status.model_swaps["refused"]) == (0, 1)
    assert old.version_id in caplog.text and said in caplog.text
    assert models.predict(["profit"], np.zeros(1, np.int32)).version_id == old.version_id


async def test_a_swap_that_is_asked_for_while_another_goes_on_waits_and_says_for_how_long(
    old: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = write_tiny_bundle(tmp_path / "new", version="2", seed=1)
    models, status = serving(old)
    reading, read = threading.Event(), threading.Event()

    def slow() -> Config:
        reading.set()
        assert read.wait(20)
        return configured(new.path)

    first = asyncio.create_task(models.swap(slow, status))
    assert await asyncio.to_thread(reading.wait, 20)
    models._swap_began -= 90
    with caplog.at_level(logging.WARNING):
        second = asyncio.create_task(models.swap(lambda: configured(old.path), status))
        await asyncio.sleep(0)
    assert "a model is being swapped in already, for 90 s" in caplog.text
    read.set()
    await asyncio.wait_for(asyncio.gather(first, second), 20)
    assert (status.model, status.model_swaps["done"]) == (old.version_id, 2)


async def test_a_swap_that_is_cancelled_is_neither_done_nor_refused(old: Bundle) -> None:
    models, status = serving(old)
    read = threading.Event()

    def slow() -> Config:
        assert read.wait(20)
        return configured(old.path)

    swap = asyncio.create_task(models.swap(slow, status))
    await asyncio.sleep(0)
    swap.cancel()
    with pytest.raises(asyncio.CancelledError):
        await swap
    read.set()
    assert status.model_swaps == {"done": 0, "refused": 0}
