"""What reading alerts must do on every broker; run on the embedded one and on Apache Kafka."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from click.testing import Result

from alerts.reader import AlertReader
from alerts.records import AlertRecord, decode_alert
from tests.integration.deployment import Deployment
from tests.shell.commands import bearwire, process_arguments
from tests.sinks.notifications import alert, now_ms


async def create_topic(deployment: Deployment, partitions: int = 2) -> str:
    """The alerts topic, empty; its name."""
    topic = deployment.config.topics.alerts.name
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.config.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()
    return topic


async def produce(deployment: Deployment, *values: bytes | AlertRecord | None) -> None:
    """Records of the alerts topic, one after the other."""
    producer = await deployment.producer(deployment.config.topics.alerts.name)
    try:
        for value in values:
            key, content = (value.key, value.encode()) if isinstance(value, AlertRecord) else (b"x", value)
            await producer.send_and_wait(deployment.config.topics.alerts.name, content, key=key)
    finally:
        await producer.stop()


def life(series: str, count: int) -> list[AlertRecord]:
    """The changes of one alert."""
    first = alert(series)
    return [msgspec.structs.replace(first, sequence=number) for number in range(1, count + 1)]


async def take(reader: AlertReader, count: int) -> list[tuple[str, int]]:
    """The next records, as (series, sequence)."""
    found = []
    async with asyncio.timeout(60):
        async for each in reader:
            found.append((each.series, each.sequence))
            if len(found) == count:
                break
    return found


async def check_reader(deployment: Deployment, *, exact: bool) -> None:
    """Each change once and in order; a group continues where it stood; what is no alert is left out.

    `exact`: whether the broker names the true end of a partition; the embedded one is a record short of it.
    """
    topic = await create_topic(deployment)
    servers = deployment.config.kafka.bootstrap_servers
    one, two = life("a", 3), life("b", 2)
    await produce(deployment, *one, b"nonsense", None, one[1], *two)
    async with AlertReader(servers, topic=topic, since_ms=now_ms() - 600_000, follow=False) as reader:
        found = [(each.series, each.sequence) async for each in reader]
        assert sorted(found) == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
        assert [each for each in found if each[0] == "a"] == [("a", 1), ("a", 2), ("a", 3)]
        assert reader.foreign == 1
    async with AlertReader(servers, topic=topic, since_ms=now_ms() + 600_000, follow=False) as reader:
        assert [each async for each in reader] == []
    group = f"{deployment.name}-desk"
    async with AlertReader(servers, topic=topic, group=group) as reader:
        begun = await take(reader, 3)
    async with AlertReader(servers, topic=topic, group=group) as reader:
        rest = await take(reader, 3)
    again = next(each for each in rest if each[0] == begun[-1][0])
    assert again == begun[-1], "the one that was not dealt with comes again, before what follows it in its partition"
    assert sorted({*begun, *rest}) == sorted(found)
    async with AlertReader(servers, topic=topic) as reader:
        await produce(deployment, *life("new", 1))
        seen = await take(reader, 1)
        while not exact and seen[-1] != ("new", 1):
            seen += await take(reader, 1)
        assert seen[-1] == ("new", 1)
        assert len(seen) <= (1 if exact else 3)
    with pytest.raises(LookupError, match="no-such-topic"):
        async with AlertReader(servers, topic="no-such-topic"):
            pass
    with pytest.raises(ValueError, match="group"):
        AlertReader(servers, group="g", since_ms=0)


def started(command: list[str], output: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """A process with its output on a pipe, or on the given descriptor. SIGINT ends it also where tests run in the
    background of a shell, which ignores it for them and all that they start."""
    return subprocess.Popen(
        command, stdout=output, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )


async def check_tail(deployment: Deployment) -> None:
    """`bearwire alerts tail` filters, ends on SIGINT and on a closed pipe, and draws for a terminal."""
    await create_topic(deployment)
    hostile = alert("company:EVIL", line="[firing] \x1b[31mred [bold]\u202e", severity="critical")
    await produce(deployment, *life("company:A", 2), *life("topic:B", 1), hostile)

    def tail(*arguments: str) -> Any:
        return asyncio.to_thread(bearwire, "alerts", "tail", "-c", str(deployment.file), *arguments)

    async def series(*arguments: str) -> list[str]:
        result: Result = await tail("--since", "1h", "--no-follow", *arguments)
        assert result.exit_code == 0, result.output
        return sorted({decode_alert(line).series for line in result.stdout_bytes.splitlines()})

    assert await series() == ["company:A", "company:EVIL", "topic:B"]
    assert await series("--series", "company:*") == ["company:A", "company:EVIL"]
    assert await series("--severity", "critical") == ["company:EVIL"]
    assert await series("--state", "resolved") == []
    assert await series("--book", "other") == []
    assert (await tail("--since", "yesterday")).exit_code == 2
    assert (await tail("--no-follow")).exit_code == 2

    following = process_arguments("alerts", "tail", "--since", "1h", "-c", str(deployment.file))
    process = started(following)
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert decode_alert(line).book == "main"
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.to_thread(process.communicate, None, 30)
    assert process.returncode == 130
    assert b"Traceback" not in errors

    process = started(following)
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    assert await asyncio.to_thread(process.wait, 30) == 141, "it notices though nothing comes"
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()

    ours, theirs = pty.openpty()
    process = started([*following, "--severity", "critical", "--no-follow"], theirs)
    os.close(theirs)
    assert await asyncio.to_thread(process.wait, 60) == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "fired" in shown and "red [bold]" in shown
    assert "\x1b[31mred" not in shown and "\u202e" not in shown
