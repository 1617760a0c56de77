"""Fills the configuration: defaults < bearwire.yaml < environment < `--set` flags.

Every problem is found and reported together, each with its key, where it was written, what was expected and,
for an unknown key, the nearest known one.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamer.config.checks import contradictions
from streamer.config.file import YamlProblem, read_yaml
from streamer.config.settings import Config
from streamer.config.tree import Builder, Keys, Problem, assign, config_keys, count_set, dotted, overlay, shown_path

ENVIRONMENT_PREFIX = "BEARWIRE_"
CONFIG_VARIABLE = "BEARWIRE_CONFIG"
DEFAULT_FILE = "bearwire.yaml"
_MAX_FILE_BYTES = 10_000_000


class ConfigError(Exception):
    """The configuration cannot be used; `problems` are all that was found, the message lists them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Found(NamedTuple):
    """What is written, right or wrong: `config` has the sections in `sound` as they are set, the others as by default.

    `problems` are all that was found; `set_keys` counts the keys that are set; the rest as in `Loaded`.
    """

    config: Config
    sound: frozenset[str]
    problems: tuple[Problem, ...]
    file: Path | None
    places: dict[str, str]
    set_keys: int


class Loaded(NamedTuple):
    """A configuration, the file it was read from (None: no file), and where each key that was set was written."""

    config: Config
    file: Path | None
    places: dict[str, str]
    again: Callable[[], Config]
    """Reads the same file, environment and flags anew; raises `ConfigError`."""


def load_config(
    path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Iterable[str] = ()
) -> Config:
    """The configuration from a file, the environment and flags; raises `ConfigError`.

    `path` None takes what BEARWIRE_CONFIG names, else bearwire.yaml in the working directory if there is one,
    else no file. `environ` None is the process environment. `overrides` are `section.key=value` texts, the
    value in YAML.
    """
    return load(path, environ, overrides).config


def load(path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Iterable[str] = ()) -> Loaded:
    """As `load_config`, with the places."""
    overrides = tuple(overrides)
    found = find(path, environ, overrides)
    if found.problems:
        raise ConfigError(found.problems)
    environ = os.environ if environ is None else environ
    return Loaded(found.config, found.file, found.places, functools.partial(load_config, path, environ, overrides))


def find(path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Iterable[str] = ()) -> Found:
    """As `load`, with what is wrong in place of an error."""
    environ = os.environ if environ is None else environ
    keys = config_keys(Config)
    tree: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    file = path or _named_file(environ)
    if file is not None:
        problems += _take_file(tree, places, file)
    problems += _take_environment(tree, places, environ, keys)
    problems += _take_overrides(tree, places, tuple(overrides))
    builder = Builder(keys, places)
    builder.build(Config, tree)
    problems += builder.problems
    wrong = {problem.key.partition(".")[0] for problem in problems}
    sound = frozenset() if "" in wrong else keys.sections - wrong
    config = Builder(keys, places).build(Config, {name: value for name, value in tree.items() if name in sound})
    problems += [Problem(key, builder.place_of(key), message) for key, message in contradictions(config, sound)]
    return Found(config, sound, tuple(problems), file, places, count_set(Config, tree))


def _named_file(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _take_file(tree: dict[str, Any], places: dict[str, str], file: Path) -> list[Problem]:
    shown = str(file)
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            return [Problem("", shown, f"is larger than {_MAX_FILE_BYTES} bytes, this cannot be a configuration")]
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        return [Problem("", shown, f"cannot be read: {error.strerror or error}")]
    except UnicodeDecodeError as error:
        return [Problem("", shown, f"is not UTF-8: byte {error.start} is {error.reason}")]
    try:
        located = read_yaml(text)
    except YamlProblem as problem:
        return [Problem("", f"{shown}:{problem.line}", problem.message)]
    if located.value is None:
        return []
    if not isinstance(located.value, dict):
        return [Problem("", f"{shown}:1", "expected sections such as `kafka:`, each with its keys")]
    overlay(tree, located.value, Path(os.path.realpath(file)).parent, Config)
    places.update({dotted(path): f"{shown}:{line}" for path, line in located.lines.items() if path})
    return []


def _take_environment(
    tree: dict[str, Any], places: dict[str, str], environ: Mapping[str, str], keys: Keys
) -> Iterator[Problem]:
    by_squeezed_name = {_squeezed(key.replace(".", "_")): key for key in keys.dotted}
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        rest = name[len(ENVIRONMENT_PREFIX) :]
        # Kubernetes sets names such as BEARWIRE_PORT_8080_TCP for a service called bearwire: without the double
        # underscore a name is only ours if it spells a key, and is not BEARWIRE_WEB_PORT of a service bearwire-web.
        if "__" not in rest and rest.lower() not in keys.sections:
            meant = by_squeezed_name.get(_squeezed(rest))
            if meant is not None and not _is_service_link(name, environ):
                yield Problem(
                    meant,
                    f"environment variable {name}",
                    f"sections and keys are joined by two underscores, write {environment_name(meant)}",
                )
            continue
        yield from assign(Config, tree, places, rest.lower().split("__"), environ[name], f"environment variable {name}")


def _is_service_link(name: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes, or Docker before it, set the variable to say where a service is."""
    service = re.match(r"(.+?)_(?:SERVICE|PORT)(?:_|$)", name)
    return environ[name].startswith(("tcp://", "udp://", "sctp://")) or (
        service is not None and f"{service[1]}_SERVICE_HOST" in environ
    )


def _take_overrides(tree: dict[str, Any], places: dict[str, str], overrides: Iterable[str]) -> Iterator[Problem]:
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            yield Problem("", f'--set "{shown_path(key.split("."))}"', "expected section.key=value")
            continue
        yield from assign(Config, tree, places, key.strip().split("."), text, "--set")


def environment_name(key: str) -> str:
    """The environment variable of a dotted key: `kafka.client_id` is BEARWIRE_KAFKA__CLIENT_ID."""
    return ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


def _squeezed(name: str) -> str:
    return name.replace("_", "").lower()
