"""`bearwire config`: check, show and describe the configuration."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import orjson
import yaml
from msgspec import Struct

from streamer.commands.options import loaded_options
from streamer.config.load import ConfigError, Loaded
from streamer.config.reference import config_schema
from streamer.config.rules import rule_problems
from streamer.config.secret import Secret
from streamer.config.settings import Config
from streamer.config.tree import Problem, fields_of, is_path
from streamer.config.types import Section
from streamer.schemas import SCHEMAS, load_schema
from streamer.timestamps import format_duration


@click.group()
def config() -> None:
    """Check and show the configuration.

    It is put together from defaults, then bearwire.yaml, then environment variables
    (BEARWIRE_KAFKA__CLIENT_ID sets kafka.client_id), then --set flags.
    """


@config.command()
@loaded_options
def check(loaded: Loaded) -> None:
    """Name every unknown or wrong key, where it is, and what was expected. Exit status 2 if there is any."""
    problems = [Problem(key, loaded.places.get(key, ""), what) for key, what in rule_problems(loaded.config)]
    if problems:
        raise ConfigError(problems)
    where = str(loaded.file) if loaded.file else "no file, defaults"
    books = ", ".join(book.name for book in loaded.config.books)
    click.echo(f"The configuration is in order ({where}; {len(loaded.places)} keys set; books: {books}).")


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
    """The defaults of an item of a list; what is required has none."""
    return SimpleNamespace(**{name: field.default for name, field in fields_of(section).items()})
