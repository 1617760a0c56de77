"""docs/reference/metrics.md, from `streamer.metrics.METRICS`."""

from __future__ import annotations

from streamer.metrics import METRICS, Described

_INTRODUCTION = """\
# Metrics

Made from `streamer/metrics.py` by `make docs`.

A worker serves them at `/metrics` on its page's port (`web.port`, 8080) in the Prometheus text format. Names are as
they are scraped: counters end in `_total`, a histogram has the series `_bucket`, `_sum` and `_count`. Counters start
at zero with the process. Metrics of a book are there only on the worker that watches it, metrics of a partition on
the worker that scores it. Beside these there are the Python client's own: `process_*` and `python_*`.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def metrics_page() -> str:
    """The page."""
    return _INTRODUCTION + "".join(_row(name, described) for name, described in METRICS.items())


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
