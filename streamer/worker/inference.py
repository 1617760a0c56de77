"""Between the partitions and the model: what waits from several partitions is predicted together, off the loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.model_set import Answer
from models.predictor import SLAB_CHARACTERS
from streamer.worker.status import WorkerStatus

_CALL_SECONDS = 10.0
"""What may take longer is not merged: nothing of a call is committed before its end."""

Predict = Callable[[Sequence[str], NDArray[np.int32]], Answer]


class _Request(NamedTuple):
    texts: Sequence[str]
    routes: NDArray[np.int32]
    characters: int
    answer: asyncio.Future[Answer]


class InferenceQueue:
    """Runs `predict` in threads, at most two calls at once so that one tokenises while the other infers.

    Requests that wait are merged up to `max_texts` and `max_characters`, and to what the model does in some seconds, by
    its last call. A text's scores do not depend on its batch mates, so merging changes nothing but the speed. Each call
    is a part of the worker, by `status`, for as long as it runs.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        max_texts: int = 2048,
        max_characters: int = SLAB_CHARACTERS,
        calls: int = 2,
        status: WorkerStatus | None = None,
    ) -> None:
        self._predict = predict
        self._max_texts = self._most_texts = max_texts
        self._max_characters = max_characters
        self._threads = ThreadPoolExecutor(calls, thread_name_prefix="bearwire-model")
        self._free = [f"model call {number}" for number in range(calls, 0, -1)]
        self._status = status
        self._waiting: deque[_Request] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def predict(self, texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        """What the models of the routes (int32[n_texts]) say of the texts. Raises what the model raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(texts, routes, sum(map(len, texts)), answer))
        self._start()
        return await answer

    def close(self) -> None:
        """Stop the threads; what waits is abandoned."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        while self._free and self._waiting:
            first = self._waiting.popleft()
            if first.answer.done():
                continue
            together = [first]
            size, characters = len(first.texts), first.characters
            while (
                self._waiting
                and size + len(self._waiting[0].texts) <= self._most_texts
                and characters + self._waiting[0].characters <= self._max_characters
            ):
                together.append(self._waiting.popleft())
                size += len(together[-1].texts)
                characters += together[-1].characters
            task = asyncio.create_task(self._run(self._free.pop(), together))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, call: str, together: list[_Request]) -> None:
        if self._status is not None:
            self._status.note_part(call)
        texts = [text for request in together for text in request.texts]
        routes = np.concatenate([request.routes for request in together])
        began = time.monotonic()
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, self._predict, texts, routes)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            for request in together:
                request.answer.cancel()
            raise
        except BaseException as error:  # a panic of a library in Rust too, or those that ask would wait for ever
            for request in together:
                if not request.answer.done():
                    request.answer.set_exception(error)
        else:
            if texts:
                pace = len(texts) / max(1e-6, time.monotonic() - began)
                self._most_texts = min(self._max_texts, int(pace * _CALL_SECONDS))
            start = 0
            for request in together:
                end = start + len(request.texts)
                if not request.answer.done():
                    request.answer.set_result(result.part(start, end))
                start = end
        finally:
            if self._status is not None:
                self._status.drop_part(call)
            self._free.append(call)
            self._start()
