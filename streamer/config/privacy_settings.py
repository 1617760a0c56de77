"""The configuration of the privacy step."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from streamer.config.types import Section


class PrivacySettings(Section, frozen=True, kw_only=True):
    """What is taken out of texts before they are shown to anybody."""

    redact: Annotated[
        tuple[Literal["email", "phone", "card", "identity"], ...],
        Meta(
            description="Replaced in the excerpts that digests, alerts, the page and sinks carry: e-mail addresses, "
            "phone numbers, card numbers, identity numbers (US SSN, Chinese resident id, IBAN). Scores do not change."
        ),
    ] = ("email", "phone", "card", "identity")
