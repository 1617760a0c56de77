"""Where a graph runs: ONNX Runtime sessions on the CPU, CUDA or TensorRT.

A provider that is asked for and not there is an error that says what was found, never a silent CPU.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.pinned import HostBuffers, cuda_runtime

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS: tuple[str, ...] = get_args(Provider)
ONNX_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a graph may take. TensorRT wants a shape for every one that it meets, and lets others be."""


FUSED = (
    "Attention",
    "BiasGelu",
    "EmbedLayerNormalization",
    "FastGelu",
    "MultiHeadAttention",
    "SkipLayerNormalization",
)
"""Operators of ONNX Runtime's own that exports of encoders have."""

_FUSED_ADVICE = (
    "the graph has operators of ONNX Runtime's own ({}), which TensorRT does not know: it gets the graph in pieces and "
    "may refuse them; set the provider to cuda"
)

log = logging.getLogger(__name__)


class ProviderError(Exception):
    """The provider asked for cannot be used here. The message says what was found and what to install."""


class GraphError(ValueError):
    """ONNX Runtime refuses the graph (damaged, an unknown operator, a newer opset) or fails when it runs it."""


class ModelSession:
    """One loaded graph. `run` may be called from several threads at once.

    A run uses the calling thread alone. `external` are the contents, by name, of files in which the model keeps
    tensors; nothing is read from a disk.
    `largest` (batch, seq) bounds the shapes that TensorRT prepares one engine for, and `half` lets it compute in fp16.
    `io_binding` copies inputs to the device out of page-locked buffers of the calling thread, made at its first run
    with room for `batch_tokens`, and binds outputs to it; it is the default on GPUs.
    Runs that go on at once have CUDA streams of their own and share the weights. TensorRT's provider computes one at
    a time (onnxruntime pull request 19301), so there `copies` of the session serve as many threads, in turn.
    """

    def __init__(
        self,
        model: bytes,
        *,
        provider: str = "cpu",
        external: Mapping[str, bytes] | None = None,
        largest: tuple[int, int] = (256, 512),
        half: bool = False,
        batch_tokens: int = 0,
        io_binding: bool | None = None,
        copies: int = 1,
    ) -> None:
        check_provider(provider)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # one would be kept for every (batch, length) ever seen
        options.log_severity_level = 3
        _give_external(options, external or {})
        wanted = _provider_options(provider, largest, half)
        fused = fused_nodes(model) if provider == "tensorrt" else ()
        self._advice = f"; {_FUSED_ADVICE.format(', '.join(fused))}" if fused else ""
        try:
            # onnxruntime's own fallback would hide why a provider failed, and go on with another one.
            self._sessions = [
                ort.InferenceSession(model, options, providers=wanted, enable_fallback=0) for _ in range(copies)
            ]
        except Exception as error:  # each of onnxruntime's errors derives from Exception itself
            raise GraphError(f"{error}{self._advice}") from error
        if fused:
            log.warning(_FUSED_ADVICE.format(", ".join(fused)))
        self.provider = provider
        for used in (session.get_providers() for session in self._sessions):
            if ONNX_NAMES[provider] in used:
                continue
            raise ProviderError(
                f"provider {provider!r} was asked for but its libraries did not load; onnxruntime used "
                f"{', '.join(used)}. Install the CUDA {'and TensorRT ' if provider == 'tensorrt' else ''}"
                "libraries that this onnxruntime-gpu was built for, or set the provider to cpu."
            )
        self._bind = provider != "cpu" if io_binding is None else io_binding
        self._batch_tokens = batch_tokens
        self._device = "cpu" if provider == "cpu" else "cuda"
        self._types = {item.name: item.type for item in self._sessions[0].get_inputs()}
        self._runtime = None if provider == "cpu" else cuda_runtime()
        self._of_thread = threading.local()
        self._turns = itertools.count()

    @property
    def inputs(self) -> dict[str, str]:
        """Input name to ONNX type, such as "tensor(int64)"."""
        return dict(self._types)

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """Output name to shape; symbolic dimensions are strings or None."""
        return {item.name: list(item.shape) for item in self._sessions[0].get_outputs()}

    def run(
        self, outputs: Sequence[str], input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> list[NDArray[np.float32]]:
        """Logits of each named output, float32[batch, labels], for int64[batch, seq] ids and mask.

        Raises GraphError.
        """
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        if "token_type_ids" in self._types:
            feed["token_type_ids"] = np.zeros_like(input_ids)
        session = self._session_of_thread()
        try:
            found = self._run_bound(session, outputs, feed) if self._bind else session.run(list(outputs), feed)
            return [np.asarray(result, dtype=np.float32) for result in found]
        except Exception as error:  # each of onnxruntime's errors derives from Exception itself
            raise GraphError(f"{error}{self._advice}") from error

    def _session_of_thread(self) -> Any:
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = self._sessions[next(self._turns) % len(self._sessions)]
        return self._of_thread.session

    def _run_bound(
        self, session: Any, outputs: Sequence[str], feed: dict[str, NDArray[np.int64]]
    ) -> list[NDArray[Any]]:
        buffers: HostBuffers | None = getattr(self._of_thread, "buffers", None)
        if buffers is None:
            buffers = self._of_thread.buffers = HostBuffers(self._runtime, self._batch_tokens)
        binding = session.io_binding()
        for name, array in feed.items():
            value = ort.OrtValue.ortvalue_from_numpy(buffers.filled(name, array), self._device, 0)
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, self._device, 0)
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return list(binding.copy_outputs_to_cpu())


def _give_external(options: Any, files: Mapping[str, bytes]) -> None:
    """Let a session take the tensors of other files from these bytes, and from nowhere else.

    What it does not take from there, such as a tensor of a nested graph, it would look for on disk, unchecked; so the
    folder for that is one in which nothing can lie.
    """
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if not files:
        return
    if not hasattr(options, "add_external_initializers_from_files_in_memory"):
        raise GraphError(
            f"it keeps tensors in {', '.join(files)}, which onnxruntime takes from memory since 1.24; this is "
            f"{ort.__version__}. Install a newer one, or save the model as one file"
        )
    contents = list(files.values())
    options.add_external_initializers_from_files_in_memory(list(files), contents, [len(each) for each in contents])


def fused_nodes(model: bytes) -> tuple[str, ...]:
    """The names of operators of ONNX Runtime's own (domain com.microsoft) that nodes of the graph have, sorted.

    Field 7 of a NodeProto is its domain, 4 its operator (onnx.proto3).
    """
    if _field(7, b"com.microsoft") not in model:
        return ()
    known = tuple(name for name in FUSED if _field(4, name.encode()) in model)
    return known or ("nodes of com.microsoft",)


def _field(number: int, content: bytes) -> bytes:
    """A short length-delimited field as protobuf writes it."""
    return bytes([number << 3 | 2, len(content)]) + content


def check_provider(provider: str, available: Sequence[str] | None = None) -> None:
    """Raise ProviderError unless this onnxruntime was built with the provider."""
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; choose one of {', '.join(PROVIDERS)}")
    found = ort.get_available_providers() if available is None else available
    if ONNX_NAMES[provider] not in found:
        raise ProviderError(
            f"provider {provider!r} was asked for, but onnxruntime {ort.__version__} here has only "
            f"{', '.join(found)}. Install requirements/gpu.txt (onnxruntime-gpu in place of onnxruntime) on a machine "
            "with an NVIDIA driver, or set the provider to cpu."
        )


def _provider_options(provider: str, largest: tuple[int, int], half: bool) -> list[str | tuple[str, dict[str, str]]]:
    cuda = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
    if provider == "cuda":
        return [cuda]
    if provider == "tensorrt":
        rows, length = largest
        typical = (min(rows, 32), min(length, 32))
        shapes = {"min": (1, 1), "opt": typical, "max": largest}
        profile = {
            f"trt_profile_{name}_shapes": ",".join(f"{tensor}:{b}x{n}" for tensor in INPUTS)
            for name, (b, n) in shapes.items()
        }
        return [("TensorrtExecutionProvider", {"trt_fp16_enable": "1" if half else "0", **profile}), cuda]
    return ["CPUExecutionProvider"]
