"""docs/reference/topics.md, from the configuration, the schemas and the code that creates the topics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
from topic_examples import Example, examples

from streamer.config.settings import Config
from streamer.core.dead_letters import LETTER_REASONS
from streamer.schemas import SCHEMAS, load_schema
from streamer.worker.topics import TopicPlan, changelog_name, planned_topics


class Room(NamedTuple):
    """A topic that others read or write: its key in `topics`, its schema, and what its message key is."""

    setting: str
    schema: str
    key: str


ROOMS = (
    Room("documents", "document", "document id (a convention: Bearwire reads the id in the value)"),
    Room("scores", "score", "document id"),
    Room("windows", "window", "`book/series@start`"),
    Room("alerts", "alert", "alert id"),
    Room("notifications", "notification", "group id"),
    Room("silences", "silence", "silence id, or `id/book`"),
    Room("dead_letters", "dead-letter", "that of the original message"),
    Room("late", "late", "document id"),
)

_INTRODUCTION = """\
# Topics and records

Made from `streamer/schemas`, `streamer/config/settings.py` and `streamer/worker/topics.py` by `make docs`.

A worker creates the topics that are missing with these settings. On topics that exist it changes nothing but the
number of partitions of its two internal ones, and logs a warning where a setting differs. Names, partitions and
retention are set in the section [topics](configuration.md#topics); `bearwire doctor` compares them with the broker.

"""

_INTERNAL = """\
## Internal topics

`{digests}` carries condensed scored documents from the scorers to the watchers, one partition per book (the first
book in the configuration has partition 0), no key, in a binary format that may change between versions.

`{changelog}` (`kafka.group_prefix`, then `-watch-state-changelog`) is the changelog of the watchers' Faust table: each
book's state, in pieces.

Neither is meant to be read by others. Delete neither while the deployment lives: without them a book starts with no
memory of its past.

"""


def topics_page() -> str:
    """The page."""
    config = Config()
    plans = {plan.name: plan for plan in planned_topics(config)}
    shown = examples()
    lines = [_INTRODUCTION, *_overview(config, plans), ""]
    for room in ROOMS:
        name = getattr(config.topics, room.setting).name
        lines += [*_topic(room, name, shown[room.schema]), ""]
    lines.append(_INTERNAL.format(digests=config.topics.digests.name, changelog=changelog_name(config)))
    lines += ["## Reasons of dead letters", "", "| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {_cell(meaning)} |" for reason, meaning in LETTER_REASONS.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _overview(config: Config, plans: dict[str, TopicPlan]) -> Iterator[str]:
    yield "| topic | key | cleanup policy | partitions | kept | largest message |"
    yield "|---|---|---|---|---|---|"
    keys = {getattr(config.topics, room.setting).name: room.key for room in ROOMS}
    for name in (*keys, config.topics.digests.name, changelog_name(config)):
        plan = plans[name]
        settings = plan.settings
        size = settings.get("max.message.bytes")
        cells = (
            f"`{name}`",
            keys.get(name, "internal"),
            f"`{settings.get('cleanup.policy', 'delete')}`",
            "one per book" if plan.grow else str(plan.partitions),
            f"{int(settings['retention.ms']) / 86_400_000:g} days"
            if "retention.ms" in settings
            else "the newest of each key",
            f"{int(size) / 2**20:g} MiB" if size else "as the broker says",
        )
        yield f"| {' | '.join(cells)} |"


def _topic(room: Room, name: str, example: Example) -> Iterator[str]:
    schema = load_schema(room.schema)
    yield f"## {name}"
    yield ""
    yield f"{schema['title']}. {schema['description']}"
    yield ""
    yield f"Key: {room.key}. Schema `{room.schema}-{SCHEMAS[room.schema]}.json`, printed by"
    yield f"`bearwire config schema {room.schema}`."
    yield ""
    yield from _fields(schema)
    for title, inner in schema.get("$defs", {}).items():
        yield ""
        yield f"A `{title}`:"
        yield ""
        yield from _fields(inner)
    yield ""
    if example.headers:
        yield "An example (headers):"
        yield from _json(dict(example.headers))
        yield "with the value as it came:"
        yield ""
        yield f"    {example.value}"
        return
    yield f"An example, with the key `{example.key}`:"
    yield from _json(example.value)


def _json(value: Any) -> Iterator[str]:
    yield ""
    yield "```json"
    yield orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    yield "```"
    yield ""


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | required | meaning |"
    yield "|---|---|---|---|"
    yield from _rows(schema, "")


def _rows(schema: dict[str, Any], prefix: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, what in schema["properties"].items():
        needed = "yes" if name in required else ""
        yield f"| `{prefix}{name}` | {_cell(_type(what))} | {needed} | {_cell(what.get('description', ''))} |"
        item = what.get("items", what)
        if "properties" in item:
            yield from _rows(item, f"{prefix}{name}{'[]' if 'items' in what else ''}.")


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "const" in schema:
        return f"`{orjson.dumps(schema['const']).decode()}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    kinds = schema.get("type", "object")
    words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "items" in schema:
        return words.replace("array", f"array of {_type(schema['items'])}s")
    if schema.get("format") == "date-time":
        return "time (RFC 3339)"
    return f"{words}{_bounds(schema)}"


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "at most"}
    parts = [f"{sign} {schema[name]}" for name, sign in signs.items() if name in schema]
    return f" ({', '.join(parts)})" if parts else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
