"""Texts in, calibrated probabilities out: the one way every part of Bearwire scores text.

    texts ─► cache ─► tokens ─► batches by length ─► ONNX Runtime ─► calibrated softmax ─► rows in order
                                                                  └► scores of the tokens ─► words behind a label

A text's probabilities depend on the text and the bundle alone. It is padded to the bucket of its own length,
the model treats rows of a batch apart, and the softmax works row by row; so a text scores bit-identically
alone, in any batch, in any order, cached or not.

Each run of the model uses one CPU thread, and as many runs as there are threads go on at once. Batches are
independent, so cores need not wait for each other in every layer, as they do when one run is spread over all
of them, and a core that another process takes away delays one batch and not every layer of all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.batching import Batch, batch_rows, length_buckets, plan_batches
from models.bundle import MODEL, TOKENIZER, Bundle, BundleError
from models.cache import ScoreCache, text_key
from models.encoding import Encoder, EncoderError, LongTexts, TokenRows
from models.model_threads import ModelThreads
from models.probabilities import not_finite, softmax
from models.probes import first_texts
from models.providers import INPUTS, GraphError, ModelSession
from models.threads import bound_tokenising, usable_cores
from models.word_scores import Words, heaviest_words

DEFAULT_BATCH_TOKENS = 1024
DEFAULT_CACHE_ENTRIES = 65_536
SLAB_TEXTS = 4096
SLAB_CHARACTERS = 2_000_000
"""A text takes some 50 to 90 bytes a character while it is tokenised, also what is cut off then."""

GPU_STREAMS = 2


class Predictions(NamedTuple):
    """`probabilities`: task name to float32[n_texts, n_labels], calibrated, rows in input order; rows of NaN where the
    model overflows on a text, see `unscored`.

    `words`: per text those that speak most for the label of the bundle's word scores, heaviest first; none where the
    text has another label, or the bundle no word scores.
    """

    probabilities: dict[str, NDArray[np.float32]]
    words: list[Words]

    @property
    def unscored(self) -> NDArray[np.bool_]:
        """bool[n_texts]: the texts whose probabilities are no numbers."""
        return not_finite(self.probabilities.values())

    def of_all(self, task: str) -> NDArray[np.float32]:
        """The probabilities of one task, for a caller that can leave no text out. BundleError where some are NaN."""
        unscored = np.flatnonzero(self.unscored)
        if len(unscored):
            raise BundleError(
                f"the model gives {len(unscored)} of {len(self.unscored)} texts probabilities that are not numbers, "
                f"first text {int(unscored[0]) + 1}; export it in a higher precision, or leave such texts out"
            )
        return self.probabilities[task]


class _Scored(NamedTuple):
    """Of n texts: float32[n, labels of all tasks side by side], and their words."""

    rows: NDArray[np.float32]
    words: list[Words]


class _RowScores(NamedTuple):
    """Of token rows: float64[rows, labels of all tasks], and float32[rows, length] a score per token, if any."""

    probabilities: NDArray[np.float64]
    tokens: NDArray[np.float32] | None


@dataclass(slots=True)
class PredictorStats:
    """Counters since the predictor was made. `padded_tokens` includes `tokens`; texts = hits + misses."""

    cache_hits: int = 0
    cache_misses: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0


class Predictor:
    """Scores texts with one bundle. `predict` may be called from several threads at once.

    Parameters: `provider` "cpu", "cuda" or "tensorrt"; `threads` CPU threads, 0 for the cores this process may
    use; `max_batch_tokens` padded tokens in one run of the model; `cache_entries` texts remembered, 0 for none;
    `long_texts` "truncate" to the bundle's limit or score overlapping "chunks" and average them by their
    number of tokens.

    Raises BundleError where the graph does not fit the manifest or the tokenizer, or fails when it is run,
    ProviderError where the provider is missing.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        provider: str = "cpu",
        threads: int = 0,
        max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
        cache_entries: int = DEFAULT_CACHE_ENTRIES,
        long_texts: LongTexts = "truncate",
    ) -> None:
        self.bundle = bundle
        self.version_id = bundle.version_id
        self.labels = {task.name: task.labels for task in bundle.tasks}
        self.max_batch_tokens = max_batch_tokens
        self.stats = PredictorStats()
        self._encoder = _load_encoder(bundle, long_texts)
        if threads and provider == "cpu":
            bound_tokenising(threads)
        self.threads = threads or (usable_cores() if provider == "cpu" else GPU_STREAMS)
        copies = self.threads if provider == "tensorrt" else 1
        largest = batch_rows(bundle.max_tokens, max_batch_tokens), bundle.max_tokens
        # TensorRT takes any rows up to the most by any length up to the longest, so that all of it must be affordable.
        self._most_rows = largest[0] if provider == "tensorrt" else None
        # What a batch has at the most: a single text may be longer than the budget.
        batch_tokens = max(max_batch_tokens, bundle.max_tokens)
        self._session = _load_session(bundle, provider, largest, batch_tokens, copies)
        self.provider_in_use = self._session.provider
        _check_graph(bundle, self._session)
        self._buckets = length_buckets(bundle.max_tokens)
        self._outputs = [task.output for task in bundle.tasks]
        self._worded: tuple[int, int] | None = None
        scored = bundle.manifest.word_scores
        if scored is not None:
            task = [task.name for task in bundle.tasks].index(scored.task)
            self._worded = task, bundle.tasks[task].labels.index(scored.label)
            self._outputs.append(scored.output)
        self._columns = np.cumsum([0, *(len(task.labels) for task in bundle.tasks)])
        self._cache = ScoreCache(cache_entries, int(self._columns[-1])) if cache_entries > 0 else None
        self._lock = threading.Lock()
        self._tokenising = ThreadPoolExecutor(1, thread_name_prefix="bearwire-tokenise")
        self._inference = ModelThreads(self.threads)
        # Not in the calling thread, which would keep a session and page-locked buffers that serve no text.
        self._inference.submit(self._try_extremes).result()

    def predict(self, texts: Sequence[str], *, cached: bool = True) -> Predictions:
        """Probabilities of every task for any number of texts (none too). Blocks; releases the GIL for most.

        `cached=False` goes past the cache, for texts that will not come again.
        """
        if self._cache is None or not cached:
            return self._split(self._score(texts))
        keys = [text_key(text) for text in texts]
        with self._lock:
            rows, words, found = self._cache.look_up(keys)
        first: dict[bytes, int] = {}
        for index in np.flatnonzero(~found):
            first.setdefault(keys[index], int(index))
        if first:
            fresh = self._score([texts[index] for index in first.values()])
            position = {key: at for at, key in enumerate(first)}
            for missing in np.flatnonzero(~found).tolist():
                rows[missing] = fresh.rows[position[keys[missing]]]
                words[missing] = fresh.words[position[keys[missing]]]
            with self._lock:
                self._cache.store(list(first), fresh.rows, fresh.words)
        with self._lock:
            self.stats.cache_misses += len(first)
            self.stats.cache_hits += len(texts) - len(first)
        return self._split(_Scored(rows, words))

    def share_threads(self, other: Predictor) -> None:
        """Run the model in the threads of `other` from now on: both together take as many as that one alone."""
        self.threads, self._inference = other.threads, other._inference

    def word_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the words lie that the model sees: (start, end) in characters, punctuation left out."""
        return self._encoder.word_spans(text)

    def seen(self, text: str) -> str:
        """The beginning of `text` that the model sees, where it is longer than the limit."""
        return self._encoder.seen(text)

    def warm_up(self) -> None:
        """Run the model before the first text comes: on a GPU the largest batch of every length, since each new shape
        costs there, in all threads at once, since each has its buffers and each run its memory; on the CPU one short
        row and one long one; then some texts, which count nowhere. Raises BundleError where that fails."""
        if self.provider_in_use == "cpu":
            for length in (self._buckets[0], self._buckets[-1]):
                self._try_out(1, int(length), self._encoder.pad_id)
        else:
            self._inference.run_in_each(self._try_full_batches)
        self._try_texts()

    def _try_full_batches(self) -> None:
        for length in map(int, self._buckets):
            self._try_out(batch_rows(length, self.max_batch_tokens, self._most_rows), length, self._encoder.pad_id)

    def _try_texts(self) -> None:
        """Score some texts, with words that are in no vocabulary: a tokenizer may fail at those alone."""
        texts, counted = first_texts(), replace(self.stats)
        try:
            self._encoder.encode(texts)
            for text in texts:
                self._encoder.word_spans(text)
        except Exception as error:
            file = self.bundle.path / TOKENIZER
            raise BundleError(f"{file} {error}; export the model again with its own tokenizer") from error
        file = self.bundle.path / MODEL
        try:
            rows = self._score(texts).rows
        except Exception as error:
            raise BundleError(f"{file} fails on texts: {error}; export the model again") from error
        finally:
            self.stats = counted
        odd = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(odd):
            raise BundleError(
                f"{file} gives the text {texts[int(odd[0])][:40]!r} probabilities that are not numbers; export it in a "
                "higher precision, or with the tokenizer that it was trained with"
            )

    def _try_extremes(self) -> None:
        """Run a row of the most tokens and of the least: only a run tells an output's real shape, a limit beyond the
        model's positions, and tokens that the graph lacks."""
        self._try_out(1, int(self._buckets[-1]), self._encoder.pad_id)
        length = int(self._buckets[0])
        self._try_out(1, length, self._encoder.pad_id)
        highest = self._encoder.highest_id
        try:
            self._try_out(1, length, highest)
        except BundleError as error:
            raise BundleError(
                f"{self.bundle.path / TOKENIZER} has tokens up to number {highest}, for which {MODEL} fails: it "
                f"belongs to another model; export the model again ({error})"
            ) from error

    def _try_out(self, count: int, length: int, token: int) -> None:
        """Run `count` rows of `length` times one token. BundleError where the answer is not what the tasks need."""
        ids = np.full((count, length), token, dtype=np.int64)
        file = self.bundle.path / MODEL
        try:
            found = self._session.run(self._outputs, ids, np.ones_like(ids))
        except GraphError as error:
            raise BundleError(f"{file} fails on {count} x {length} tokens: {error}") from error
        widths = [len(task.labels) for task in self.bundle.tasks] + [length]
        for name, width, table in zip(self._outputs, widths, found, strict=False):
            if table.shape != (count, width):
                raise BundleError(
                    f"{file} gives {name!r} the shape {table.shape} for {count} x {length} tokens, expected "
                    f"{(count, width)}; export the model again"
                )
            if not np.isfinite(table).all():
                raise BundleError(f"{file} gives {name!r} values that are not numbers; export it in a higher precision")

    def _split(self, scored: _Scored) -> Predictions:
        edges = self._columns
        return Predictions(
            {
                task.name: np.ascontiguousarray(scored.rows[:, edges[at] : edges[at + 1]])
                for at, task in enumerate(self.bundle.tasks)
            },
            scored.words,
        )

    def _score(self, texts: Sequence[str]) -> _Scored:
        """The scores of the texts; the next slab is tokenised while one is run."""
        result = np.empty((len(texts), int(self._columns[-1])), dtype=np.float32)
        words: list[Words] = []
        for rows in self._tokenised(texts):
            scores, tokens = self._score_rows(rows)
            at, count = len(words), int(rows.text_of[-1]) + 1
            result[at : at + count] = _combine_chunks(scores, rows)
            words += self._words(texts[at : at + count], result[at : at + count], rows, scores, tokens)
        return _Scored(result, words)

    def _words(
        self,
        texts: Sequence[str],
        scores: NDArray[np.float32],
        rows: TokenRows,
        row_scores: NDArray[np.float64],
        tokens: NDArray[np.float32] | None,
    ) -> list[Words]:
        """The words of every text, out of the chunk that is surest of the label (the first of equals).

        `tokens` float32[total] are the token scores of all rows, one after another.
        """
        words: list[Words] = [()] * len(texts)
        if tokens is None or self._worded is None:
            return words
        first = np.searchsorted(rows.text_of, np.arange(len(texts) + 1)).tolist()
        task, label = self._worded
        of_task = scores[:, self._columns[task] : self._columns[task + 1]]
        sure = row_scores[:, self._columns[task] + label]
        for text in np.flatnonzero(of_task.argmax(axis=1) == label).tolist():
            chunk = int(sure[first[text] : first[text + 1]].argmax())
            begin, count = int(rows.starts[first[text] + chunk]), int(rows.counts[first[text] + chunk])
            weights = tokens[begin : begin + count]
            if np.isfinite(weights).all():
                words[text] = heaviest_words(texts[text], self._encoder.words(texts[text], chunk), weights)
        return words

    def _tokenised(self, texts: Sequence[str]) -> Iterator[TokenRows]:
        slabs = slabs_of(texts, SLAB_TEXTS, SLAB_CHARACTERS)
        if not slabs:
            return
        rows = self._encoder.encode(slabs[0])
        for slab in slabs[1:]:
            coming = self._tokenising.submit(self._encoder.encode, slab)
            yield rows
            rows = coming.result()
        yield rows

    def _score_rows(self, rows: TokenRows) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """float64[rows, labels of all tasks]: the calibrated probabilities of every token row; and float32[total] the
        scores of their tokens, where the bundle has word scores."""
        result = np.empty((len(rows.counts), int(self._columns[-1])), dtype=np.float64)
        tokens = None if self._worded is None else np.empty(len(rows.ids), dtype=np.float32)
        fair_share = -(-int(rows.counts.sum()) // self.threads)
        budget = min(self.max_batch_tokens, fair_share)
        batches = plan_batches(rows.counts, self._buckets, budget, self._most_rows)
        running = [self._inference.submit(self._score_batch, rows, batch) for batch in batches]
        for batch, scored in zip(batches, running, strict=True):
            scores = scored.result()
            result[batch.rows] = scores.probabilities
            if tokens is not None and scores.tokens is not None:
                for row, of_row in zip(batch.rows.tolist(), scores.tokens, strict=True):
                    begin, count = int(rows.starts[row]), int(rows.counts[row])
                    tokens[begin : begin + count] = of_row[:count]
        with self._lock:
            self.stats.batches += len(batches)
            self.stats.tokens += int(rows.counts.sum())
            self.stats.padded_tokens += sum(len(batch.rows) * batch.length for batch in batches)
        return result, tokens

    def _score_batch(self, rows: TokenRows, batch: Batch) -> _RowScores:
        ids, mask = rows.matrix(batch.rows, batch.length, self._encoder.pad_id)
        outputs = self._session.run(self._outputs, ids, mask)
        probabilities = np.concatenate(
            [softmax(part, *task.calibration) for part, task in zip(outputs, self.bundle.tasks, strict=False)],
            axis=1,
        )
        return _RowScores(probabilities, None if self._worded is None else outputs[-1])


def slabs_of(texts: Sequence[str], most_texts: int, most_characters: int) -> list[Sequence[str]]:
    """The texts in order, in runs of at most so many texts and characters each; a longer text has one of its own.

    >>> slabs_of(["a", "bb", "cccc", "d", "e", "f"], 3, 4)
    [['a', 'bb'], ['cccc'], ['d', 'e', 'f']]
    """
    slabs = []
    start = characters = 0
    for at, text in enumerate(texts):
        if at > start and (at - start == most_texts or characters + len(text) > most_characters):
            slabs.append(texts[start:at])
            start, characters = at, 0
        characters += len(text)
    return [*slabs, texts[start:]] if len(texts) else []


def _combine_chunks(scores: NDArray[np.float64], rows: TokenRows) -> NDArray[np.float64]:
    """float64[texts, labels]: each text's chunks averaged, weighted by their number of tokens."""
    if len(rows.text_of) == int(rows.text_of[-1]) + 1:
        return scores
    first = np.flatnonzero(np.diff(rows.text_of, prepend=-1))
    weight = rows.counts[:, None].astype(np.float64)
    combined: NDArray[np.float64] = np.add.reduceat(scores * weight, first) / np.add.reduceat(weight, first)
    return combined


def _load_encoder(bundle: Bundle, long_texts: LongTexts) -> Encoder:
    try:
        return Encoder(bundle.read(TOKENIZER), max_tokens=bundle.max_tokens, long_texts=long_texts)
    except EncoderError as error:
        raise BundleError(f"{bundle.path / TOKENIZER} {error}; export the model again") from error


def _load_session(
    bundle: Bundle, provider: str, largest: tuple[int, int], batch_tokens: int, copies: int
) -> ModelSession:
    try:
        return ModelSession(
            bundle.read(MODEL),
            provider=provider,
            external=bundle.read_external(),
            largest=largest,
            half=bundle.precision == "fp16",
            batch_tokens=batch_tokens,
            copies=copies,
        )
    except GraphError as error:
        raise BundleError(f"{bundle.path / MODEL} cannot be loaded: {error}") from error


def _check_graph(bundle: Bundle, session: ModelSession) -> None:
    file = bundle.path / MODEL
    known = set(INPUTS)
    inputs = session.inputs
    if not {"input_ids", "attention_mask"} <= inputs.keys() <= known:
        raise BundleError(f"{file} takes {sorted(inputs)}, expected {sorted(known)}; export the model again")
    for task in bundle.tasks:
        shape = session.outputs.get(task.output)
        if shape is None:
            raise BundleError(
                f"{file} has no output {task.output!r} for task {task.name!r}, only {sorted(session.outputs)}; "
                "export the model again"
            )
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != len(task.labels)):
            raise BundleError(
                f"{file} gives {task.output!r} the shape {shape}, but task {task.name!r} has "
                f"{len(task.labels)} labels; export the model again"
            )
    scored = bundle.manifest.word_scores
    if scored is not None and len(session.outputs.get(scored.output, [])) != 2:
        raise BundleError(f"{file} has no output {scored.output!r} of two dimensions; export the model again")
