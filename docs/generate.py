"""Writes docs/reference from the code; with --check only says whether it is up to date (exit status 1: it is not)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from metrics_page import metrics_page
from recipe_page import recipe_page
from topics_page import topics_page

from streamer.cli import COMMANDS, cli, load_command
from streamer.config.reference import config_page

REFERENCE = Path(__file__).parent / "reference"
WIDTH = 100


def command_page() -> str:
    """docs/reference/cli.md: the help of every command."""
    lines = ["# Command line", "", "Made from the commands' own help by `make docs`.", ""]
    lines += _help(cli, "bearwire")
    for name, entry in COMMANDS.items():
        if find_spec(entry.module) is not None and hasattr(import_module(entry.module), entry.attribute):
            for path, command in _tree(load_command(name, entry), f"bearwire {name}"):
                lines += _help(command, path)
    return "\n".join(lines).rstrip() + "\n"


def _tree(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _tree(inner, f"{path} {name}")


def _help(command: click.Command, path: str) -> list[str]:
    context = click.Context(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
    return [f"## {path}", "", "```", command.get_help(context), "```", ""]


def main() -> None:
    pages = {
        "configuration.md": config_page(),
        "cli.md": command_page(),
        "recipe.md": recipe_page(),
        "topics.md": topics_page(),
        "metrics.md": metrics_page(),
    }
    stale = []
    for name, text in pages.items():
        file = REFERENCE / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(f"docs/reference/{name}")
            if "--check" not in sys.argv:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"not up to date: {', '.join(stale)}; run `make docs`")
    print(f"wrote {', '.join(stale)}" if stale else "docs/reference is up to date")


if __name__ == "__main__":
    main()
