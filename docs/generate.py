"""Writes docs/reference from the code; with --check only says whether it is up to date (exit status 1: it is not)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamer.cli import COMMANDS, cli, load_command
from streamer.config_reference import config_page
from streamer.documents import REASONS
from streamer.schemas import SCHEMAS, load_schema

REFERENCE = Path(__file__).parent / "reference"
WIDTH = 100


def command_page() -> str:
    """docs/reference/cli.md: the help of every command."""
    lines = ["# Command line", "", "Made from the commands' own help by `make docs`.", ""]
    lines += _help(cli, "bearwire")
    for name, entry in COMMANDS.items():
        if find_spec(entry.module) is not None:
            for path, command in _tree(load_command(name, entry), f"bearwire {name}"):
                lines += _help(command, path)
    return "\n".join(lines).rstrip() + "\n"


def records_page() -> str:
    """docs/reference/records.md: what is in each topic, and why a message may be rejected."""
    lines = ["# Records", "", "Made from `streamer/schemas` and `streamer/documents.py` by `make docs`.", ""]
    for name, version in SCHEMAS.items():
        schema = load_schema(name)
        lines += [f"## {schema['title']}", "", schema["description"], ""]
        lines += [f"Schema `{name}-{version}.json`; `bearwire config schema {name}` prints it.", ""]
        lines += ["| field | type | required | meaning |", "|---|---|---|---|"]
        for field, what in schema["properties"].items():
            required = "yes" if field in schema["required"] else ""
            lines.append(f"| `{field}` | {_type(what)} | {required} | {what.get('description', '')} |")
        lines.append("")
    lines += ["## Reasons of dead letters", "", "| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {meaning.replace('|', chr(92) + '|')} |" for reason, meaning in REASONS.items()]
    return "\n".join(lines) + "\n"


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


def _type(schema: dict[str, object]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`".replace("True", "true").replace("False", "false")
    values = schema.get("enum")
    if isinstance(values, list):
        return "one of " + ", ".join(f"`{value}`" for value in values)
    kind = schema.get("type", "object")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def main() -> None:
    pages = {"configuration.md": config_page(), "cli.md": command_page(), "records.md": records_page()}
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
