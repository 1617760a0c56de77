"""Tokenising runs outside of Python's lock."""

from __future__ import annotations

import itertools
import threading
import time

from models.bundle import TOKENIZER, Bundle
from models.encoding import Encoder


def test_other_threads_run_on_while_texts_are_tokenised(shipped: Bundle) -> None:
    encoder = Encoder(shipped.read(TOKENIZER), max_tokens=shipped.max_tokens)
    texts = ["Tallybridge Payments warns that profit will be far lower than it had expected " * 20] * 4000
    started, ended = threading.Event(), threading.Event()
    beats: list[float] = []

    def beat() -> None:
        started.set()
        while not ended.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.001)

    other = threading.Thread(target=beat)
    other.start()
    started.wait()
    begun = time.perf_counter()
    encoder._tokenizer.encode_batch_fast(texts)
    done = time.perf_counter()
    ended.set()
    other.join()
    inside = [begun, *(at for at in beats if begun < at < done), done]
    longest = max(later - earlier for earlier, later in itertools.pairwise(inside))
    assert longest < (done - begun) / 2, "one call kept every other thread waiting for most of its time"
