"""`make chaos`: crash runs one after the other for a while, each with a seed of its own that is printed."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from streamer.kafka.client import quiet_clients
from tests.chaos.crash import CrashRun, Report, spread
from tests.models.tiny_bundle import write_tiny_bundle


def main() -> None:
    """Run until the time is over; exit status 1 at the first run in which the crashes show."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=")
    parser.add_argument("--minutes", type=float, default=30.0, help="start no new run after this long")
    parser.add_argument("--seed", type=int, help="run this seed once")
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    options = parser.parse_args()
    quiet_clients()
    began = time.monotonic()
    reports: list[Report] = []
    while True:
        seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
        print(f"seed {seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bearwire-chaos-") as name:
            folder = (options.folder or Path(name)) / str(seed)
            write_tiny_bundle(folder / "tiny")
            run = CrashRun(
                folder,
                str(folder / "tiny"),
                seed=seed,
                documents=options.documents,
                kills=options.kills,
                say=lambda text: print(text, flush=True),
            )
            report = asyncio.run(run.run())
        reports.append(report)
        print("\n".join(report.lines()), flush=True)
        # What a killed worker had in flight is scored again, not what was committed.
        assert report.fates["repeats"] < options.documents / 5, "whole partitions were scored again"
        if options.seed is not None or time.monotonic() - began > options.minutes * 60:
            break
    kills = sum(report.kills for report in reports)
    print(f"{len(reports)} runs, {kills} workers killed, {sum(report.pauses for report in reports)} paused,", end=" ")
    print(f"{sum(report.broker_kills for report in reports)} broker kills; nothing lost, nothing doubled, all equal;")
    print(f"recovery: {spread([seconds for report in reports for seconds in report.recovery_seconds])};")
    print(f"books watched again: {spread([seconds for report in reports for seconds in report.takeover_seconds])}")


if __name__ == "__main__":
    main()
