"""JSON Schemas (draft 2020-12) of every topic that others read or write.

A file is called NAME-VERSION.json. Within a version fields may be added; anything else makes a new version.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

import orjson

SCHEMAS: Final = {
    "document": 1,
    "score": 1,
    "window": 1,
    "alert": 1,
    "notification": 1,
    "silence": 1,
    "dead-letter": 1,
    "late": 1,
}
"""The current version of each schema."""


def load_schema(name: str) -> dict[str, Any]:
    """The current schema of that name; raises KeyError for a name that is not in `SCHEMAS`."""
    file = resources.files(__name__) / f"{name}-{SCHEMAS[name]}.json"
    schema: dict[str, Any] = orjson.loads(file.read_bytes())
    return schema
