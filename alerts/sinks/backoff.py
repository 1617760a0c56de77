"""How long to wait before the next attempt. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

_MOST_DOUBLINGS: Final = 32


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts at a message: pauses double from `first_seconds` to `longest_seconds`, for `budget_seconds` in all."""

    first_seconds: float = 1.0
    longest_seconds: float = 300.0
    budget_seconds: float = 3600.0

    def pause_seconds(self, failures: int, asked_seconds: float | None, draw: float) -> float:
        """The pause after so many failures of one message (at least 1). `draw` is uniform in [0, 1).

        Half of it is random, so that many senders do not come back at once; never below what the receiver asked for.
        """
        full = min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        return max(asked_seconds or 0.0, full * (0.5 + 0.5 * draw))


def retry_after_seconds(header: str | None, now_s: float) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110: seconds or a date); None where it says nothing usable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
        return max(0.0, at.timestamp() - now_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
