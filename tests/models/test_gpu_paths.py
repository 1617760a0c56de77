"""The code that serves GPUs, run with the CPU provider: bound and locked buffers, warm-up, runs side by side."""

from __future__ import annotations

import ctypes
import gc
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import helper, numpy_helper

from models.batching import length_buckets
from models.bundle import Bundle, write_manifest
from models.model_set import ModelSet
from models.pinned import HostBuffers
from models.predictor import Predictor
from models.providers import ONNX_NAMES, GraphError, ModelSession, _provider_options, fused_nodes
from models.serving import ModelService
from tests.models.tiny_bundle import tiny_model, vocabulary, write_tiny_bundle


class Runtime:
    """Stands in for CUDA's runtime library: locks pages as long as there are fewer than `most` locked places.

    An error is `pending` until it is asked for, as CUDA keeps it for each thread. `registered` are the threads that
    asked for a lock, once for each time.
    """

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.locked: dict[int, int] = {}
        self.registered: list[threading.Thread] = []
        self._of_thread = threading.local()

    @property
    def pending(self) -> int:
        """The last error of the calling thread that nobody has asked for; 0 for none."""
        return getattr(self._of_thread, "pending", 0)

    def cudaHostRegister(self, address: ctypes.c_void_p, size: ctypes.c_size_t, flags: ctypes.c_uint) -> int:
        self.registered.append(threading.current_thread())
        if len(self.locked) >= self.most:
            self._of_thread.pending = 2
            return 2
        assert flags.value == 1 and address.value is not None and address.value not in self.locked
        self.locked[address.value] = size.value
        return 0

    def cudaGetLastError(self) -> int:
        error, self._of_thread.pending = self.pending, 0
        return error

    def fail_if_pending(self) -> None:
        """As the next kernel that ONNX Runtime launches does."""
        assert self.cudaGetLastError() == 0

    def cudaHostUnregister(self, address: ctypes.c_void_p) -> int:
        assert address.value is not None
        del self.locked[address.value]
        return 0


shapes = st.lists(st.tuples(st.sampled_from(["input_ids", "attention_mask"]), st.integers(1, 9), st.integers(1, 9)))


@given(shapes, st.integers(0, 81))
def test_a_buffer_holds_what_it_was_filled_with_and_lies_in_locked_memory(
    steps: list[tuple[str, int, int]], room: int
) -> None:
    runtime = Runtime()
    buffers = HostBuffers(runtime, room)
    for number, (name, rows, columns) in enumerate(steps):
        content = np.arange(rows * columns).reshape(rows, columns) + number
        found = buffers.filled(name, content)
        assert np.array_equal(found, content)
        assert found.flags.c_contiguous
        start = found.ctypes.data
        assert any(at <= start and start + found.nbytes <= at + size for at, size in runtime.locked.items())
    assert len(runtime.locked) <= 2
    if all(rows * columns <= room for _, rows, columns in steps):
        assert len(runtime.registered) == len({name for name, *_ in steps})
    del buffers
    found = None
    gc.collect()
    assert not runtime.locked


def test_where_no_more_pages_can_be_locked_ordinary_memory_does() -> None:
    runtime = Runtime(most=1)
    buffers = HostBuffers(runtime, 6)
    one = buffers.filled("input_ids", np.ones((2, 3), dtype=np.int64))
    other = buffers.filled("attention_mask", np.zeros((2, 3), dtype=np.int64))
    assert one.sum() == 6 and other.sum() == 0
    assert not buffers.pinned
    assert runtime.pending == 0, "the error would fail the next run"


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def bound(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Predictor]:
    """Makes predictors whose sessions work as on a GPU: bound buffers, memory that `runtime` locks."""

    def session(model: bytes, **settings: Any) -> ModelSession:
        made = ModelSession(model, io_binding=True, **settings)
        made._runtime = runtime
        return made

    def make(bundle: Bundle, **settings: Any) -> Predictor:
        predictor = Predictor(bundle, cache_entries=0, **settings)
        predictor.provider_in_use = "cuda"
        return predictor

    monkeypatch.setattr("models.predictor.ModelSession", session)
    return make


@pytest.mark.parametrize("most", [100, 3, 0])
def test_bound_buffers_give_every_text_what_it_gets_without_them(
    bound: Callable[..., Predictor], runtime: Runtime, tiny: Bundle, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.most = most
    rng = random.Random(3)
    words = [word for word in vocabulary() if not word.startswith("[")]
    texts = [" ".join(rng.choices(words, k=rng.randint(0, 40))) for _ in range(300)]
    expected = Predictor(tiny, cache_entries=0).predict(texts)
    predictor = bound(tiny, threads=3, max_batch_tokens=128)
    ran = predictor._session._run_bound

    def run(session: Any, outputs: Any, feed: Any) -> Any:
        result = ran(session, outputs, feed)
        buffers = predictor._session._of_thread.buffers
        places = [buffer.ctypes.data for buffer in buffers._buffers.values()]
        locked = [place in runtime.locked for place in places]
        assert len(locked) == 2 and all(locked) == buffers.pinned
        assert buffers.pinned or most < 100
        runtime.fail_if_pending()
        return result

    monkeypatch.setattr(predictor._session, "_run_bound", run)
    for _ in range(3):
        found = predictor.predict(texts)
        assert found.words == expected.words
        assert all(np.array_equal(found.probabilities[task], table) for task, table in expected.probabilities.items())
    assert len(runtime.registered) >= 2


def test_no_page_is_locked_for_a_text_once_the_models_are_warm(
    bound: Callable[..., Predictor], runtime: Runtime, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = tiny, write_tiny_bundle(tmp_path)
    served = ModelSet([bound(bundle, threads=3, max_batch_tokens=200) for bundle in bundles])
    served.warm_up()
    (threads,) = {predictor._inference for predictor in served.predictors}
    serving = set(threads._threads)
    assert len(serving) == 3
    before = list(runtime.registered)
    assert all(before.count(thread) == 2 * 2 for thread in serving), "two inputs of two models"
    for predictor in served.predictors:
        ran = set[tuple[int, int]]()
        run, all_serve = predictor._session.run, threading.Barrier(3)

        def recorded(
            outputs: Any, ids: np.ndarray, mask: np.ndarray, *, run: Any = run, ran: Any = ran, gate: Any = all_serve
        ) -> Any:
            assert threading.current_thread() in serving
            gate.wait(timeout=60)  # so that no thread is left out
            ran.add(ids.shape)
            return run(outputs, ids, mask)

        monkeypatch.setattr(predictor._session, "run", recorded)
        full = [(200 // length, length) for length in length_buckets(tiny.max_tokens).tolist()]
        for rows, length in full:
            predictor.predict([" ".join(["profit"] * (length - 2))] * (3 * rows))
        assert ran == set(full)
    assert runtime.registered == before


def test_the_model_in_service_serves_on_while_its_successor_is_warmed_in_threads_of_its_own(
    bound: Callable[..., Predictor], tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = ModelService(ModelSet([bound(tiny, threads=2)]))
    successor = bound(write_tiny_bundle(tmp_path, version="2", seed=1), threads=2)
    run, begun, go_on = successor._session.run, threading.Semaphore(0), threading.Event()

    def held(*given: Any) -> Any:
        begun.release()
        assert go_on.wait(timeout=60)
        return run(*given)

    monkeypatch.setattr(successor._session, "run", held)
    with ThreadPoolExecutor(1) as asking:
        swapping = asking.submit(service.swap, lambda: (ModelSet([successor]), None))
        try:
            assert all(begun.acquire(timeout=60) for _ in range(2))
            assert service.predict(["profit", "fraud"]).version_id == tiny.version_id
        finally:
            go_on.set()
        assert swapping.result(60) == service.predict(["profit"]).version_id == successor.version_id


def test_threads_share_copies_of_a_session_fairly_and_get_the_same(tiny: Bundle) -> None:
    session = ModelSession(tiny.read("model.onnx"), copies=2)
    ids = np.full((3, 8), 2, dtype=np.int64)
    with ThreadPoolExecutor(4) as pool:
        barrier = threading.Barrier(4)

        def run() -> tuple[int, np.ndarray]:
            barrier.wait(timeout=30)
            (found,) = session.run(["topic"], ids, np.ones_like(ids))
            return id(session._session_of_thread()), found

        ran = [each.result() for each in [pool.submit(run) for _ in range(4)]]
    assert sorted(Counter(used for used, _ in ran).values()) == [2, 2]
    assert all(np.array_equal(found, ran[0][1]) for _, found in ran)


def test_tensorrt_gets_a_session_for_every_stream(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def on_cpu(model: bytes, *, provider: str, copies: int, **settings: Any) -> ModelSession:
        made.append((provider, copies))
        return ModelSession(model, copies=copies, **settings)

    monkeypatch.setattr("models.predictor.ModelSession", on_cpu)
    for provider, sessions in (("cuda", 1), ("tensorrt", 3)):
        predictor = Predictor(tiny, provider=provider, threads=3)
        predictor.provider_in_use = provider
        session, run, warmed = predictor._session, predictor._session.run, set[int]()

        def recorded(*given: Any, session: ModelSession = session, run: Any = run, warmed: set[int] = warmed) -> Any:
            warmed.add(id(session._session_of_thread()))
            return run(*given)

        monkeypatch.setattr(session, "run", recorded)
        predictor.warm_up()
        assert len(warmed) == sessions
    assert made == [("cuda", 1), ("tensorrt", 3)]


@pytest.mark.parametrize("budget", [1, 24, 100, 1000])
def test_tensorrt_is_given_no_shape_beyond_what_it_was_told_and_that_is_within_the_budget(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    told: list[tuple[int, int]] = []

    def on_cpu(model: bytes, *, provider: str, largest: tuple[int, int], **settings: Any) -> ModelSession:
        told.append(largest)
        return ModelSession(model, largest=largest, **settings)

    monkeypatch.setattr("models.predictor.ModelSession", on_cpu)
    predictor = Predictor(tiny, provider="tensorrt", threads=1, max_batch_tokens=budget, cache_entries=0)
    predictor.provider_in_use = "tensorrt"
    ((rows, length),) = told
    assert rows * length <= budget or rows == 1
    ran = shapes_run(predictor, monkeypatch)
    predictor.warm_up()
    texts = ["profit"] * 300 + ["market " * 40, "the market today"] * 30
    found = predictor.predict(texts)
    assert len(ran) > 1 and all(count <= rows and each <= length for count, each in ran)
    expected = Predictor(tiny, cache_entries=0).predict(texts)
    assert all(np.array_equal(found.probabilities[task], table) for task, table in expected.probabilities.items())


def fused_model() -> bytes:
    """A graph with an operator of ONNX Runtime's own."""
    model = tiny_model()
    bias = numpy_helper.from_array(np.zeros(32, dtype=np.float32), "no_bias")
    model.graph.initializer.append(bias)
    node = next(node for node in model.graph.node if node.output[0] == "mixed")
    node.output[0] = "unfused"
    place = list(model.graph.node).index(node) + 1
    model.graph.node.insert(
        place, helper.make_node("BiasGelu", ["unfused", "no_bias"], ["mixed"], domain="com.microsoft")
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model.SerializeToString()


def test_the_fused_operators_of_a_graph_are_found(tiny: Bundle, shipped: Bundle) -> None:
    assert fused_nodes(tiny.read("model.onnx")) == ()
    assert fused_nodes(fused_model()) == ("BiasGelu",)
    assert fused_nodes(shipped.read("model.onnx")) == ("BiasGelu", "MultiHeadAttention")


def test_tensorrt_with_a_fused_graph_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tiny: Bundle
) -> None:
    advice = r"BiasGelu.*TensorRT does not know.*set the provider to cuda"
    monkeypatch.setattr("models.providers.check_provider", lambda provider: None)
    monkeypatch.setattr("models.providers._provider_options", lambda *_: ["CPUExecutionProvider"])
    monkeypatch.setitem(ONNX_NAMES, "tensorrt", "CPUExecutionProvider")
    session = ModelSession(fused_model(), provider="tensorrt", io_binding=False)
    assert re.search(advice, caplog.text)
    ids = np.full((1, 4), 999, dtype=np.int64)
    with pytest.raises(GraphError, match=advice):
        session.run(["topic"], ids, np.ones_like(ids))
    damaged = fused_model().replace(b"embedded", b"embeddee", 1)
    with pytest.raises(GraphError, match=advice):
        ModelSession(damaged, provider="tensorrt")
    caplog.clear()
    ModelSession(tiny.read("model.onnx"), provider="tensorrt")
    ModelSession(fused_model())
    assert not caplog.text


def shapes_run(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows and tokens of every run that the session does from now on."""
    ran: list[tuple[int, int]] = []
    run = predictor._session.run

    def recorded(outputs: Sequence[str], ids: np.ndarray, mask: np.ndarray) -> Any:
        ran.append(ids.shape)
        return run(outputs, ids, mask)

    monkeypatch.setattr(predictor._session, "run", recorded)
    return ran


def shapes_of_warming_up(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    ran = shapes_run(predictor, monkeypatch)
    monkeypatch.setattr(predictor, "_try_texts", lambda: None)
    predictor.warm_up()
    return ran


def test_a_gpu_is_warmed_with_the_largest_batch_of_every_length(
    bound: Callable[..., Predictor], tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = bound(tiny, threads=2, max_batch_tokens=200)
    full = [(200 // length, length) for length in length_buckets(tiny.max_tokens).tolist()]
    assert Counter(shapes_of_warming_up(predictor, monkeypatch)) == Counter(full + full)


def test_a_processor_is_warmed_with_one_short_and_one_long_row(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shapes_of_warming_up(Predictor(tiny), monkeypatch) == [(1, 4), (1, tiny.max_tokens)]


def test_tensorrt_is_told_the_shapes_of_every_input_that_a_graph_may_have() -> None:
    (name, options), cuda = _provider_options("tensorrt", (64, 256), half=False)
    assert (name, cuda[0]) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    for bound, shape in (("min", "1x1"), ("opt", "32x32"), ("max", "64x256")):
        told = dict(entry.split(":") for entry in options[f"trt_profile_{bound}_shapes"].split(","))
        assert told == dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), shape)


@pytest.mark.parametrize(("precision", "told"), [("fp32", "0"), ("int8", "0"), ("fp16", "1")])
def test_tensorrt_computes_in_fp16_where_the_bundle_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Literal["fp32", "fp16", "int8"], told: str
) -> None:
    asked: list[bool] = []

    def on_cpu(model: bytes, *, provider: str, half: bool, **settings: Any) -> ModelSession:
        asked.append(half)
        return ModelSession(model, half=half, **settings)

    monkeypatch.setattr("models.predictor.ModelSession", on_cpu)
    made = write_tiny_bundle(tmp_path)
    bundle = write_manifest(made.path, replace(made.manifest, precision=precision))
    Predictor(bundle, provider="tensorrt", threads=1)
    (half,) = asked
    (_, options), _ = _provider_options("tensorrt", (64, 256), half)
    assert options["trt_fp16_enable"] == told


STARTED = """
import os, sys
from pathlib import Path
import numpy as np
from models.providers import ModelSession

model, ids = Path(sys.argv[1]).read_bytes(), np.ones((64, 20), dtype=np.int64)
before = len(os.listdir("/proc/self/task"))
session = ModelSession(model)
session.run(["topic"], ids, np.ones_like(ids))
print(len(os.listdir("/proc/self/task")) - before)
"""
"""How many threads a session starts, in a process where no others come and go."""


def test_a_session_starts_no_threads_that_would_compete_with_other_workers(tiny: Bundle) -> None:
    started = subprocess.check_output([sys.executable, "-c", STARTED, str(tiny.path / "model.onnx")])
    assert int(started) == 0
