"""What a look at the broker tells: can it be reached, which Kafka is it, are the topics as they should be."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest

from streamer.config.settings import Config
from streamer.doctor import Finding
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error, quiet_clients, servers
from streamer.kafka.topic_reader import open_consumer, partitions_of, read_to_end
from streamer.worker.topics import TopicPlan, planned_topics

_CONNECT_SECONDS: Final = 5.0
_FETCH: Final = 1
_RELEASES: Final = {
    5: "0.11",
    6: "1.0",
    7: "1.1",
    8: "2.0",
    10: "2.1",
    11: "2.3",
    12: "2.7",
    13: "3.1",
    15: "3.5",
    16: "3.7",
    17: "3.9",
    18: "4.1",
}
"""The first Apache Kafka release that speaks each version of the Fetch request."""


async def kafka_findings(config: Config) -> AsyncIterator[Finding]:
    """Everything that concerns Kafka. Reads only."""
    quiet_clients()
    reachable = False
    for server in servers(config.kafka):
        finding = await _reach(server)
        reachable = reachable or finding.state == "ok"
        yield finding
    if not reachable:
        return
    try:
        arguments = client_arguments(config.kafka, purpose="doctor")
    except KafkaSetupError as error:
        yield Finding("broker", "broken", str(error))
        return
    admin = AIOKafkaAdminClient(**arguments)
    try:
        try:
            await asyncio.wait_for(admin.start(), 4 * _CONNECT_SECONDS)
        except Exception as error:
            advice = "compare kafka.security_protocol with the listener"
            yield Finding("broker", "broken", plain_error(error, config.kafka), advice)
            return
        cluster = await admin.describe_cluster()
        brokers = len(cluster["brokers"])
        yield Finding("broker", "ok", f"{brokers} broker{'s' if brokers != 1 else ''}, {await _version(arguments)}")
        async for finding in _topics(admin, config, brokers):
            yield finding
    finally:
        await admin.close()
    yield await _clock(config)


async def _reach(server: str) -> Finding:
    host, _, port = server.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), _CONNECT_SECONDS)
    except TimeoutError:
        return Finding("network", "broken", f"{server} does not answer", "is a firewall between, is the name right?")
    except OSError as error:
        return Finding(
            "network", "broken", f"no broker at {server}: {_why(error)}", "is the broker running, is the name right?"
        )
    writer.close()
    return Finding("network", "ok", f"{server} accepts connections")


def _why(error: OSError) -> str:
    """Why no connection was made, in the system's words; a name with several addresses has an error for each."""
    numbers = [error.errno] if error.errno else map(int, re.findall(r"\[Errno (\d+)\]", str(error)))
    said = [os.strerror(number) for number in dict.fromkeys(numbers) if number in errno.errorcode]
    return ", ".join(said) or error.strerror or str(error)


async def _version(arguments: dict[str, Any]) -> str:
    client = AIOKafkaClient(**arguments)
    try:
        await client.bootstrap()
        response = await client.send(client.get_random_node(), ApiVersionRequest())
    except KafkaError as error:
        return f"version unknown ({type(error).__name__})"
    finally:
        await client.close()
    newest = {api: highest for api, _, highest in (tuple(entry)[:3] for entry in response.api_versions)}
    fetch = newest.get(_FETCH, 0)
    release = next((name for version, name in sorted(_RELEASES.items(), reverse=True) if version <= fetch), None)
    return f"speaks like Apache Kafka {release} or newer" if release else "of a very old protocol"


async def _topics(admin: AIOKafkaAdminClient, config: Config, brokers: int) -> AsyncIterator[Finding]:
    plans = {plan.name: plan for plan in planned_topics(config)}
    existing = set(await admin.list_topics())
    missing = [name for name in plans if name not in existing]
    if missing:
        yield Finding(
            "topics", "warning", f"not there yet: {', '.join(missing)}", "`bearwire worker` creates them when it starts"
        )
    present = [plan for name, plan in plans.items() if name in existing]
    if not present:
        return
    described = {str(topic["topic"]): topic for topic in await admin.describe_topics([plan.name for plan in present])}
    settings = await _settings(admin, [plan.name for plan in present])
    for plan in present:
        problems = list(topic_problems(plan, described.get(plan.name), settings.get(plan.name, {}), brokers))
        if not problems:
            partitions = len(described[plan.name]["partitions"]) if plan.name in described else plan.partitions
            policy = settings.get(plan.name, {}).get("cleanup.policy", "policy unknown")
            yield Finding("topics", "ok", f"{plan.name}: {partitions} partitions, {policy}")
        for finding in problems:
            yield finding


def topic_problems(
    plan: TopicPlan, described: dict[str, Any] | None, settings: dict[str, str], brokers: int
) -> Iterator[Finding]:
    """Where a topic differs from its plan in a way that matters."""
    partitions = described["partitions"] if described else []
    if partitions and len(partitions) != plan.partitions and not (plan.grow and len(partitions) > plan.partitions):
        yield Finding(
            "topics",
            "warning",
            f"{plan.name} has {len(partitions)} partitions, configured are {plan.partitions}",
            "it stays as it is; a worker grows only what is its own",
        )
    policy = settings.get("cleanup.policy")
    wanted = plan.settings.get("cleanup.policy", "delete")
    if policy is not None and set(policy.split(",")) != set(wanted.split(",")):
        loses = "compact" in policy and "compact" not in wanted
        yield Finding(
            "topics",
            "broken" if loses else "warning",
            f"{plan.name} has cleanup.policy={policy}, it should be {wanted}",
            "compaction deletes records that are still needed" if loses else "old records are not deleted as planned",
        )
    size, needed = settings.get("max.message.bytes"), plan.settings.get("max.message.bytes")
    if size is not None and needed is not None and int(size) < int(needed):
        yield Finding(
            "topics",
            "warning",
            f"{plan.name} takes messages of {int(size):,} bytes at most, {int(needed):,} are wanted",
            f"kafka-configs --alter --topic {plan.name} --add-config max.message.bytes={needed}",
        )
    copies = min((len(part["replicas"]) for part in partitions), default=brokers)
    if copies < 2 <= brokers:
        yield Finding("topics", "warning", f"{plan.name} has one copy on {brokers} brokers", "a lost disk loses it")
    lost = [part["partition"] for part in partitions if part["leader"] < 0]
    if lost:
        yield Finding("topics", "broken", f"{plan.name} has no leader for partition {lost[0]}", "is a broker down?")


async def _settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    except KafkaError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for response in responses:
        for _code, _message, _kind, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def _clock(config: Config) -> Finding:
    """Compares this clock with the newest records' own times: one from the future gives a wrong clock away."""
    topics = (config.topics.documents.name, config.topics.scores.name, config.topics.digests.name)
    newest_ms = -1
    async with open_consumer(config.kafka) as consumer:
        known = await consumer.topics()
        parts = [part for topic in topics if topic in known for part in await partitions_of(consumer, topic)]
        if parts:
            ends = await consumer.end_offsets(parts)
            last = {part: end - 1 for part, end in ends.items() if end > 0}
            async for record in read_to_end(consumer, list(last), last):
                newest_ms = max(newest_ms, record.timestamp_ms)
    if newest_ms < 0:
        return Finding("clock", "skipped", "no record in Kafka to compare this clock with")
    ahead = newest_ms / 1000 - time.time()
    if ahead > 2:
        return Finding(
            "clock",
            "warning",
            f"the newest record is {ahead:.0f} s ahead of this clock",
            "is NTP running on both sides?",
        )
    return Finding("clock", "ok", f"no record is ahead of this clock (the newest is {-ahead:.0f} s old)")
