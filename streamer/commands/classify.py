"""`bearwire classify`."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import click
import msgspec

from streamer.commands.options import column_option, config_options
from streamer.commands.progress import progress_line
from streamer.commands.terminal import json_for_stdout
from streamer.config.settings import Config
from streamer.escaping import escaped
from streamer.model import language_rules, load_models
from streamer.offline.classify import CHUNK_BYTES, CHUNK_LINES, Rejected, Tally, classify_chunks
from streamer.offline.sources import open_source

_SHOWN_REJECTIONS = 5


@click.command()
@click.argument("source", metavar="[INPUT]", default="-")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to write; standard output by default.")
@click.option("--rejects", metavar="FILE", help="Where lines without a text to score go, with the reason.")
@click.option("--model", "bundle", metavar="DIRECTORY", help="A model bundle; the configured one by default.")
@column_option
@config_options
def classify(
    source: str,
    output: str,
    rejects: str | None,
    bundle: str | None,
    columns: tuple[tuple[str, str], ...],
    config: Config,
) -> None:
    """Score texts: their sentiment and their topic.

    INPUT is JSON Lines (standard input by default), CSV or Parquet, told by the name; a name ending in .gz is
    decompressed. Each line needs a `text`; `id` is its line number where absent, `title` is read before the text.

    Each output line holds `id`, `sentiment` {negative, neutral, positive}, `topic` {label, score, scores} and
    `model`, in the order of the input. A bad line goes to the --rejects file and never ends the run.
    """
    _refuse_overwriting(source, output, rejects)
    settings = msgspec.structs.replace(config.model, bundle=bundle) if bundle else config.model
    scorer = load_models(settings)
    shown = 0
    with ExitStack() as stack:
        lines = stack.enter_context(open_source(source, dict(columns)))
        out = stack.enter_context(_open_output(output))
        bad = stack.enter_context(_open_output(rejects)) if rejects else None

        def reject(rejected: Rejected) -> None:
            nonlocal shown
            if bad is not None:
                bad.write(json_for_stdout(rejected.encode()) if rejects == "-" else rejected.encode())
            elif shown < _SHOWN_REJECTIONS:
                shown += 1
                where = f"{escaped(source)}:{rejected.line.number}" if source != "-" else f"line {rejected.line.number}"
                click.echo(f"{where}: {rejected.rejection.reason}: {rejected.rejection.detail}", err=True)

        def write(data: bytes) -> None:
            out.write(json_for_stdout(data) if output == "-" else data)
            out.flush()

        started = time.perf_counter()
        show = stack.enter_context(progress_line(lines.size))

        def progress(tally: Tally) -> None:
            rate = tally.scored / max(time.perf_counter() - started, 1e-9)
            show(lines.position, f"{tally.scored:,} texts, {rate:,.0f}/s, {tally.rejected:,} rejected")

        tally = classify_chunks(
            lines.chunks(CHUNK_LINES, CHUNK_BYTES),
            scorer,
            config.document_limits,
            languages=language_rules(settings),
            skip_unserved=settings.other_languages == "skip",
            write=write,
            reject=reject,
            progress=progress,
        )
        seconds = time.perf_counter() - started
    click.echo(
        f"{tally.scored:,} texts scored in {seconds:.1f} s ({tally.scored / max(seconds, 1e-9):,.0f} texts/s), "
        f"{tally.rejected:,} rejected{_where_rejects(tally, rejects)}{_in_other_languages(tally)}; "
        f"model {scorer.version_id} on {scorer.provider_in_use}",
        err=True,
    )


def _in_other_languages(tally: Tally) -> str:
    if tally.skipped:
        return f", {tally.skipped:,} skipped in a language that no model reads"
    if tally.other_language:
        return f", {tally.other_language:,} in a language that no model reads scored by the default one all the same"
    return ""


def _where_rejects(tally: Tally, rejects: str | None) -> str:
    if not tally.rejected:
        return ""
    return f" (see {escaped(rejects)})" if rejects else " (--rejects FILE keeps them)"


def _refuse_overwriting(source: str, *targets: str | None) -> None:
    files = [Path(target) for target in targets if target and target != "-"]
    if source != "-" and any(_same(Path(source), file) for file in files):
        raise click.UsageError(f"{source} would be overwritten while it is read; name another file")
    if len(files) == 2 and _same(*files):
        raise click.UsageError("--output and --rejects name the same file")


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one regular file, also through links of either kind."""
    if one.is_file() and other.is_file():
        return one.samefile(other)
    return one.resolve() == other.resolve()


@contextmanager
def _open_output(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield cast(BinaryIO, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with Path(path).open("wb") as raw:
        if path.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0, filename="") as stream:
                yield cast(BinaryIO, stream)
        else:
            yield raw
