"""What is written to standard output when a person may be looking at it."""

from __future__ import annotations

import sys

from streamer.escaping import escaped_json


def is_on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def json_for_stdout(document: bytes) -> bytes:
    """JSON for standard output: byte for byte in a pipe or a file, without what would rewrite it on a terminal."""
    return escaped_json(document) if is_on_terminal() else document
