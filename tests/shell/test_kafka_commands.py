"""`bearwire replay` and `bearwire dead-letters` against a broker."""

from __future__ import annotations

import asyncio
import gzip
import signal
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import Result

import streamer.commands.backtest
from streamer.config.settings import KafkaSettings
from streamer.core.dead_letters import REPLAYS, dead_letter_headers
from streamer.core.records import DeadLetter, SourceRecord
from streamer.kafka.client import KafkaSetupError
from streamer.kafka.topic_reader import TopicRecord, open_consumer, partitions_of, read_to_end
from streamer.timestamps import format_rfc3339, parse_rfc3339
from tests.shell.commands import bearwire, process_arguments
from tests.shell.words import WordScorer

pytestmark = pytest.mark.embedded


class Deployment:
    """Topics of its own on the shared broker."""

    def __init__(self, servers: str) -> None:
        name = uuid4().hex[:8]
        self.servers = servers
        self.documents = f"{name}.documents"
        self.dead_letters = f"{name}.dead-letters"
        topics = ("documents", "scores", "digests", "windows", "alerts", "notifications", "silences", "late")
        self.settings = [
            f"kafka.bootstrap_servers={servers}",
            f"kafka.group_prefix={name}",
            f"topics.dead_letters.name={self.dead_letters}",
            "topics.documents.partitions=2",
            *(f"topics.{topic}.name={name}.{topic}" for topic in topics),
        ]

    @property
    def arguments(self) -> list[str]:
        return [part for setting in self.settings for part in ("--set", setting)]

    def run(self, *arguments: str) -> Result:
        return bearwire(*arguments, *self.arguments)

    async def records(self, topic: str) -> list[TopicRecord]:
        async with open_consumer(KafkaSettings(bootstrap_servers=self.servers)) as consumer:
            try:
                partitions = await partitions_of(consumer, topic)
            except KafkaSetupError:
                return []
            return [record async for record in read_to_end(consumer, partitions)]

    async def die(self, *letters: DeadLetter) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.servers)
        await producer.start()
        try:
            for letter in letters:
                await producer.send_and_wait(
                    self.dead_letters, letter.record.value, key=letter.record.key, headers=dead_letter_headers(letter)
                )
        finally:
            await producer.stop()


@pytest.fixture
def deployment(embedded_broker: str) -> Deployment:
    return Deployment(embedded_broker)


def letter(
    deployment: Deployment, offset: int, value: bytes | None, reason: str = "invalid_json", replays: int = 0
) -> DeadLetter:
    headers = (("trace", b"t"), *(((REPLAYS, str(replays).encode()),) if replays else ()))
    return DeadLetter(
        deployment.documents, 0, SourceRecord(offset, 1000 + offset, b"k%d" % offset, value, headers), reason, "why"
    )


LINES = [
    b'{"id":"a","text":"Norvale slides","published_at":"2026-01-05T09:00:00Z","extra":{"kept": 1.50}}',
    b"not json at all \xff",
    b'{"id":"b","text":"Tessera gains", "published_at":"2026-01-05T09:00:01Z"}',
    b'{"id":7,"text":"Number as id","published_at":"2026-01-05T09:00:02Z"}',
]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_replay_publishes_every_line_byte_for_byte(deployment: Deployment, tmp_path: Path, name: str) -> None:
    content = b"\n".join(LINES) + b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    result = deployment.run("replay", str(tmp_path / name), "--to", "kafka", "--speed", "max")
    assert result.exit_code == 0, result.output
    assert "4 messages published" in result.stderr
    records = asyncio.run(deployment.records(deployment.documents))
    assert sorted(record.value for record in records) == sorted(LINES)
    assert {record.key for record in records} == {b"a", b"b", b"7", None}


def test_replay_reads_tables(deployment: Deployment, tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    table.write_text(
        'id,text,published_at,symbols,weight,title\n1,"Norvale, again",2026-01-05T09:00:00Z,NRV;TSS,2,\n',
        encoding="utf-8",
    )
    assert deployment.run("replay", str(table), "--speed", "max").exit_code == 0
    (record,) = asyncio.run(deployment.records(deployment.documents))
    assert orjson.loads(record.value) == {
        "id": "1",
        "text": "Norvale, again",
        "published_at": "2026-01-05T09:00:00Z",
        "symbols": ["NRV", "TSS"],
        "weight": 2.0,
    }


def test_replay_shifted_to_now_ends_now_and_changes_nothing_else(deployment: Deployment, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(LINES))
    before = time.time()
    assert deployment.run("replay", str(source), "--speed", "max", "--shift-to-now").exit_code == 0
    values = {record.key: record.value for record in asyncio.run(deployment.records(deployment.documents))}
    assert values[None] == LINES[1]
    assert values[b"a"].endswith(b',"extra":{"kept": 1.50}}')
    newest = parse_rfc3339(orjson.loads(values[b"7"])["published_at"])
    assert before * 1000 - 1 <= newest <= time.time() * 1000
    assert newest - parse_rfc3339(orjson.loads(values[b"a"])["published_at"]) == 2000


def test_an_interrupted_replay_ends_cleanly_with_what_it_sent(deployment: Deployment, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(LINES[0] + b"\n" + LINES[0].replace(b"09:00:00", b"10:00:00"))
    process = subprocess.Popen(
        process_arguments("replay", str(source), "--speed", "1x", *deployment.arguments), stderr=subprocess.PIPE
    )

    while not asyncio.run(deployment.records(deployment.documents)):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"1 messages published" in errors
    assert b"interrupted" in errors
    assert b"Traceback" not in errors


def test_no_broker_is_one_plain_sentence() -> None:
    result = bearwire("replay", __file__, "--set", "kafka.bootstrap_servers=127.0.0.1:1")
    assert result.exit_code == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_dead_letters_are_listed_with_reason_and_origin(deployment: Deployment) -> None:
    asyncio.run(deployment.die(letter(deployment, 5, b"{\x1b[31m"), letter(deployment, 6, None, "tombstone")))
    result = deployment.run("dead-letters", "list")
    assert result.exit_code == 0, result.output
    assert f"{deployment.documents}/0/5" in result.stdout
    assert "no value" in result.stdout
    assert "2 dead letters" in result.stderr
    result = deployment.run("dead-letters", "list", "--reason", "tombstone", "--json")
    (record,) = map(orjson.loads, result.stdout.splitlines())
    assert record["origin"] == {"topic": deployment.documents, "partition": 0, "offset": 6}
    assert record["value"] is None


def test_dead_letters_are_exported_whole(deployment: Deployment, tmp_path: Path) -> None:
    asyncio.run(deployment.die(letter(deployment, 1, b"\xff\xfe"), letter(deployment, 2, b"{}", "missing_field")))
    out = tmp_path / "letters.jsonl"
    assert deployment.run("dead-letters", "export", "-o", str(out)).exit_code == 0
    records = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert [record.get("value_base64", record.get("value")) for record in records] == ["//4=", "{}"]
    assert deployment.run("dead-letters", "export", "--values", "-o", str(out)).exit_code == 0
    assert out.read_bytes() == b"\xff\xfe\n{}\n"


def test_a_second_replay_of_dead_letters_does_not_double(deployment: Deployment, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(LINES[0])
    assert deployment.run("replay", str(source), "--speed", "max").exit_code == 0
    asyncio.run(
        deployment.die(
            letter(deployment, 1, b"one"),
            letter(deployment, 2, b"two", "missing_field"),
            letter(deployment, 3, b"worn out", replays=3),
        )
    )
    dry = deployment.run("dead-letters", "replay", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "2 dead letters would be sent" in dry.stderr
    only = deployment.run("dead-letters", "replay", "--reason", "missing_field")
    assert "1 dead letters sent again" in only.stderr, only.output
    both = deployment.run("dead-letters", "replay")
    assert "1 dead letters sent again: 1 invalid_json" in both.stderr
    assert "1 left out, replayed 3 times already" in both.stderr
    assert "0 dead letters sent again" in deployment.run("dead-letters", "replay").stderr
    asyncio.run(deployment.die(letter(deployment, 9, b"three")))
    assert "1 dead letters sent again" in deployment.run("dead-letters", "replay").stderr
    again = [r for r in asyncio.run(deployment.records(deployment.documents)) if r.value != LINES[0]]
    assert sorted((r.key, r.value) for r in again) == [(b"k1", b"one"), (b"k2", b"two"), (b"k9", b"three")]
    assert all(dict(r.headers) == {"trace": b"t", REPLAYS: b"1"} for r in again)


def test_replays_survive_a_second_death(deployment: Deployment) -> None:
    record = SourceRecord(4, None, None, b"x", (("trace", b"t"), (REPLAYS, b"2")))
    headers = dict(dead_letter_headers(DeadLetter(deployment.documents, 1, record, "invalid_json", "why")))
    assert headers[REPLAYS] == b"2"
    assert headers["trace"] == b"t"


async def test_a_backtest_reads_a_topic_between_two_times(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamer.commands.backtest, "load_models", lambda settings: WordScorer())
    producer = AIOKafkaProducer(bootstrap_servers=deployment.servers)
    await producer.start()
    day = parse_rfc3339("2026-03-04T00:00:00Z")
    for hour in range(24):
        at = day + hour * 3_600_000
        value = {"id": f"d{hour}", "text": "a bad day", "published_at": format_rfc3339(at)}
        await producer.send_and_wait(deployment.documents, orjson.dumps(value), timestamp_ms=at)
    await producer.stop()

    async def documents(*bounds: str) -> dict[str, int]:
        output = tmp_path / ("-".join(bounds) or "all").replace(":", "")
        result = await asyncio.to_thread(deployment.run, "backtest", "kafka:", "-o", str(output), *bounds)
        assert result.exit_code == 0, result.output
        counts: dict[str, int] = orjson.loads((output / "metrics.json").read_bytes())["documents"]
        return counts

    assert (await documents())["in"] == 24
    assert (await documents("--since", "2026-03-04T06:00:00Z"))["in"] == 18
    assert (await documents("--since", "2026-03-04T06:00:00Z", "--until", "2026-03-04T10:00:00Z"))["scored"] == 4
    refused = deployment.run("backtest", "kafka:", "news.jsonl", "-o", str(tmp_path / "no"))
    assert refused.exit_code == 2
    assert "a topic is read alone" in refused.output
