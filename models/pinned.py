"""Page-locked memory for what goes to a GPU: the card copies straight out of it.

Ordinary memory is copied to a page-locked place by the driver first (CUDA C++ Best Practices Guide, "Pinned Memory").
Buffers are kept and used again, since locking pages costs more than a copy saves; and each is made as large as it
will ever have to be, so that none is locked while texts wait.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

ONNXRUNTIME_GPU, CUDA_MAJOR, CUDNN_MAJOR = "1.31", 13, 9
"""The onnxruntime-gpu of requirements/gpu.txt and what its wheel is built for: its extras ask for
nvidia-cuda-runtime~=13.0 and nvidia-cudnn-cu13~=9.0. Look there again when another one is pinned."""

LIBRARIES = (f"libcudart.so.{CUDA_MAJOR}", "libcudart.so.12")
_PORTABLE = 1
"""cudaHostRegisterPortable: locked for every CUDA context of the process."""


def cuda_runtime() -> Any | None:
    """The CUDA runtime library that onnxruntime-gpu works with, or None where there is none."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


class HostBuffers:
    """Reused buffers for the inputs of one thread, one per name, page-locked by `runtime` (see `cuda_runtime`) if any.

    Each has room for `numbers` from the beginning, and is made anew where more come. What `filled` returns is valid
    until the same name is filled again.
    """

    def __init__(self, runtime: Any | None, numbers: int) -> None:
        self._runtime = runtime
        self._numbers = numbers
        self._buffers: dict[str, NDArray[np.int64]] = {}
        self.pinned = runtime is not None

    def filled(self, name: str, content: NDArray[np.int64]) -> NDArray[np.int64]:
        """`content` int64[batch, seq], copied into the buffer of that name."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < content.size:
            buffer = self._buffers[name] = self._locked(max(content.size, self._numbers))
        place = buffer[: content.size].reshape(content.shape)
        place[...] = content
        return place

    def _locked(self, size: int) -> NDArray[np.int64]:
        buffer = np.empty(size, dtype=np.int64)
        if self._runtime is None:
            return buffer
        address = ctypes.c_void_p(buffer.ctypes.data)
        if self._runtime.cudaHostRegister(address, ctypes.c_size_t(buffer.nbytes), ctypes.c_uint(_PORTABLE)):
            self.pinned = False  # a limit on locked memory, say: pageable memory gives the same numbers, only later
            self._runtime.cudaGetLastError()  # or the next one who asks, ONNX Runtime in its next run, finds this error
            return buffer
        weakref.finalize(buffer, self._runtime.cudaHostUnregister, address)
        return buffer
