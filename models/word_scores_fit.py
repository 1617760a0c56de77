"""Teaches a graph to score the words of a text, so that naming those behind a label costs nothing more.

What is learned is representation erasure (`models.explain`): the log-odds that a label loses when a word is taken
out. It needs a pass through the model for each word, which no stream can afford; so it is computed once for some
hundred texts, and a ridge regression on the last hidden states of a word's tokens learns to say the same in the
pass that scores the text (an amortised explanation, as in Schwarzenberg et al. 2021, "Efficient Explanations from
Empirical Explainers", arXiv:2103.15429). Texts kept out of the fit decide whether it is any good: taking out
the words it names must cost the label far more than taking out as many others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.batching import SHORTEST
from models.bundle import MODEL, TOKENIZER, Bundle, WordScores, write_manifest
from models.encoding import Encoder
from models.explain import WordWeight, erased, explain_many
from models.predictor import Predictor
from models.providers import ModelSession

TEXTS = 640
LEAST_TEXTS = 40
CHECKED = 4
"""Every fourth text checks what the others taught."""

REMOVED = 3
LEAST_ADVANTAGE = 2.0
LEAST_DROP = 0.05
"""Of probability. A model that answers at random loses some thousandths to any word, and others may gain some."""

RIDGE = 0.02
"""Of the mean squared length of a feature, added per word seen."""

NORMALISATIONS = ("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization")


class _Example(NamedTuple):
    """A text, the places of each word's tokens in its row, and what erasure says each word weighs (float64)."""

    text: str
    words: list[tuple[int, int, list[int]]]
    weights: list[WordWeight]


def add_word_scores(
    bundle: Bundle, texts: Sequence[str], *, task: str, label: str, say: Callable[[str], None]
) -> Bundle:
    """Give the graph of the bundle in place an output of token scores for one label, where that works out.

    `texts` must be free to learn from; those that the model gives the label are used, at most 640. Where they are too
    few, the graph has no hidden states, or the words do not pass their check, the bundle stays as it was and `say`
    hears why.
    """
    predictor = Predictor(bundle, cache_entries=0)
    predictor.warm_up()
    column = bundle.task(task).labels.index(label)
    chosen = [
        predictor.seen(text)
        for text, row in zip(texts, predictor.predict(texts).of_all(task), strict=True)
        if int(row.argmax()) == column
    ][:TEXTS]
    if len(chosen) < LEAST_TEXTS:
        say(f"words behind {label!r} are not scored: {len(chosen)} texts have it, {LEAST_TEXTS} are needed")
        return bundle
    graph = onnx.load_from_string(bundle.read(MODEL))
    outside = bundle.read_external()
    hidden = _last_hidden(graph, outside)
    if hidden is None:
        say(f"words behind {label!r} are not scored: {_why_none(graph)}")
        return bundle
    encoder = Encoder(bundle.read(TOKENIZER), max_tokens=bundle.max_tokens)
    examples = [
        _Example(text, encoder.words(text)[: len(weights)], weights)
        for text, weights in zip(chosen, explain_many(predictor, chosen, task, label), strict=True)
    ]
    features, targets, owner = _features(graph, outside, hidden, encoder, examples)
    learned = owner % CHECKED != 0
    direction = _ridge(features[learned], targets[learned])
    scores = features @ direction
    checked = len(range(0, len(examples), CHECKED))
    named, others = _deletion(predictor, examples, scores, owner, task, column)
    say(
        f"words behind {label!r}, on {checked} texts kept out: without the "
        f"{REMOVED} heaviest words the probability falls by {named:.2f}, without {REMOVED} others by {others:.2f}"
    )
    if not is_better(named, others):
        say("the words are not better than others, so they are not scored")
        return bundle
    output = f"{task}.{label}.words"
    _append(graph, hidden, direction, output)
    onnx.save(graph, str(bundle.path / MODEL))
    scored = WordScores(
        task=task, label=label, output=output, drop=round(named, 4), drop_others=round(others, 4), texts=len(examples)
    )
    return write_manifest(bundle.path, msgspec.structs.replace(bundle.manifest, word_scores=scored))


def is_better(named: float, others: float) -> bool:
    """Whether words that cost a label `named` of its probability are worth naming, where others cost `others`."""
    return named > max(LEAST_DROP, LEAST_ADVANTAGE * others)


def _last_hidden(graph: Any, outside: Mapping[str, bytes]) -> str | None:
    """The name of the encoder's last hidden states, float[batch, seq, width]: of the last normalisation that gives such
    for two rows of four tokens. A head may normalise what is pooled, as ModernBERT's does.
    """
    names = _normalised(graph)
    if not names:
        return None
    ids = np.zeros((2, SHORTEST), dtype=np.int64)
    session = _probing(graph, outside, names)
    shapes = [states.shape for states in session.run(_probed(names), ids, np.ones_like(ids))]
    found = [name for name, shape in zip(names, shapes, strict=True) if len(shape) == 3 and shape[:2] == ids.shape]
    return found[-1] if found else None


def _normalised(graph: Any) -> list[str]:
    """What the graph's normalisations give, in its order."""
    return [node.output[0] for node in graph.graph.node if node.op_type in NORMALISATIONS]


def _why_none(graph: Any) -> str:
    if _normalised(graph):
        return "no layer normalisation of the graph gives hidden states of every token, only of a whole text"
    return "the graph has no layer normalisation to read hidden states from"


def _probed(names: Sequence[str]) -> list[str]:
    return [f"probed_{number}" for number in range(len(names))]


def _probing(graph: Any, outside: Mapping[str, bytes], names: Sequence[str]) -> ModelSession:
    """The graph with the values of these `names` as outputs too, in fp32, under the names of `_probed`."""
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    for name, probed in zip(names, _probed(names), strict=True):
        probe.graph.node.append(helper.make_node("Cast", [name], [probed], to=TensorProto.FLOAT))
        probe.graph.output.append(helper.make_tensor_value_info(probed, TensorProto.FLOAT, None))
    return ModelSession(probe.SerializeToString(), external=outside)


def _features(
    graph: Any, outside: Mapping[str, bytes], hidden: str, encoder: Encoder, examples: Sequence[_Example]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Per word: the sum of its tokens' states and their number, float64[words, width + 1]; what erasure says it weighs,
    float64[words]; the number of its text, int64[words]."""
    session = _probing(graph, outside, [hidden])
    features, targets, owner = [], [], []
    for number, example in enumerate(examples):
        rows = encoder.encode([example.text])
        (states,) = session.run(_probed([hidden]), *rows.matrix(np.array([0]), int(rows.counts[0]), encoder.pad_id))
        for (_, _, places), weight in zip(example.words, example.weights, strict=True):
            tokens = states[0, places].astype(np.float64)
            features.append(np.append(tokens.sum(axis=0), len(places)))
            targets.append(weight.weight)
            owner.append(number)
    return np.array(features), np.array(targets), np.array(owner, dtype=np.int64)


def _ridge(features: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[width + 1]: the direction that says the targets best, kept short."""
    spread = np.sqrt((features**2).mean(axis=0)) + 1e-6
    scaled = features / spread
    gram = scaled.T @ scaled + RIDGE * len(scaled) * np.eye(scaled.shape[1])
    direction: NDArray[np.float64] = np.linalg.solve(gram, scaled.T @ targets) / spread
    return direction


def _deletion(
    predictor: Predictor,
    examples: Sequence[_Example],
    scores: NDArray[np.float64],
    owner: NDArray[np.int64],
    task: str,
    column: int,
) -> tuple[float, float]:
    """Mean loss of the label's probability without the heaviest words of the checked texts, and without others."""
    rng = np.random.default_rng(7)
    whole: list[str] = []
    without_heaviest: list[str] = []
    without_others: list[str] = []
    for number, example in enumerate(examples):
        words = np.flatnonzero(owner == number)
        if number % CHECKED or len(words) < 2 * REMOVED:
            continue
        order = words[np.argsort(-scores[words], kind="stable")] - words[0]
        whole.append(example.text)
        for cut, variants in ((order[:REMOVED], without_heaviest), (rng.permutation(order)[:REMOVED], without_others)):
            variants.append(erased(example.text, sorted(example.words[place][:2] for place in cut.tolist())))
    if not whole:
        return 0.0, 1.0
    said = predictor.predict([*whole, *without_heaviest, *without_others]).of_all(task)[:, column]
    before, named, others = np.split(said.astype(np.float64), 3)
    return float((before - named).mean()), float((before - others).mean())


def _append(graph: Any, hidden: str, direction: NDArray[np.float64], output: str) -> None:
    """Add `output` float32[batch, seq]: every token's state along the direction, and its constant."""
    parts: dict[str, NDArray[Any]] = {
        f"{output}.direction": direction[:-1, None].astype(np.float32),
        f"{output}.constant": direction[-1:].astype(np.float32),
        f"{output}.axis": np.array([2], dtype=np.int64),
    }
    graph.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in parts.items())
    graph.graph.node.extend(
        [
            helper.make_node("Cast", [hidden], [f"{output}.states"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", [f"{output}.states", f"{output}.direction"], [f"{output}.along"]),
            helper.make_node("Add", [f"{output}.along", f"{output}.constant"], [f"{output}.each"]),
            helper.make_node("Squeeze", [f"{output}.each", f"{output}.axis"], [output]),
        ]
    )
    graph.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "sequence"]))


def word_texts(folder: Path | None = None) -> list[str]:
    """The sentiment texts that ship with Bearwire."""
    files = sorted((folder or Path(__file__).parent / "data").glob("own-*.jsonl"))
    return [msgspec.json.decode(line)["text"] for file in files for line in file.read_bytes().splitlines()]
