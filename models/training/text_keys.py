"""Names of texts that do not hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def keys_of(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each text, uint64[n], the same on every machine."""
    hashes = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)
