"""Running `bearwire` in tests, in this process or in one of its own."""

from __future__ import annotations

import sys

import click
from click.testing import CliRunner, Result

from streamer.cli import run


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _entry(arguments: tuple[str, ...]) -> None:
    sys.exit(run(list(arguments)))


def bearwire(*arguments: str, input: bytes | str | None = None, env: dict[str, str] | None = None) -> Result:
    """Runs the command line in this process."""
    return CliRunner().invoke(_entry, ["--", *arguments], input=input, env=env)


def process_arguments(*arguments: str) -> list[str]:
    """The command line for a process of its own."""
    return [sys.executable, "-m", "streamer.cli", *arguments]
