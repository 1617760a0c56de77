"""The Faust app: the digests' agent, the state table, and the scorer as one of its services."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import faust
import msgspec

from alerts.desk import Desk
from streamer.config.settings import Config
from streamer.core.watch import Watch
from streamer.core.watch_settings import WatchSettings
from streamer.kafka.client import COMPRESSION, LONGEST_POLL_INTERVAL_MS, client_arguments, faust_arguments
from streamer.worker import faust_consumer
from streamer.worker.book_state import BookState
from streamer.worker.book_watcher import BookWatcher
from streamer.worker.missed_digests import DigestLog, acknowledged
from streamer.worker.publishing import FencedPublisher, Publisher
from streamer.worker.state_table import StateTable
from streamer.worker.status import WorkerStatus
from streamer.worker.topics import watch_app_id

_MESSAGE_BYTES: Final = 8 * 1024 * 1024
_BUFFERED_DIGESTS: Final = 32
_COMMIT_SECONDS: Final = 1.0
_METADATA_SECONDS: Final = 30
"""How long it may take until a digests topic that was made anew is seen."""


def faust_app(config: Config) -> faust.App:
    """An app that is configured and holds nothing yet.

    Its settings follow from how we use it: no web server, at-least-once, the memory store (the state is small and
    its changelog compacted), no waiting for streams at a rebalance (what is in flight is taken in again), few
    buffered digests because each may be large, and no topics of its own making: they exist, and Faust would end where
    a broker dies just then.
    """
    worker = config.worker
    quiet_faust()
    data = Path(worker.data_dir)
    data.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        watch_app_id(config),
        **faust_arguments(config.kafka),
        processing_guarantee="at_least_once",
        store="memory://",
        datadir=data,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=config.digest_partitions,
        topic_replication_factor=config.topics.replication_factor or 1,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=_BUFFERED_DIGESTS,
        stream_recovery_delay=0.0,
        broker_session_timeout=min(worker.session_timeout_seconds, config.kafka.request_timeout_seconds),
        broker_heartbeat_interval=max(0.3, worker.session_timeout_seconds / 10),
        broker_rebalance_timeout=worker.rebalance_timeout_seconds,
        broker_max_poll_interval=LONGEST_POLL_INTERVAL_MS / 1000,
        broker_commit_interval=_COMMIT_SECONDS,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=_METADATA_SECONDS * 1000,
        consumer_max_fetch_size=_MESSAGE_BYTES,
        producer_max_request_size=_MESSAGE_BYTES,
        producer_compression_type=COMPRESSION,
        producer_request_timeout=config.kafka.request_timeout_seconds,
        loghandlers=[],
    )
    app.transport = faust_consumer.FetchingTransport(app.conf.broker_consumer, app)
    return app


def book_maker(
    config: Config, status: WorkerStatus, desks: Callable[[int], Desk]
) -> Callable[[int, StateTable], BookWatcher]:
    """Makes the watcher of a book by its index. `desks` makes its desk, empty."""
    options = client_arguments(config.kafka, purpose="watch")
    source = config.topics.documents.name
    digests = DigestLog(config.kafka, config.topics.digests.name)

    def make(index: int, table: StateTable) -> BookWatcher:
        settings = WatchSettings.of(config, config.books[index])
        state = BookState(
            settings.book,
            index,
            table=table,
            status=status.book(settings.book),
            settings=settings_fingerprint(settings),
            rebuild=config.worker.unusable_state == "rebuild",
            new_watch=lambda: Watch(settings, desks(index), source=source),
            restore_watch=lambda chunks: Watch.restore(settings, desks(index), chunks, source=source),
        )
        return BookWatcher(
            settings.book,
            index,
            topics=config.topics,
            state=state,
            log_publisher=Publisher(options),
            publisher=FencedPublisher(options, f"{watch_app_id(config)}-{settings.book}"),
            status=status.book(settings.book),
            acknowledged=lambda: acknowledged(config.kafka, watch_app_id(config), config.topics.digests.name, index),
            ends_before=lambda offset: digests.ends_before(index, offset),
        )

    return make


def settings_fingerprint(settings: WatchSettings) -> str:
    """A short hash of everything that a book's state must fit: all settings but its rules and the limit of series."""
    plain: Any = msgspec.to_builtins(settings, str_keys=True)
    del plain["max_series"]
    plain["companies"] = sorted(plain["companies"])
    if not plain["sectors"]:
        del plain["sectors"]  # so that a book without any keeps the state that it had before there were sectors
    return hashlib.blake2b(msgspec.json.encode(plain, order="sorted"), digest_size=8).hexdigest()


def quiet_faust() -> None:
    """Leave Faust's and mode's chatter out of the log; their warnings and errors stay."""
    for name in ("faust", "mode", faust_consumer.__name__):
        logging.getLogger(name).setLevel(logging.WARNING)
