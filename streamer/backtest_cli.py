"""`bearwire backtest`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

import click
import msgspec

from streamer.backtest import Backtest, BacktestOutput
from streamer.backtest_files import (
    METRICS,
    REJECTS,
    AlertFile,
    NotificationFile,
    OutputError,
    WindowFile,
    result_directory,
    write_json,
)
from streamer.classify import Rejected
from streamer.cli_options import config_options
from streamer.config import Config
from streamer.config_rules import book_rules
from streamer.documents import Rejection
from streamer.escaping import escaped
from streamer.lines import Line
from streamer.model import TextScorer, load_models
from streamer.progress import progress_line
from streamer.records import SourceRecord
from streamer.sources import SourceError, open_source
from streamer.timestamps import format_rfc3339
from streamer.topic_reader import open_consumer, partitions_of, read_to_end

BATCH_RECORDS = 2000
BATCH_BYTES = 8 << 20


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", required=True, metavar="DIR", type=click.Path(path_type=Path), help="For the results.")
@click.option("--model", "bundle", metavar="DIRECTORY", help="A model bundle; the configured one by default.")
@config_options
def backtest(source: str, output: Path, bundle: str | None, config: Config) -> None:
    """Run the worker's core over INPUT, in one process and without Kafka.

    INPUT is JSON Lines, CSV or Parquet, told by the name (.gz too), - for standard input, or kafka:TOPIC for what a
    topic holds now. A file counts as one source partition: a document is late where it is older than what stands
    before it by more than the allowed lateness. What is still open at the end stays open, as it would live.

    DIR gets alerts.jsonl (every change of every alert), notifications.jsonl (what receivers would be told),
    windows.parquet (every closed pane), metrics.json and rejects.jsonl (lines that hold no document). The
    directory appears when all is done, or not at all.
    """
    if bundle:
        config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, bundle=bundle))
    scorer = load_models(config.model)
    try:
        with result_directory(output) as directory:
            metrics = run(source, directory, config, scorer)
    except (OutputError, SourceError) as error:
        raise click.ClickException(str(error)) from None
    documents, alerts = metrics["documents"], metrics["alerts"]
    click.echo(
        f"{documents['in']:,} records: {documents['scored']:,} scored, {documents['late']:,} late, "
        f"{documents['dead']:,} rejected, {documents['duplicates']:,} duplicates; {alerts['fired']:,} alerts fired; "
        f"{metrics['texts_per_second']:,.0f} texts/s; results in {escaped(str(output))}",
        err=True,
    )


def run(source: str, directory: Path, config: Config, scorer: TextScorer) -> dict[str, Any]:
    """Run a backtest of `source` and write its files; returns the content of `metrics.json`."""
    started = perf_counter()
    with (directory / REJECTS).open("wb") as rejects:
        results = _Results(directory, config, rejects)
        if source.startswith("kafka:"):
            topic = source.removeprefix("kafka:") or config.topics.documents.name
            test = asyncio.run(_run_topic(topic, config, scorer, results))
        else:
            test = _run_file(source, config, scorer, results)
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


def _run_file(source: str, config: Config, scorer: TextScorer, results: _Results) -> Backtest:
    with (
        open_source(source) as lines,
        progress_line(lines.size) as show,
        _open_backtest(config, scorer, escaped(source), 1) as test,
    ):
        for chunk in lines.chunks(BATCH_RECORDS, BATCH_BYTES):
            records = [SourceRecord(line.number, None, None, line.value) for line in chunk.lines]
            results.write(test.take(0, records))
            show(lines.position, results.words(test))
        results.write(test.finish())
    return test


async def _run_topic(topic: str, config: Config, scorer: TextScorer, results: _Results) -> Backtest:
    async with open_consumer(config.kafka) as consumer:
        partitions = await partitions_of(consumer, topic)
        ends = await consumer.end_offsets(partitions)
        with progress_line(sum(ends.values())) as show, _open_backtest(config, scorer, topic, len(partitions)) as test:
            async with aclosing(_batches(read_to_end(consumer, partitions))) as batches:
                async for partition, records in batches:
                    results.write(await asyncio.to_thread(test.take, partition, records))
                    show(test.counts.received, results.words(test))
            results.write(await asyncio.to_thread(test.finish))
    return test


async def _batches(records: AsyncIterator[Any]) -> AsyncGenerator[tuple[int, list[SourceRecord]]]:
    """Records of a topic, gathered per partition."""
    waiting: dict[int, list[SourceRecord]] = {}
    async for record in records:
        batch = waiting.setdefault(record.partition, [])
        batch.append(SourceRecord(record.offset, record.timestamp_ms, record.key, record.value, record.headers))
        if len(batch) >= BATCH_RECORDS:
            yield record.partition, waiting.pop(record.partition)
    for partition, batch in sorted(waiting.items()):
        yield partition, batch


@contextmanager
def _open_backtest(config: Config, scorer: TextScorer, source: str, partitions: int) -> Iterator[Backtest]:
    test = Backtest(config, scorer, source=source, partitions=partitions)
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
            },
            "alerts": self._alerts.close(),
            "notifications": self._notifications.close(),
            "windows": self._windows.close(),
            "books": books,
        }
