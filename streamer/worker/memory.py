"""Giving memory back to the system that the C library holds for later."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _found() -> Callable[[int], object] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return lambda kept: trim(kept)


_malloc_trim = _found()


def give_back() -> None:
    """Return what freed arrays left in the heap (malloc_trim of glibc); does nothing with another C library.

    Arrays of many sizes come and go as panes close, and holes between them that are never quite filled again look
    like a leak from outside.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
