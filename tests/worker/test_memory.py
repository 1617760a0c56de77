from __future__ import annotations

import numpy as np
import pytest

from streamer.worker import memory
from tests.benchmarks.core_take_in import resident_mb


@pytest.mark.skipif(memory._malloc_trim is None, reason="another C library than glibc")
def test_what_freed_arrays_left_in_the_heap_goes_back_to_the_system() -> None:
    arrays = [np.ones(12_000, dtype=np.int64) for _ in range(2000)]
    kept = arrays[::50]
    del arrays
    before = resident_mb()
    memory.give_back()
    assert before - resident_mb() > 100
    assert all(array.sum() == 12_000 for array in kept)
