"""The topics that a worker needs: creates what is missing, and says where what exists differs."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamer.config.settings import Config

LARGE_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Documents of 10 MB must reach the worker to become dead letters, and leave it whole."""

_INTERNAL_MESSAGE_BYTES: Final = 8 * 1024 * 1024
_CREATE_TIMEOUT_MS: Final = 30_000
_MOST_COPIES: Final = 3

log = logging.getLogger(__name__)


class TopicsError(Exception):
    """A topic cannot be created or used as it is; says which and what to do."""


class TopicPlan(NamedTuple):
    """One topic as it should be. Topics that `grow` are given more partitions where they have fewer."""

    name: str
    partitions: int
    settings: dict[str, str]
    grow: bool = False


def changelog_name(config: Config) -> str:
    """The changelog of the watchers' table, as Faust names it."""
    return f"{watch_app_id(config)}-state-changelog"


def watch_app_id(config: Config) -> str:
    """The Faust app's id, which is also the consumer group of the watchers."""
    return f"{config.kafka.group_prefix}-watch"


def score_group(config: Config) -> str:
    """The consumer group of the scorers."""
    return f"{config.kafka.group_prefix}-score"


def sinks_group(config: Config) -> str:
    """The consumer group that delivers notifications."""
    return f"{config.kafka.group_prefix}-sinks"


def planned_topics(config: Config) -> list[TopicPlan]:
    """Every topic that a worker reads or writes, with the settings it is created with."""
    topics = config.topics
    large = {"max.message.bytes": str(LARGE_MESSAGE_BYTES)}
    larger = {"max.message.bytes": str(LARGE_MESSAGE_BYTES + 1024 * 1024)}
    deleted = {"cleanup.policy": "delete"}
    latest = {"cleanup.policy": "compact,delete"}
    internal = {"max.message.bytes": str(_INTERNAL_MESSAGE_BYTES)}
    plans = [
        _plan(topics.documents.name, topics.documents.partitions, topics.documents.retention_hours, deleted | large),
        TopicPlan(
            topics.digests.name,
            config.digest_partitions,
            deleted | internal | _retention(topics.digests.retention_hours),
            grow=True,
        ),
        _plan(topics.windows.name, topics.windows.partitions, topics.windows.retention_hours, latest),
        _plan(topics.alerts.name, topics.alerts.partitions, topics.alerts.retention_hours, latest | internal),
        _plan(
            topics.notifications.name,
            topics.notifications.partitions,
            topics.notifications.retention_hours,
            latest | internal,
        ),
        _plan(topics.silences.name, topics.silences.partitions, topics.silences.retention_hours, latest),
        _plan(
            topics.dead_letters.name,
            topics.dead_letters.partitions,
            topics.dead_letters.retention_hours,
            deleted | larger,
        ),
        _plan(topics.late.name, topics.late.partitions, topics.late.retention_hours, deleted | large),
        TopicPlan(changelog_name(config), config.digest_partitions, _changelog_settings(), grow=True),
    ]
    if topics.scores.enabled:
        plans.append(
            _plan(topics.scores.name, topics.scores.partitions, topics.scores.retention_hours, deleted | large)
        )
    return plans


async def ensure_topics(admin: AIOKafkaAdminClient, config: Config) -> None:
    """Create the topics that are missing, let internal ones grow, and warn where one differs from its plan.

    Raises TopicsError where a topic cannot be created, KafkaError where the broker cannot be asked.
    """
    plans = planned_topics(config)
    existing = set(await admin.list_topics())
    missing = [plan for plan in plans if plan.name not in existing]
    if missing:
        copies = config.topics.replication_factor or await _usual_copies(admin)
        for plan in missing:
            await _create(admin, plan, copies)
    await _check_partitions(admin, [plan for plan in plans if plan.name in existing])
    await _check_settings(admin, [plan for plan in plans if plan.name in existing])


def _plan(name: str, partitions: int, retention_hours: float, settings: dict[str, str]) -> TopicPlan:
    return TopicPlan(name, partitions, settings | _retention(retention_hours))


def _retention(hours: float) -> dict[str, str]:
    return {"retention.ms": str(int(hours * 3_600_000))}


def _changelog_settings() -> dict[str, str]:
    """Small segments that are compacted soon, so that a restart reads little more than the state itself."""
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(_INTERNAL_MESSAGE_BYTES),
        "segment.bytes": str(32 * 1024 * 1024),
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.2",
        "delete.retention.ms": "3600000",
    }


async def _usual_copies(admin: AIOKafkaAdminClient) -> int:
    """Three, or as many as there are brokers. (aiokafka's protocol version knows no "as the broker likes".)"""
    cluster = await admin.describe_cluster()
    return max(1, min(_MOST_COPIES, len(cluster["brokers"])))


async def _create(admin: AIOKafkaAdminClient, plan: TopicPlan, replication_factor: int) -> None:
    wanted = NewTopic(plan.name, plan.partitions, replication_factor, topic_configs=plan.settings)
    response = await admin.create_topics([wanted], timeout_ms=_CREATE_TIMEOUT_MS)
    for topic, code, *message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            log.info("created topic %s with %d partitions", topic, plan.partitions)
        elif error is not TopicAlreadyExistsError:
            detail = f" ({message[0]})" if message and message[0] else ""
            raise TopicsError(
                f"topic {topic} cannot be created: {error.__name__}{detail}; create it yourself with "
                f"{plan.partitions} partitions and {plan.settings}, or allow this user to"
            )


async def _check_partitions(admin: AIOKafkaAdminClient, plans: list[TopicPlan]) -> None:
    if not plans:
        return
    found = {
        str(topic["topic"]): len(topic["partitions"])
        for topic in await admin.describe_topics([plan.name for plan in plans])
    }
    for plan in plans:
        count = found.get(plan.name, plan.partitions)
        if plan.grow and count < plan.partitions:
            await admin.create_partitions({plan.name: NewPartitions(plan.partitions)})
            log.info("topic %s grew from %d to %d partitions", plan.name, count, plan.partitions)
        elif count != plan.partitions and not plan.grow:
            log.warning("topic %s has %d partitions, configured are %d; it stays", plan.name, count, plan.partitions)


async def _check_settings(admin: AIOKafkaAdminClient, plans: list[TopicPlan]) -> None:
    if not plans:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, plan.name) for plan in plans]
    try:
        responses = await admin.describe_configs(resources)
    except KafkaError as error:
        log.warning("the topics' settings cannot be read and were not checked: %s", error)
        return
    found: dict[str, dict[str, str]] = {}
    for response in responses:
        for _code, _message, _kind, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    for plan in plans:
        for key, value in plan.settings.items():
            actual = found.get(plan.name, {}).get(key)
            if actual is not None and _canonical(actual) != _canonical(value):
                log.warning("topic %s has %s=%s, configured is %s; it stays", plan.name, key, actual, value)


def _canonical(value: str) -> str:
    return ",".join(sorted(part.strip() for part in value.split(",")))
