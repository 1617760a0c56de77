"""How much of the model's speed arrives: classify, backtest and the worker beside the model alone, in one run.

    python -m tests.benchmarks.daemon [--input FILE] [--rounds N] [--broker kafka|embedded]

The model alone scores the same texts, parsed beforehand, in slabs as large as it likes. `classify` and `backtest` are
the commands, by the rate that they report (loading the model is not in it). The worker finds every document in the
topic before it starts; its rate is that of the scores on the broker, from the first to the last by the broker's clock.
They take turns, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from models.predictor import SLAB_TEXTS
from models.threads import usable_cores
from streamer.config.settings import Config
from streamer.core.documents import Rejection, parse_scoring_text
from streamer.demo.stream import STREAM
from streamer.model import load_models
from streamer.offline.sources import open_source
from streamer.worker.embedded import EmbeddedBroker
from tests.brokers.kraft import KafkaCluster
from tests.integration.deployment import Deployment, until

MODEL = "the model alone"


def command(*arguments: str) -> str:
    """What a `bearwire` command says on standard error; it must succeed."""
    result = subprocess.run([sys.executable, "-m", "streamer.cli", *arguments], capture_output=True, check=False)
    if result.returncode:
        raise click.ClickException(result.stderr.decode(errors="replace")[-2000:])
    return result.stderr.decode()


def model_alone(source: Path) -> float:
    """Texts a second of the model on the texts of `source`."""
    limits = Config().document_limits
    texts = []
    with open_source(str(source)) as lines:
        for chunk in lines.chunks(1000, 8 << 20):
            for line in chunk.lines:
                parsed = parse_scoring_text(line.value, default_id="0", limits=limits)
                if not isinstance(parsed, Rejection):
                    texts.append(parsed.scored_text)
    models = load_models(Config().model)
    models.warm_up()
    started = time.perf_counter()
    for at in range(0, len(texts), SLAB_TEXTS):
        models.predict(texts[at : at + SLAB_TEXTS])
    return len(texts) / (time.perf_counter() - started)


def classify(source: Path) -> float:
    """Texts a second that `bearwire classify` reports."""
    with TemporaryDirectory() as folder:
        said = command("classify", str(source), "-o", f"{folder}/scores.jsonl", "--rejects", f"{folder}/rejects.jsonl")
    found = re.search(r"\(([\d,]+) texts/s\)", said)
    if found is None:
        raise click.ClickException(f"no rate in {said!r}")
    return float(found[1].replace(",", ""))


def backtest(source: Path) -> float:
    """Texts a second that `metrics.json` of `bearwire backtest` holds."""
    with TemporaryDirectory() as folder:
        command("backtest", str(source), "-o", f"{folder}/out")
        return float(json.loads(Path(folder, "out", "metrics.json").read_bytes())["texts_per_second"])


def worker(servers: str) -> Callable[[Path], float]:
    """Scores a second of `bearwire worker` on a broker."""

    async def run(source: Path) -> float:
        with TemporaryDirectory() as folder:
            deployment = Deployment(servers, Path(folder), model__threads=0)
            first = deployment.worker()
            await until(deployment.has_topics, "the topics exist", worker=first)
            first.finish()
            replay = ("replay", str(source), "--speed", "max", "-c", str(deployment.file))
            await asyncio.to_thread(command, *replay)
            count = len(await deployment.records("documents"))
            second = deployment.worker()

            async def all_out() -> bool:
                await asyncio.sleep(2.0)  # counting costs the worker's processor
                return (await deployment.accounted_for())["all"] == count

            await until(all_out, f"{count} documents are accounted for", seconds=3600, worker=second)
            second.finish()
            scores = [*await deployment.records("scores"), *await deployment.records("late")]
            stamps = [record.timestamp_ms for record in scores]
            return len(stamps) / ((max(stamps) - min(stamps)) / 1000)

    return lambda source: asyncio.run(run(source))


def _broker(kind: str, folder: Path) -> KafkaCluster | EmbeddedBroker:
    return KafkaCluster(folder) if kind == "kafka" else EmbeddedBroker()


@click.command()
@click.option(
    "--input", "source", type=click.Path(exists=True, path_type=Path), default=STREAM, help="Documents; the demo's."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Turns of each.")
@click.option("--broker", default="embedded", show_default=True, type=click.Choice(["embedded", "kafka"]))
def main(source: Path, rounds: int, broker: str) -> None:
    """Texts a second of classify, backtest and the worker, beside the model alone."""
    with TemporaryDirectory() as folder, _broker(broker, Path(folder)) as running:
        contenders: dict[str, Callable[[Path], float]] = {
            MODEL: model_alone,
            "bearwire classify": classify,
            "bearwire backtest": backtest,
            f"bearwire worker ({broker} broker)": worker(running.bootstrap_servers),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            for name, contender in contenders.items():
                rates[name].append(contender(source))
                click.echo(f"round {number + 1}: {name} {rates[name][-1]:,.0f} texts/s", err=True)
    alone = statistics.median(rates[MODEL])
    click.echo(f"{source.name}, {usable_cores()} cores, median of {rounds}")
    click.echo("| what | texts/s | of the model alone |\n|---|---|---|")
    for name, each in rates.items():
        click.echo(f"| {name} | {statistics.median(each):,.0f} | {statistics.median(each) / alone:.2f} |")


if __name__ == "__main__":
    main()
