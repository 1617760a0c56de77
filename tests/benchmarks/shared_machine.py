"""Do workers that share a machine get in each other's way? Predictors in processes of their own, all at once.

    python -m tests.benchmarks.shared_machine [--workers N]... [--threads N] [--limit N]

Each takes every core, as `model.threads: 0` does. Where they do not hinder each other, all together score as many texts
a second as one alone, for as much CPU time a text.
"""

from __future__ import annotations

import subprocess
import sys
import time

import click

from models.bundle import Bundle, default_bundle_path
from models.predictor import Predictor
from models.threads import usable_cores
from tests.benchmarks.models import load_texts


def work(threads: int, limit: int) -> None:
    """One worker: says when it is ready, begins when it is told to, then says texts/s and CPU milliseconds a text."""
    texts = load_texts(None, limit)
    predictor = Predictor(Bundle.load(default_bundle_path()), threads=threads, cache_entries=0)
    predictor.predict(texts[:64])
    print("ready", flush=True)
    sys.stdin.readline()
    start, cpu = time.perf_counter(), time.process_time()
    predictor.predict(texts)
    print(len(texts) / (time.perf_counter() - start), (time.process_time() - cpu) * 1000 / len(texts), flush=True)


def together(workers: int, threads: int, limit: int) -> tuple[float, float]:
    """Texts per second of all workers, and the mean CPU milliseconds a text."""
    command = [sys.executable, "-m", __spec__.name, "--as-worker", "--threads", str(threads), "--limit", str(limit)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    said = [tuple(map(float, process.communicate()[0].split())) for process in running]
    return sum(speed for speed, _ in said), sum(cpu for _, cpu in said) / workers


@click.command()
@click.option("--workers", multiple=True, type=click.IntRange(min=1), default=(1, 2, 4), show_default=True)
@click.option("--threads", default=0, help="of each; 0: every core")
@click.option("--limit", default=1200, show_default=True, help="texts for each")
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--as-worker", is_flag=True, hidden=True)
def main(workers: tuple[int, ...], threads: int, limit: int, rounds: int, as_worker: bool) -> None:
    if as_worker:
        work(threads, limit)
        return
    click.echo(f"{usable_cores()} cores, {threads or usable_cores()} threads each\n\nworkers  texts/s  CPU ms/text")
    for _ in range(rounds):
        for count in workers:
            speed, cpu = together(count, threads, limit)
            click.echo(f"{count:7d}  {speed:7.0f}  {cpu:11.2f}")


if __name__ == "__main__":
    main()
