"""Prometheus metrics of a worker, read from its status at each scrape; nothing is counted twice.

`METRICS` is the reference: the manual's table of metrics is made from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from models.serving import ModelService
from models.shadow import ShadowQueue
from streamer.worker.status import LatencyHistogram, WorkerStatus

_LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

Sample = tuple[tuple[str, ...], float]


Since = Literal["process", "models", "watching", "book"]


class Described(NamedTuple):
    """One metric: its type, its help text, its label names, and for a counter with what it begins at zero: the process,
    the models in service, this worker's watching of the book, or the state of the book."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    since: Since = "process"


METRICS: dict[str, Described] = {
    "bearwire_documents_received": Described("counter", "Messages read from the documents topic."),
    "bearwire_documents_scored": Described("counter", "Documents scored by the model, late ones not among them."),
    "bearwire_documents_late": Described("counter", "Documents that came after their partition's watermark."),
    "bearwire_documents_skipped": Described("counter", "Documents in a language that no model reads, only counted."),
    "bearwire_documents_other_language": Described(
        "counter",
        "Documents in a language that no model reads, scored by the default one all the same (late ones too).",
    ),
    "bearwire_documents_lost": Described(
        "counter", "Offsets of the documents topic that were deleted before they were scored."
    ),
    "bearwire_documents_rewinds": Described(
        "counter", "Times that a documents partition ended before the offset it was read to, and was read again."
    ),
    "bearwire_dead_letters": Described("counter", "Messages sent to the dead letters, by reason.", ("reason",)),
    "bearwire_commits": Described("counter", "Offset commits of the scorer."),
    "bearwire_rebalances": Described("counter", "Times that partitions were assigned anew."),
    "bearwire_produce_failures": Described("counter", "Produce requests that failed and were tried again."),
    "bearwire_rule_reloads": Described("counter", "Files of rules read again, by outcome.", ("outcome",)),
    "bearwire_texts_per_second": Described("gauge", "Texts scored a second over the last 30 seconds."),
    "bearwire_partition_lag": Described(
        "gauge", "Records of a documents partition that wait for this worker.", ("partition",)
    ),
    "bearwire_score_latency_seconds": Described(
        "histogram", "Time from a record's own Kafka timestamp to its score being acknowledged."
    ),
    "bearwire_book_documents": Described("counter", "Documents a book has taken in.", ("book",), since="book"),
    "bearwire_book_duplicates": Described(
        "counter", "Documents whose id the book had already counted.", ("book",), since="book"
    ),
    "bearwire_book_too_late": Described(
        "counter", "Documents whose pane had closed because an idle partition was left out.", ("book",), since="book"
    ),
    "bearwire_book_gaps": Described(
        "counter",
        "Source offsets, as a rule documents, that no digest given to a book covered: what they held is missing in its "
        "windows and alerts.",
        ("book",),
        since="book",
    ),
    "bearwire_book_rewinds": Described(
        "counter",
        "Times that a book's digests ended before the one that was to come, and were read again.",
        ("book",),
        since="watching",
    ),
    "bearwire_book_unfollowed": Described(
        "counter",
        "Times that a document's company had no series because the book has its most.",
        ("book",),
        since="book",
    ),
    "bearwire_book_windows": Described("counter", "Window records produced.", ("book",), since="watching"),
    "bearwire_book_alerts": Described(
        "counter", "Alert records produced, every change of state counted.", ("book",), since="watching"
    ),
    "bearwire_book_notifications": Described(
        "counter", "Notifications produced: messages about groups.", ("book",), since="watching"
    ),
    "bearwire_book_watermark_seconds": Described("gauge", "Event time up to which panes are closed.", ("book",)),
    "bearwire_book_open_documents": Described("gauge", "Documents whose pane has not closed yet.", ("book",)),
    "bearwire_book_lag": Described("gauge", "Blocks of the digests topic that wait for this worker.", ("book",)),
    "bearwire_snapshot_age_seconds": Described("gauge", "Time since the book's state was last written.", ("book",)),
    "bearwire_snapshot_bytes": Described("gauge", "Size of the book's state.", ("book",)),
    "bearwire_restore_seconds": Described("gauge", "How long the last restore of the book's state took.", ("book",)),
    "bearwire_sink_delivered": Described(
        "counter", "Notifications that a sink's receiver has taken.", ("sink", "kind")
    ),
    "bearwire_sink_failed": Described("counter", "Notifications that became dead letters.", ("sink", "kind")),
    "bearwire_sink_outdated": Described(
        "counter", "Notifications of events too long ago to be sent (max_age_seconds).", ("sink", "kind")
    ),
    "bearwire_sink_retries": Described("counter", "Attempts after the first of a notification.", ("sink", "kind")),
    "bearwire_sink_waiting": Described("gauge", "Notifications that wait for a sink.", ("sink", "kind")),
    "bearwire_sink_queue_age_seconds": Described(
        "gauge", "How long the oldest of them has been waiting.", ("sink", "kind")
    ),
    "bearwire_sink_failing": Described("gauge", "1 while the last attempt of a sink failed, else 0.", ("sink", "kind")),
    "bearwire_cache": Described(
        "counter", "Look-ups in the cache of exact duplicates, by outcome.", ("outcome",), since="models"
    ),
    "bearwire_tokens": Described(
        "counter", "Tokens put through the model, by kind: of a text, or padding.", ("kind",), since="models"
    ),
    "bearwire_batches": Described("counter", "Batches put through the model.", since="models"),
    "bearwire_model_swaps": Described("counter", "Models told to change places, by what came of it.", ("outcome",)),
    "bearwire_shadow_texts": Described(
        "counter", "Texts that the shadow model scored too, by task.", ("task",), since="models"
    ),
    "bearwire_shadow_agreed": Described(
        "counter", "Of those, the ones that got the same label.", ("task",), since="models"
    ),
    "bearwire_shadow_difference": Described(
        "counter",
        "Half the distance between the two distributions (0 to 1), added up over those texts.",
        ("task",),
        since="models",
    ),
    "bearwire_shadow_skipped": Described(
        "counter", "Texts that the shadow model was too slow for, or failed at.", since="models"
    ),
    "bearwire_shadow_failed": Described(
        "gauge", "1 where the shadow model has failed and is compared no longer, else 0."
    ),
    "bearwire_ready": Described("gauge", "1 while the worker does its job, else 0."),
    "bearwire_seconds_since_progress": Described("gauge", "Time since anything was last durably done."),
    "bearwire_worker_info": Described(
        "gauge", "Always 1; what runs where, as labels.", ("role", "provider", "model", "version")
    ),
}


def worker_registry(
    status: WorkerStatus, *, version: str, models: Callable[[], ModelService | None]
) -> CollectorRegistry:
    """A registry of its own with the worker's metrics and those of the process."""
    registry = CollectorRegistry()
    registry.register(_WorkerCollector(status, version, models))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _WorkerCollector(Collector):
    def __init__(self, status: WorkerStatus, version: str, service: Callable[[], ModelService | None]) -> None:
        self._status = status
        self._version = version
        self._service = service

    def collect(self) -> Iterable[Metric]:
        samples = self._worker() | self._books() | self._sinks() | self._model()
        for name, described in METRICS.items():
            if described.kind == "histogram":
                yield _histogram(name, described, self._status.latency)
                continue
            family = _FAMILIES[described.kind](name, described.help, labels=described.labels)
            for labels, value in samples.get(name, ()):
                family.add_metric(labels, value)
            yield family

    def _worker(self) -> dict[str, list[Sample]]:
        status = self._status
        return {
            "bearwire_documents_received": [((), status.received)],
            "bearwire_documents_scored": [((), status.scored)],
            "bearwire_documents_late": [((), status.late)],
            "bearwire_documents_skipped": [((), status.skipped)],
            "bearwire_documents_other_language": [((), status.other_language)],
            "bearwire_documents_lost": [((), status.lost)],
            "bearwire_documents_rewinds": [((), status.rewinds)],
            "bearwire_model_swaps": [((outcome,), count) for outcome, count in status.model_swaps.items()],
            "bearwire_dead_letters": [((reason,), count) for reason, count in status.dead_letter_reasons.items()],
            "bearwire_commits": [((), status.commits)],
            "bearwire_rebalances": [((), status.rebalances)],
            "bearwire_produce_failures": [((), status.produce_failures)],
            "bearwire_rule_reloads": [((outcome,), count) for outcome, count in status.rule_reloads.items()],
            "bearwire_texts_per_second": [((), status.texts_per_second())],
            "bearwire_partition_lag": [((str(partition),), lag) for partition, lag in status.partitions.items()],
            "bearwire_ready": [((), float(not status.not_ready()))],
            "bearwire_seconds_since_progress": [((), time.monotonic() - status.progress_at)],
            "bearwire_worker_info": [((status.role, status.provider, status.model, self._version), 1.0)],
        }

    def _books(self) -> dict[str, list[Sample]]:
        samples: dict[str, list[Sample]] = {}
        for name, book in self._status.books.items():
            age = book.snapshot_age_seconds()
            values = {
                "bearwire_book_documents": book.documents,
                "bearwire_book_duplicates": book.duplicates,
                "bearwire_book_too_late": book.too_late,
                "bearwire_book_gaps": book.gaps,
                "bearwire_book_rewinds": book.rewinds,
                "bearwire_book_unfollowed": book.unfollowed,
                "bearwire_book_windows": book.windows,
                "bearwire_book_alerts": book.alerts,
                "bearwire_book_notifications": book.notifications,
                "bearwire_book_watermark_seconds": None if book.watermark_ms is None else book.watermark_ms / 1000,
                "bearwire_book_open_documents": book.open_rows,
                "bearwire_book_lag": book.lag,
                "bearwire_snapshot_age_seconds": age,
                "bearwire_snapshot_bytes": book.snapshot_bytes,
                "bearwire_restore_seconds": book.restore_seconds,
            }
            for metric, value in values.items():
                if value is not None:
                    samples.setdefault(metric, []).append(((name,), float(value)))
        return samples

    def _sinks(self) -> dict[str, list[Sample]]:
        samples: dict[str, list[Sample]] = {}
        for name, sink in self._status.sinks.items():
            values = {
                "bearwire_sink_delivered": sink.delivered,
                "bearwire_sink_failed": sink.failed,
                "bearwire_sink_outdated": sink.outdated,
                "bearwire_sink_retries": sink.retries,
                "bearwire_sink_waiting": sink.waiting,
                "bearwire_sink_queue_age_seconds": sink.age_seconds(),
                "bearwire_sink_failing": sink.failing,
            }
            for metric, value in values.items():
                samples.setdefault(metric, []).append(((name, sink.kind), float(value)))
        return samples

    def _model(self) -> dict[str, list[Sample]]:
        service = self._service()
        if service is None:
            return {}
        counters = service.models.stats
        return _shadow(service.shadow) | {
            "bearwire_cache": [(("hit",), counters.cache_hits), (("miss",), counters.cache_misses)],
            "bearwire_tokens": [
                (("text",), counters.tokens),
                (("padding",), counters.padded_tokens - counters.tokens),
            ],
            "bearwire_batches": [((), counters.batches)],
        }


def _shadow(behind: ShadowQueue | None) -> dict[str, list[Sample]]:
    if behind is None:
        return {}
    agreement = behind.shadow.agreement
    return {
        "bearwire_shadow_texts": [((task,), each.texts) for task, each in agreement.items()],
        "bearwire_shadow_agreed": [((task,), each.agreed) for task, each in agreement.items()],
        "bearwire_shadow_difference": [((task,), each.difference_sum) for task, each in agreement.items()],
        "bearwire_shadow_skipped": [((), behind.skipped)],
        "bearwire_shadow_failed": [((), float(behind.failure is not None))],
    }


_FAMILIES: dict[str, type[CounterMetricFamily | GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}


def _histogram(name: str, described: Described, latency: LatencyHistogram) -> HistogramMetricFamily:
    """The fine latency buckets folded into a few round ones; a fine bucket counts where its upper bound lies."""
    running = latency.counts.cumsum()
    fine = latency.bounds
    buckets = []
    for bound in (*_LATENCY_BOUNDS, math.inf):
        inside = int((fine <= bound).sum())
        below = running[-1] if bound == math.inf else (running[inside - 1] if inside else 0)
        buckets.append(("+Inf" if bound == math.inf else repr(bound), float(below)))
    return HistogramMetricFamily(name, described.help, buckets=buckets, sum_value=latency.total_seconds)
