"""docs/reference/metrics.md, from `streamer.worker.metrics.METRICS`."""

from __future__ import annotations

from itertools import starmap

from streamer.worker.metrics import METRICS, Described, Since

_INTRODUCTION = """\
# Metrics

Made from `streamer/worker/metrics.py` by `make docs`.

A worker serves them at `/metrics` on its page's port (`web.port`, 8080) in the Prometheus text format. Names are as
they are scraped: counters end in `_total`, a histogram has the series `_bucket`, `_sum` and `_count`. Metrics of a
book are there only on the worker that watches it, metrics of a partition on the worker that scores it. Beside these
there are the Python client's own: `process_*` and `python_*`.

Counters start at zero with the process, but for these:

{exceptions}

| metric | type | labels | meaning |
|---|---|---|---|
"""

_BEGINS: dict[Since, str] = {
    "models": "with the models in service, so again with every swap",
    "watching": "when this worker begins to watch the book",
    "book": "with the state of the book, which restarts and other workers go on with",
}


def metrics_page() -> str:
    """The page."""
    exceptions = "\n".join(f"- {when}: {_counters(since)}" for since, when in _BEGINS.items())
    return _INTRODUCTION.format(exceptions=exceptions) + "".join(starmap(_row, METRICS.items()))


def _counters(since: Since) -> str:
    return ", ".join(f"`{scraped_names(*each)[0]}`" for each in METRICS.items() if each[1].since == since)


def scraped_names(name: str, described: Described) -> tuple[str, ...]:
    """The series that Prometheus sees of a metric."""
    if described.kind == "counter":
        return (f"{name}_total",)
    if described.kind == "histogram":
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)


def _row(name: str, described: Described) -> str:
    shown = f"{name}_total" if described.kind == "counter" else name
    labels = ", ".join(f"`{label}`" for label in described.labels)
    return f"| `{shown}` | {described.kind} | {labels} | {described.help} |\n"
