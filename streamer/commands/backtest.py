"""`bearwire backtest`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

import click
import msgspec

from alerts.records import AlertRecord
from alerts.silences import Silence
from streamer.commands.options import MOMENT, column_option, config_options
from streamer.commands.progress import progress_line
from streamer.commands.silences import read_silences
from streamer.config.rules import book_rules
from streamer.config.settings import Config
from streamer.core.documents import Rejection
from streamer.core.records import SourceRecord
from streamer.escaping import escaped
from streamer.kafka.client import quiet_clients
from streamer.model import TextScorer, check_sentiment, check_topics, load_models
from streamer.offline.backtest import Backtest, BacktestOutput
from streamer.offline.backtest_files import (
    ALERTS,
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
from streamer.offline.replay import outgoing
from streamer.offline.sources import SourceError, open_source
from streamer.timestamps import format_rfc3339

BATCH_RECORDS = 2000
BATCH_BYTES = 8 << 20
SHOWN_ALERTS = 10


@click.command()
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="DIR", type=click.Path(path_type=Path), help="For the results.")
@click.option("--model", "bundle", metavar="DIRECTORY", help="A model bundle; the configured one by default.")
@click.option("--since", type=MOMENT, metavar="TIME", help="From then on: 2026-03-01T00:00:00Z, or 30d ago.")
@click.option("--until", type=MOMENT, metavar="TIME", help="What is before then.")
@click.option(
    "--silences",
    "silence_file",
    type=click.File("rb"),
    metavar="FILE",
    help="Silences to keep to, as `bearwire silences list --all --json` prints them.",
)
@column_option
@config_options
def backtest(
    sources: tuple[str, ...],
    output: Path,
    bundle: str | None,
    since: int | None,
    until: int | None,
    silence_file: BinaryIO | None,
    columns: tuple[tuple[str, str], ...],
    config: Config,
) -> None:
    """Run the worker's core over INPUT, in one process and without Kafka.

    INPUT is JSON Lines, CSV or Parquet, told by the name (.gz too), - for standard input, or kafka:TOPIC for what a
    topic holds now. Several files are read one after the other and count as one source partition: a document is late
    where it is older than what stands before it by more than the allowed lateness. What is still open at the end stays
    open, as it would live.

    --since and --until are times of publication in files, and times of records in Kafka.

    DIR gets alerts.jsonl (every change of every alert), notifications.jsonl (what receivers would be told),
    windows.parquet (every closed pane), metrics.json and rejects.jsonl (lines that hold no document). The
    directory appears when all is done, or not at all.
    """
    if len(sources) > 1 and any(source.startswith("kafka:") for source in sources):
        raise click.UsageError("a topic is read alone, not with other inputs")
    if sources.count("-") > 1:
        raise click.UsageError("standard input can be read once only")
    if bundle:
        config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, bundle=bundle))
    silences = read_silences(silence_file) if silence_file is not None else []
    inputs = Inputs(sources, since, until, dict(columns))
    try:
        inputs.check()
        with result_directory(output) as directory:
            scorer = load_models(config.model)
            check_sentiment(scorer)
            check_topics(config.books, scorer)
            metrics = run(inputs, directory, config, scorer, silences=silences, say=_say)
    except (OutputError, SourceError) as error:
        raise click.ClickException(str(error)) from None
    documents, alerts = metrics["documents"], metrics["alerts"]
    click.echo(
        f"{documents['in']:,} records: {documents['scored']:,} scored, {documents['late']:,} late, "
        f"{documents['dead']:,} rejected, {documents['duplicates']:,} duplicates; {alerts['fired']:,} alerts fired; "
        f"{metrics['texts_per_second']:,.0f} texts/s; results in {escaped(str(output))}",
        err=True,
    )


def _say(line: str) -> None:
    click.echo(line, err=True)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a backtest reads: files, or one `kafka:TOPIC`; of these what lies in [since, until), milliseconds UTC.

    `columns` are those of tables, as `open_source` takes them.
    """

    sources: tuple[str, ...]
    since_ms: int | None = None
    until_ms: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def topic(self) -> str | None:
        """The topic to read, "" for that of the configuration; None where files are read."""
        return self.sources[0].removeprefix("kafka:") if self.sources[0].startswith("kafka:") else None

    def check(self) -> None:
        """Raises OSError or SourceError where a file cannot be what it should be, before anything takes long."""
        if self.topic is None:
            for source in self.sources:
                if source != "-":
                    with open_source(source, self.columns):
                        pass

    def takes(self, line: Line) -> bool:
        """Whether a line is to be read; what has no time that can be read is, and is rejected for it."""
        if self.since_ms is None and self.until_ms is None:
            return True
        at_ms = outgoing(line.value, None).published_at_ms
        if at_ms is None:
            return True
        return (self.since_ms is None or self.since_ms <= at_ms) and (self.until_ms is None or at_ms < self.until_ms)


def run(
    inputs: Inputs,
    directory: Path,
    config: Config,
    scorer: TextScorer,
    *,
    silences: Sequence[Silence] = (),
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run a backtest and write its files; returns the content of `metrics.json`.

    `silences` are records of the silences topic. `say` gets lines for people: which alerts fired, what was rejected.
    """
    started = perf_counter()
    with (directory / REJECTS).open("wb") as rejects:
        results = _Results(directory, config, rejects)
        if inputs.topic is not None:
            test = _run_topic(inputs.topic or config.topics.documents.name, config, scorer, results, inputs, silences)
        else:
            test = _run_files(inputs, config, scorer, results, silences)
        metrics = results.close(test)
    for line in results.highlights():
        say(line)
    seconds = perf_counter() - started
    counts = test.counts
    metrics |= {
        "seconds": round(seconds, 3),
        "model_seconds": round(test.model_seconds, 3),
        "texts_per_second": round((counts.scored + counts.late) / max(seconds, 1e-9), 1),
        "input": inputs.sources[0] if len(inputs.sources) == 1 else list(inputs.sources),
        "model": scorer.version_id,
    }
    write_json(directory / METRICS, metrics)
    return metrics


def _run_files(
    inputs: Inputs, config: Config, scorer: TextScorer, results: _Results, silences: Sequence[Silence]
) -> Backtest:
    with _open_backtest(config, scorer, escaped(inputs.sources[0]), silences) as test:
        before = 0
        for source in inputs.sources:
            results.begin(source if len(inputs.sources) > 1 else None, before)
            last = 0
            with open_source(source, inputs.columns) as lines, progress_line(lines.size) as show:
                for chunk in lines.chunks(BATCH_RECORDS, BATCH_BYTES):
                    last = chunk.lines[-1].number
                    records = [
                        SourceRecord(before + line.number, None, None, line.value)
                        for line in chunk.lines
                        if inputs.takes(line)
                    ]
                    results.write(test.take(0, records))
                    show(lines.position, results.words(test))
            before += last
        results.write(test.finish())
    return test


def _run_topic(
    topic: str,
    config: Config,
    scorer: TextScorer,
    results: _Results,
    inputs: Inputs,
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
                from_ms=inputs.since_ms,
                to_ms=inputs.until_ms,
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
        self._files: list[tuple[int, str | None]] = [(0, None)]
        self._reasons: Counter[str] = Counter()
        self._fired: list[AlertRecord] = []
        self._started = perf_counter()

    def begin(self, file: str | None, offset: int) -> None:
        """The records from `offset` on, that one left out, are lines of `file`; None where there is but one."""
        self._files.append((offset, file))

    def write(self, output: BacktestOutput) -> None:
        """Append what some records caused."""
        self._alerts.write(output.alerts)
        for alert in output.alerts:
            if alert.change == "fired" and len(self._fired) < SHOWN_ALERTS:
                self._fired.append(alert)
        self._notifications.write(output.notifications)
        self._windows.write(output.windows)
        for letter in output.dead:
            self._reasons[letter.reason] += 1
            offset, file = next(each for each in reversed(self._files) if each[0] < letter.record.offset or not each[0])
            line = Line(letter.record.offset - offset, letter.record.value or b"")
            self._rejects.write(Rejected(line, Rejection(letter.reason, letter.detail), file).encode())

    def highlights(self) -> Iterator[str]:
        """The first alerts that fired, and why records were rejected: lines for people."""
        for alert in self._fired:
            yield f"{format_rfc3339(alert.at_ms)[:16].replace('T', ' ')}  {escaped(alert.line, 400)}"
        if self._alerts.fired > len(self._fired):
            yield f"… and {self._alerts.fired - len(self._fired):,} more in {ALERTS}"
        if self._reasons:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._reasons.most_common())
            yield f"rejected: {reasons}; each with its line and why in {REJECTS}"

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
