"""`bearwire config`: check, show and describe the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import click
import orjson
import yaml
from msgspec import Struct

from streamer.commands.options import loaded_options, place_options
from streamer.config.load import ConfigError, Loaded, find
from streamer.config.reference import config_schema
from streamer.config.rules import rule_notes, rule_problems
from streamer.config.secret import Secret
from streamer.config.settings import Config
from streamer.config.tree import Problem, fields_of, is_path
from streamer.config.types import Section
from streamer.escaping import escaped_lines
from streamer.schemas import SCHEMAS, load_schema
from streamer.timestamps import format_duration


@click.group()
def config() -> None:
    """Check and show the configuration.

    It is put together from defaults, then bearwire.yaml, then environment variables
    (BEARWIRE_KAFKA__CLIENT_ID sets kafka.client_id), then --set flags.
    """


@config.command()
@place_options
def check(config_file: Path | None, overrides: tuple[str, ...]) -> None:
    """Name unknown and wrong keys, where each is, and what was expected. Exit status 2 if there is any.

    What compares sections, or rules with their book, is looked at once each of them is right.
    Files that are not on this machine are noted. The model and the broker are for `bearwire doctor`.
    """
    found = find(config_file, None, overrides)
    problems = list(found.problems)
    wrong_rules: list[Problem] = []
    if found.sound.issuperset(("books", "time", "sinks")):
        wrong_rules = [Problem(key, found.places.get(key, ""), what) for key, what in rule_problems(found.config)]
        problems += wrong_rules
    if wrong_rules or (problems and len(found.sound) < len(fields_of(Config))):
        problems.append(Problem("", "", "there may be more once these are mended"))
    if problems:
        raise ConfigError(problems)
    for key, what in (*rule_notes(found.config), *missing_files(found.config)):
        click.echo(f"bearwire: note: {Problem(key, found.places.get(key, ''), escaped_lines(what))}", err=True)
    where = str(found.file) if found.file else "no file, defaults"
    books = ", ".join(book.name for book in found.config.books)
    keys = f"{found.set_keys} key{'s' if found.set_keys != 1 else ''} set"
    click.echo(f"The configuration is in order ({where}; {keys}; books: {books}).")
    click.echo("The model and the broker were not looked at: `bearwire doctor` does.")


@config.command()
@click.option("--changed", is_flag=True, help="Only what differs from the defaults.")
@loaded_options
def show(loaded: Loaded, changed: bool) -> None:
    """Print the configuration in force as YAML, secrets masked."""
    tree = plain(loaded.config, Config() if changed else None)
    click.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


@config.command()
@click.argument("name", default="config", type=click.Choice(["config", *SCHEMAS]))
def schema(name: str) -> None:
    """Print a JSON Schema: of bearwire.yaml for editors, or of what is in a topic."""
    found = config_schema() if name == "config" else load_schema(name)
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))


_NOT_READ: Final = frozenset({"data_dir", "path", "rules"})
"""Keys of what a worker writes itself, and that of rules, which `rule_problems` reads."""


def missing_files(section: Section, path: str = "") -> Iterator[tuple[str, str]]:
    """Keys that name a file or directory to read which is not on this machine, and that it is not.

    What it names is not repeated: it may be a secret that landed there.
    """
    for name, field in fields_of(type(section)).items():
        key, value = f"{path}{name}", getattr(section, name)
        if isinstance(value, Section):
            yield from missing_files(value, f"{key}.")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Section):
                    yield from missing_files(item, f"{key}.{index}.")
        elif is_path(field) and name not in _NOT_READ and value not in (None, "default") and not Path(value).exists():
            yield key, "names what is not on this machine"


def plain(section: Section, default: Any = None) -> dict[str, Any]:
    """A section as YAML would hold it, without what equals the same attribute of `default`.

    Durations become text, paths absolute, secrets `***`.
    """
    tree: dict[str, Any] = {}
    for name, field in fields_of(type(section)).items():
        value = getattr(section, name)
        usual = getattr(default, name, None)
        if default is not None and value == usual:
            continue
        if isinstance(value, Section):
            tree[name] = plain(value, usual)
        else:
            at_home = is_path(field) and isinstance(value, str) and value != "default"
            tree[name] = (
                str(Path(value).absolute()) if at_home else _plain_value(value, field.is_duration, default is not None)
            )
    return tree


def _plain_value(value: Any, is_duration: bool, changed: bool) -> Any:
    if isinstance(value, Section):
        return plain(value, _usual(type(value)) if changed else None)
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, tuple):
        return [_plain_value(item, is_duration, changed) for item in value]
    if is_duration and isinstance(value, float):
        return format_duration(value)
    return value


def _usual(section: type[Struct]) -> SimpleNamespace:
    """The defaults of an item of a list; what is required has none, and its name is always told."""
    return SimpleNamespace(**{name: field.default for name, field in fields_of(section).items() if name != "name"})
