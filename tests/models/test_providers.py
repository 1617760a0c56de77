"""A provider that is not there is an error, bound buffers give the same numbers, and cores are counted right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from models.bundle import Bundle
from models.predictor import Predictor
from models.providers import ModelSession, ProviderError, check_provider
from models.threads import usable_cores
from tests.models.tiny_bundle import vocabulary


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_missing_provider_says_what_was_found_and_what_to_install(provider: str) -> None:
    with pytest.raises(ProviderError, match=rf"'{provider}'.*has only CPUExecutionProvider\. .*requirements/gpu\.txt"):
        check_provider(provider, ["CPUExecutionProvider"])


def test_an_unknown_provider_says_which_there_are() -> None:
    with pytest.raises(ProviderError, match="choose one of cpu, cuda, tensorrt"):
        check_provider("tpu")


def test_each_copy_of_a_session_must_have_its_provider(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """And onnxruntime does not go on with another provider by itself, which would hide why the first one failed."""
    asked: list[dict[str, Any]] = []

    class Second(ort.InferenceSession):  # type: ignore[misc, unused-ignore]
        """Of the sessions made, every second one has lost its provider."""

        def __init__(self, *args: Any, **options: Any) -> None:
            asked.append(options)
            self.lost = len(asked) % 2 == 0
            super().__init__(*args, **options)

        def get_providers(self) -> list[str]:
            return [] if self.lost else list(super().get_providers())

    monkeypatch.setattr(ort, "InferenceSession", Second)
    model = tiny.read("model.onnx")
    ModelSession(model)
    asked.clear()
    with pytest.raises(ProviderError, match="its libraries did not load"):
        ModelSession(model, copies=2)
    assert [options["enable_fallback"] for options in asked] == [0, 0]


def test_the_provider_in_use_is_told(tiny: Bundle) -> None:
    assert Predictor(tiny).provider_in_use == "cpu"


def test_bound_buffers_give_the_same_numbers(tiny: Bundle) -> None:
    model = tiny.read("model.onnx")
    ids = np.random.default_rng(1).integers(0, len(vocabulary()), (5, 9))
    mask = np.ones_like(ids)
    plain = ModelSession(model).run(["topic", "sentiment"], ids, mask)
    bound = ModelSession(model, io_binding=True).run(["topic", "sentiment"], ids, mask)
    assert all(np.array_equal(one, other) for one, other in zip(plain, bound, strict=True))


def test_twins_of_a_hyper_threaded_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    for cpu, twins in {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}.items():
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(twins + "\n")
    assert usable_cores(topology=tmp_path, root=tmp_path / "none") == 2


POOL = """
import os, sys
from pathlib import Path
from models.bundle import TOKENIZER, Bundle
from models.encoding import Encoder
from models.predictor import Predictor

bundle = Bundle.load(Path(sys.argv[1]))
loaded = Predictor(bundle, threads=1)
alone = Encoder((bundle.path / TOKENIZER).read_bytes(), max_tokens=16)
before = len(os.listdir("/proc/self/task"))
alone.encode(["profit rose"] * 300)
print(len(os.listdir("/proc/self/task")) - before)
"""
"""How many threads the first batch of texts starts, once a model with one thread is loaded."""


@pytest.mark.parametrize("asked", [None, 3])
def test_the_threads_of_a_model_bound_its_tokenizer_too(bundle_dir: Path, asked: int | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RAYON_NUM_THREADS"}
    if asked is not None:
        environment["RAYON_NUM_THREADS"] = str(asked)
    started = subprocess.check_output([sys.executable, "-c", POOL, str(bundle_dir)], env=environment)
    assert int(started) == (asked or 1)
