"""Texts per second by their length, on the CPU or a GPU, beside what the same session does with inputs in its memory.

    python -m tests.benchmarks.lengths [--bundle DIR]... [--provider cpu|cuda|tensorrt] [--tokens N]... [--rounds N]

Every text has exactly so many tokens, so nothing is padded. The bound is the bare session on batches whose inputs lie
on the device already and whose answers stay there, as many runs at once as the predictor has. Figures are medians.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort

from models.batching import batch_rows
from models.bundle import TOKENIZER, Bundle, BundleError, default_bundle_path
from models.encoding import Encoder
from models.predictor import DEFAULT_BATCH_TOKENS, Predictor
from models.providers import ProviderError

WORDS = "shares profit market company quarter sales bank order price growth".split()  # noqa: SIM905


def texts_of(bundle: Bundle, tokens: int, count: int) -> list[str]:
    """`count` texts of exactly so many tokens each, of random words."""
    encoder = Encoder(bundle.read(TOKENIZER), max_tokens=bundle.max_tokens)
    single = [
        word for word in WORDS if int(encoder.encode([word]).counts[0]) == int(encoder.encode([""]).counts[0]) + 1
    ]
    if not single:
        raise click.ClickException(f"{bundle.name} has no token for any of {', '.join(WORDS)}; name another bundle")
    special = int(encoder.encode([""]).counts[0])
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(single, tokens - special)) for _ in range(count)]


def bound(predictor: Predictor, tokens: int, count: int) -> float:
    """Texts per second of the session alone."""
    session: Any = predictor._session._session_of_thread()
    device = "cpu" if predictor.provider_in_use == "cpu" else "cuda"
    rows = batch_rows(tokens, predictor.max_batch_tokens, predictor._most_rows)
    ids = np.full((rows, tokens), 5, dtype=np.int64)
    contents = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    values = {name: ort.OrtValue.ortvalue_from_numpy(contents[name], device, 0) for name in predictor._session.inputs}
    names = [task.output for task in predictor.bundle.tasks]

    def run(_: int) -> None:
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, device, 0)
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    runs = max(predictor.threads, -(-count // rows))
    with ThreadPoolExecutor(predictor.threads) as pool:
        list(pool.map(run, range(predictor.threads)))
        start = time.perf_counter()
        list(pool.map(run, range(runs)))
        return runs * rows / (time.perf_counter() - start)


@click.command()
@click.option("--bundle", "paths", multiple=True, type=click.Path(path_type=Path), help="default: the shipped one")
@click.option("--provider", default="cpu", show_default=True)
@click.option("--tokens", "lengths", multiple=True, type=int, default=(32, 128, 512), show_default=True)
@click.option("--threads", default=0, help="runs at once; 0: every core, or two streams on a GPU")
@click.option("--batch-tokens", default=DEFAULT_BATCH_TOKENS, show_default=True, help="model.max_batch_tokens")
@click.option("--texts", "count", default=0, help="of each length; 0: 32,768 tokens' worth")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
def main(
    paths: tuple[Path, ...],
    provider: str,
    lengths: tuple[int, ...],
    threads: int,
    batch_tokens: int,
    count: int,
    rounds: int,
) -> None:
    for path in paths or (default_bundle_path(),):
        bundle = Bundle.load(path)
        settings: dict[str, Any] = {"provider": provider, "threads": threads, "max_batch_tokens": batch_tokens}
        try:
            predictor = Predictor(bundle, cache_entries=0, **settings)
            predictor.warm_up()
        except (BundleError, ProviderError) as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{bundle.version_id}, {bundle.precision}, {provider}, {predictor.threads} runs at once")
        click.echo("tokens   texts/s   bound   share")
        for tokens in lengths:
            if tokens > bundle.max_tokens:
                click.echo(f"{tokens:6d}   longer than the {bundle.max_tokens} tokens of this bundle")
                continue
            texts = texts_of(bundle, tokens, count or 32_768 // tokens)
            predictor.predict(texts[: max(1, len(texts) // 8)])
            ours, theirs = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                predictor.predict(texts)
                ours.append(len(texts) / (time.perf_counter() - start))
                theirs.append(bound(predictor, tokens, len(texts)))
            speed, limit = statistics.median(ours), statistics.median(theirs)
            click.echo(f"{tokens:6d}  {speed:8.0f}  {limit:6.0f}  {speed / limit:6.2f}")
    if provider == "cpu" and "CUDAExecutionProvider" not in ort.get_available_providers():
        click.echo("\nno GPU here: figures of --provider cuda and tensorrt are missing")


if __name__ == "__main__":
    main()
