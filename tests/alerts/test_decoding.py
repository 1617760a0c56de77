"""Records that nobody of ours wrote: whatever is in their bytes, readers hear of it in one way."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from alerts.notifications import decode_notification
from alerts.records import decode_alert
from alerts.silences import decode_silence

ODD = {
    "empty": b"",
    "no JSON": b"\xff\xfe",
    "no UTF-8 in a text": b'{"id":"\xff"}',
    "half a surrogate": b'{"id":"\\ud800"}',
    "nested too deeply": b'{"other":' + b"[" * 100_000,
    "another kind": b"[]",
}


@pytest.mark.parametrize("decode", [decode_alert, decode_notification, decode_silence])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_whatever_is_in_a_record_it_is_one_or_a_decode_error(decode: Callable[[bytes], object], odd: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(odd)
