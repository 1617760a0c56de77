"""The Bearwire daemon: scoring, event-time windows, replay, backtests, the page and the command line."""

__version__ = "0.1.0"
