"""`bearwire backtest`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

import click
import msgspec

from alerts.silences import Silence
from streamer.commands.options import MOMENT, config_options
from streamer.commands.progress import progress_line
from streamer.commands.silences import read_silences
from streamer.config.rules import book_rules
from streamer.config.settings import Config
from streamer.core.documents import Rejection
from streamer.core.records import SourceRecord
from streamer.escaping import escaped
from streamer.kafka.client import quiet_clients
from streamer.model import TextScorer, check_sentiment, load_models
from streamer.offline.backtest import Backtest, BacktestOutput
from streamer.offline.backtest_files import (
    METRICS,
    REJECTS,
    AlertFile,
    NotificationFile,
    OutputError,
    WindowFile,
    result_directory,
    write_json,
)
from streamer.offline.classify import Rejected
from streamer.offline.kafka_source import backtest_topic
from streamer.offline.lines import Line
from streamer.offline.sources import SourceError, open_source
from streamer.timestamps import format_rfc3339

BATCH_RECORDS = 2000
BATCH_BYTES = 8 << 20


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", required=True, metavar="DIR", type=click.Path(path_type=Path), help="For the results.")
@click.option("--model", "bundle", metavar="DIRECTORY", help="A model bundle; the configured one by default.")
@click.option("--since", type=MOMENT, metavar="TIME", help="kafka: only; records written since then, or 30d ago.")
@click.option("--until", type=MOMENT, metavar="TIME", help="kafka: only; records written before then.")
@click.option(
    "--silences",
    "silence_file",
    type=click.File("rb"),
    metavar="FILE",
    help="Silences to keep to, as `bearwire silences list --all --json` prints them.",
)
@config_options
def backtest(
    source: str,
    output: Path,
    bundle: str | None,
    since: int | None,
    until: int | None,
    silence_file: BinaryIO | None,
    config: Config,
) -> None:
    """Run the worker's core over INPUT, in one process and without Kafka.

    INPUT is JSON Lines, CSV or Parquet, told by the name (.gz too), - for standard input, or kafka:TOPIC for what a
    topic holds now. A file counts as one source partition: a document is late where it is older than what stands
    before it by more than the allowed lateness. What is still open at the end stays open, as it would live.

    DIR gets alerts.jsonl (every change of every alert), notifications.jsonl (what receivers would be told),
    windows.parquet (every closed pane), metrics.json and rejects.jsonl (lines that hold no document). The
    directory appears when all is done, or not at all.
    """
    if (since is not None or until is not None) and not source.startswith("kafka:"):
        raise click.UsageError("--since and --until are times of records in Kafka; cut a file before it is given")
    if bundle:
        config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, bundle=bundle))
    silences = read_silences(silence_file) if silence_file is not None else []
    scorer = load_models(config.model)
    check_sentiment(scorer)
    try:
        with result_directory(output) as directory:
            metrics = run(source, directory, config, scorer, since=since, until=until, silences=silences)
    except (OutputError, SourceError) as error:
        raise click.ClickException(str(error)) from None
    documents, alerts = metrics["documents"], metrics["alerts"]
    click.echo(
        f"{documents['in']:,} records: {documents['scored']:,} scored, {documents['late']:,} late, "
        f"{documents['dead']:,} rejected, {documents['duplicates']:,} duplicates; {alerts['fired']:,} alerts fired; "
        f"{metrics['texts_per_second']:,.0f} texts/s; results in {escaped(str(output))}",
        err=True,
    )


def run(
    source: str,
    directory: Path,
    config: Config,
    scorer: TextScorer,
    *,
    since: int | None = None,
    until: int | None = None,
    silences: Sequence[Silence] = (),
) -> dict[str, Any]:
    """Run a backtest of `source` and write its files; returns the content of `metrics.json`.

    `since` and `until` bound the Kafka times of a topic's records, [since, until), in milliseconds UTC; `silences` are
    records of the silences topic.
    """
    started = perf_counter()
    with (directory / REJECTS).open("wb") as rejects:
        results = _Results(directory, config, rejects)
        if source.startswith("kafka:"):
            topic = source.removeprefix("kafka:") or config.topics.documents.name
            test = _run_topic(topic, config, scorer, results, since, until, silences)
        else:
            test = _run_file(source, config, scorer, results, silences)
        metrics = results.close(test)
    seconds = perf_counter() - started
    counts = test.counts
    metrics |= {
        "seconds": round(seconds, 3),
        "model_seconds": round(test.model_seconds, 3),
        "texts_per_second": round((counts.scored + counts.late) / max(seconds, 1e-9), 1),
        "input": source,
        "model": scorer.version_id,
    }
    write_json(directory / METRICS, metrics)
    return metrics


def _run_file(
    source: str, config: Config, scorer: TextScorer, results: _Results, silences: Sequence[Silence]
) -> Backtest:
    with (
        open_source(source) as lines,
        progress_line(lines.size) as show,
        _open_backtest(config, scorer, escaped(source), silences) as test,
    ):
        for chunk in lines.chunks(BATCH_RECORDS, BATCH_BYTES):
            records = [SourceRecord(line.number, None, None, line.value) for line in chunk.lines]
            results.write(test.take(0, records))
            show(lines.position, results.words(test))
        results.write(test.finish())
    return test


def _run_topic(
    topic: str,
    config: Config,
    scorer: TextScorer,
    results: _Results,
    since: int | None,
    until: int | None,
    silences: Sequence[Silence],
) -> Backtest:
    quiet_clients()
    with ExitStack() as stack:
        show = None

        def progress(test: Backtest, total: int) -> None:
            nonlocal show
            show = show or stack.enter_context(progress_line(total))
            show(test.counts.received, results.words(test))

        return asyncio.run(
            backtest_topic(
                config,
                scorer,
                results.write,
                topic=topic,
                from_ms=since,
                to_ms=until,
                silences=silences,
                progress=progress,
            )
        )


@contextmanager
def _open_backtest(config: Config, scorer: TextScorer, source: str, silences: Sequence[Silence]) -> Iterator[Backtest]:
    test = Backtest(config, scorer, source=source, silences=silences)
    try:
        yield test
    finally:
        test.close()


class _Results:
    """The files while they are written."""

    def __init__(self, directory: Path, config: Config, rejects: BinaryIO) -> None:
        self._config = config
        self._rejects = rejects
        self._alerts = AlertFile(directory)
        self._notifications = NotificationFile(directory)
        self._windows = WindowFile(directory, {window for book in config.books for window in book.windows_ms})
        self._started = perf_counter()

    def write(self, output: BacktestOutput) -> None:
        """Append what some records caused."""
        self._alerts.write(output.alerts)
        self._notifications.write(output.notifications)
        self._windows.write(output.windows)
        for letter in output.dead:
            line = Line(letter.record.offset, letter.record.value or b"")
            self._rejects.write(Rejected(line, Rejection(letter.reason, letter.detail)).encode())

    def words(self, test: Backtest) -> str:
        """How it goes, for the progress line."""
        rate = test.counts.received / max(perf_counter() - self._started, 1e-9)
        return f"{test.counts.received:,} records, {rate:,.0f}/s"

    def close(self, test: Backtest) -> dict[str, Any]:
        """End the files; what they come to."""
        counts = test.counts
        books = {}
        for watch, book in zip(test.watches, self._config.books, strict=True):
            watermark = watch.watermark_ms
            books[book.name] = {
                **{name: getattr(watch.counts, name) for name in ("rows", "stories", "copies", "duplicates", "panes")},
                "open": watch.open_rows,
                "series": len(watch.series),
                "watermark": None if watermark is None else format_rfc3339(watermark),
                "rules": book_rules(book).version_id,
            }
        return {
            "documents": {
                "in": counts.received,
                "scored": counts.scored,
                "late": counts.late,
                "dead": counts.dead,
                "duplicates": max(watch.counts.duplicates for watch in test.watches),
                **({"skipped": counts.skipped} if counts.skipped else {}),
                **({"other_language": test.other_language} if test.other_language else {}),
            },
            "alerts": self._alerts.close(),
            "notifications": self._notifications.close(),
            "windows": self._windows.close(),
            "books": books,
        }
