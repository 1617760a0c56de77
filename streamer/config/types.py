"""The kinds of values that the configuration is made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Duration = Annotated[float, Meta(extra={"duration": True})]
FilePath = Annotated[str, Meta(min_length=1, extra={"path": True})]
TopicName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Names = tuple[Annotated[str, Meta(min_length=1)], ...]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the configuration that is written as a mapping."""
