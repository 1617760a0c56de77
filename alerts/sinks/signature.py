"""Signed webhooks: HMAC-SHA256 (RFC 2104) over the time and the body, so that neither can be forged or played again."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

TIMESTAMP: Final = "Bearwire-Timestamp"
SIGNATURE: Final = "Bearwire-Signature"
VERSION: Final = "v1"


def signature_headers(secret: str, body: bytes, now_s: int) -> dict[str, str]:
    """The two headers that sign `body` as sent at `now_s`, seconds since 1970."""
    return {TIMESTAMP: str(now_s), SIGNATURE: f"{VERSION}={_digest(secret, str(now_s), body)}"}


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float, tolerance_s: float = 300) -> bool:
    """Whether `headers` sign `body` with `secret`, not longer than `tolerance_s` ago. For receivers."""
    stamp = headers.get(TIMESTAMP, "")
    if not stamp.isascii() or not stamp.isdecimal() or abs(now_s - int(stamp[:15])) > tolerance_s:
        return False
    wanted = f"{VERSION}={_digest(secret, stamp, body)}"
    return hmac.compare_digest(wanted.encode(), headers.get(SIGNATURE, "").encode())


def _digest(secret: str, stamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
