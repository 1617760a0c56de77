"""`bearwire doctor`."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import orjson

from streamer.commands.terminal import json_for_stdout
from streamer.config.load import ConfigError, load
from streamer.config.rules import rule_notes, rule_problems
from streamer.config.settings import Config
from streamer.config.tree import Problem
from streamer.doctor import Finding, local_findings
from streamer.escaping import escaped

_MARKS = {"ok": ("ok", "green"), "warning": ("look", "yellow"), "broken": ("BROKEN", "red"), "skipped": ("-", None)}


@click.command()
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Set one key; may be repeated.")
@click.option("--no-kafka", is_flag=True, help="Leave the broker out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with every finding.")
def doctor(file: Path | None, overrides: tuple[str, ...], no_kafka: bool, as_json: bool) -> None:
    """Say in plain words what is and is not in order. Changes nothing. Exit status 1 when something is broken."""
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _show(finding)

    config = _configuration(file, overrides, note)
    for finding in local_findings(config or Config()):
        note(finding)
    if config is not None and not no_kafka:
        asyncio.run(_ask_kafka(config, note))
    counts = Counter(finding.state for finding in findings)
    if as_json:
        result = {"ok": not counts["broken"], "findings": [finding._asdict() for finding in findings]}
        click.echo(json_for_stdout(orjson.dumps(result, option=orjson.OPT_INDENT_2)))
    elif counts["broken"]:
        click.echo(f"\n{counts['broken']} broken, {counts['warning']} to look at.")
    else:
        click.echo("\nIn order" + (f", {counts['warning']} to look at." if counts["warning"] else "."))
    if counts["broken"]:
        sys.exit(1)


def _configuration(file: Path | None, overrides: tuple[str, ...], note: Callable[[Finding], None]) -> Config | None:
    try:
        loaded = load(file, None, overrides)
    except ConfigError as error:
        for problem in error.problems:
            note(Finding("configuration", "broken", str(problem), "`bearwire config schema` describes every key"))
        return None
    note(Finding("configuration", "ok", str(loaded.file) if loaded.file else "no bearwire.yaml here, defaults"))
    wrong = [Problem(key, loaded.places.get(key, ""), what) for key, what in rule_problems(loaded.config)]
    for problem in wrong:
        note(Finding("rules", "broken", str(problem), "`bearwire rules schema` describes every key"))
    for key, what in rule_notes(loaded.config):
        said = str(Problem(key, loaded.places.get(key, ""), what))
        note(Finding("rules", "warning", said, "name a sink so, or leave it to what reads the notifications topic"))
    if not wrong:
        note(Finding("rules", "ok", f"in order for {', '.join(escaped(book.name) for book in loaded.config.books)}"))
    return loaded.config


async def _ask_kafka(config: Config, note: Callable[[Finding], None]) -> None:
    from streamer.doctor_kafka import kafka_findings

    async for finding in kafka_findings(config):
        note(finding)


def _show(finding: Finding) -> None:
    word, colour = _MARKS[finding.state]
    advice = f" → {finding.advice}" if finding.advice else ""
    click.echo(f"{click.style(f'{word:>6}', fg=colour)}  {finding.about:<13}  {escaped(finding.message + advice, 600)}")
