"""Options that several commands share."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from streamer.config.load import Loaded, load
from streamer.logs import configure_logging
from streamer.timestamps import TimestampError, parse_duration, parse_rfc3339

Function = TypeVar("Function", bound=Callable[..., Any])


class Moment(click.ParamType):
    """A time in milliseconds UTC, written as `2026-11-23T09:00:00Z` (RFC 3339) or as how long ago: `24h`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds UTC; a usage error where it is neither."""
        if isinstance(value, int):
            return value
        try:
            return parse_rfc3339(value)
        except TimestampError:
            pass
        try:
            return round((time.time() - parse_duration(value)) * 1000)
        except TimestampError:
            self.fail(f"{value!r} is neither an RFC 3339 time nor a duration such as 24h", param, ctx)


MOMENT = Moment()


class FieldColumn(click.ParamType):
    """A field of documents and the column of a table that holds it, written as `text=headline`."""

    name = "field=column"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The two names; a usage error where it is not that."""
        if isinstance(value, tuple):
            return value
        field, equals, column = value.partition("=")
        if not (field and equals and column):
            self.fail(f"{value!r} is not FIELD=COLUMN, for example text=headline", param, ctx)
        return field, column


def column_option(function: Function) -> Function:
    """Adds `--column`; the command is called with `columns`, pairs of a field and its column."""
    option = click.option(
        "--column",
        "columns",
        type=FieldColumn(),
        multiple=True,
        metavar="FIELD=COLUMN",
        help="CSV and Parquet: the column that holds a field, such as text=headline; may be repeated.",
    )
    return option(function)


def config_options(function: Function) -> Function:
    """Adds `--config` and `--set`; the command is called with `config`, the `Config` made from them."""

    @loaded_options
    @functools.wraps(function)
    def command(*args: Any, loaded: Loaded, **kwargs: Any) -> Any:
        return function(*args, config=loaded.config, **kwargs)

    return command  # type: ignore[return-value]


def loaded_options(function: Function) -> Function:
    """As `config_options`, but the command is called with `loaded`, which also says where each key was set."""

    @place_options
    @functools.wraps(function)
    def command(*args: Any, config_file: Path | None, overrides: tuple[str, ...], **kwargs: Any) -> Any:
        loaded = load(config_file, None, overrides)
        configure_logging(loaded.config.log.level, loaded.config.log.format)
        return function(*args, loaded=loaded, **kwargs)

    return command  # type: ignore[return-value]


def place_options(function: Function) -> Function:
    """Adds `--config` and `--set`; the command is called with `config_file` and `overrides`, and nothing is read."""
    file = click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        help="Configuration file; else $BEARWIRE_CONFIG, else bearwire.yaml in this directory, else defaults.",
    )
    keys = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Set one key of the configuration; may be repeated. Wins over file and environment.",
    )
    return file(keys(function))
