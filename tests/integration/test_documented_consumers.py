"""The programs that docs/consume-alerts.md and docs/sinks.md show, run as they stand there."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alerts.sinks.signature import signature_headers
from tests.docs.pages import blocks
from tests.integration.deployment import Deployment, until
from tests.integration.reading import create_topic, life, produce
from tests.sinks.notifications import alert, now_ms


def shown(page: str, marker: str) -> str:
    """The one program on a page that holds these words."""
    (code,) = [
        each.code for each in blocks() if each.page == page and each.language == "python" and marker in each.code
    ]
    return code


def run(code: str, **changes: str) -> dict[str, Any]:
    """The names that the program defines; `changes` are put in for what is only an example in it."""
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(compile(code, "shown", "exec"), names)
    return names


def test_the_webhook_receiver_shown_knows_our_signature() -> None:
    is_from_bearwire = run(shown("docs/sinks.md", "hmac"))["is_from_bearwire"]
    headers = signature_headers("s3cret", b"{}", now_ms() // 1000)
    assert is_from_bearwire("s3cret", headers, b"{}")
    assert not is_from_bearwire("s3cret", headers, b"{ }")
    assert not is_from_bearwire("other", headers, b"{}")
    assert not is_from_bearwire("s3cret", signature_headers("s3cret", b"{}", now_ms() // 1000 - 600), b"{}")
    assert not is_from_bearwire("s3cret", {}, b"{}")


@pytest.mark.embedded
async def test_the_plain_consumer_shown_keeps_a_table_and_tells_once(
    embedded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deployment = Deployment(embedded, tmp_path)
    topic = await create_topic(deployment)
    one = life("company:A", 1)[0]
    over = msgspec.structs.replace(one, sequence=2, state="resolved", change="resolved")
    muted = alert("company:B", notify=False)
    silenced, heard, ended = (alert("company:C", sequence=number, line=f"C {number}") for number in (1, 2, 3))
    silenced = msgspec.structs.replace(silenced, notify=False)
    heard = msgspec.structs.replace(heard, change="updated")
    ended = msgspec.structs.replace(ended, change="resolved", state="resolved", notify=False)
    old = alert("company:D", at_ms=now_ms() - 3 * 86_400_000)
    await produce(deployment, one, one, over, muted, one, silenced, heard, ended, old)
    changes = {"localhost:9092": embedded, '"bearwire.alerts"': f'"{topic}"', "desk-alerts": deployment.name}
    main = run(shown("docs/consume-alerts.md", "sqlite3"), **changes)["main"]
    consuming = asyncio.create_task(main())

    async def taken() -> bool:
        with sqlite3.connect("alerts.db") as table:
            try:
                states = dict(table.execute("SELECT id, state FROM alerts").fetchall())
                outbox = table.execute("SELECT line FROM outbox").fetchall()
            except sqlite3.OperationalError:
                return False
        told = [line for (line,) in outbox]
        return states == {
            one.id: "resolved", muted.id: "firing", silenced.id: "resolved", old.id: "firing"
        } and sorted(told) == sorted([one.line, over.line, "C 2", "C 3"])  # fmt: skip

    try:
        await until(taken, "all are in the table; of what nothing mutes any more begin and end were told")
    finally:
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)


@pytest.mark.embedded
async def test_the_typed_reader_shown_prints_what_fired(
    embedded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = Deployment(embedded, tmp_path)
    topic = await create_topic(deployment)
    await produce(deployment, *life("company:A", 1))
    changes = {'"localhost:9092"': f'"{embedded}", topic="{topic}"', "desk-alerts": deployment.name}
    main = run(shown("docs/consume-alerts.md", "AlertReader"), **changes)["main"]
    reading = asyncio.create_task(main())
    printed = ""

    async def has_printed() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return "high company:A 7.0 [firing high]" in printed

    try:
        await until(has_printed, "the alert is printed")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
