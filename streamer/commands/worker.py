"""`bearwire worker`."""

from __future__ import annotations

import asyncio

import click
import msgspec

from streamer.commands.options import loaded_options
from streamer.config.load import Loaded


@click.command()
@click.option(
    "--role",
    type=click.Choice(["all", "score", "watch", "sinks"]),
    help="`score` runs the model, `watch` the windows and alerts, `sinks` tells the receivers; "
    "else worker.role of the configuration.",
)
@loaded_options
def worker(loaded: Loaded, role: str | None) -> None:
    """Score documents from Kafka, follow their sentiment, and raise alerts.

    Creates its topics, waits for a broker that is not up yet, and stops gracefully on SIGTERM or SIGINT (exit status
    0); a second signal ends it at once. SIGUSR1: read the configuration again and put the model in service that it
    names. SIGHUP: read the books' rules again, those in the configuration and those in files. Exit status 1: it had
    to end, the last line says why.
    """
    from streamer.worker.runtime import run_worker

    config = loaded.config
    if role is not None:
        config = msgspec.structs.replace(config, worker=msgspec.structs.replace(config.worker, role=role))
    asyncio.run(run_worker(config, loaded.again))
