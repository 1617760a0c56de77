"""Sinks: each renders a notification for one kind of receiver and hands it over.

Rendering is pure (`webhook`, `slack`, `feishu`, `alertmanager`, `email`); `http`, `smtp` and `file` send; `queue`
tries again and gives up. Nothing here knows of Kafka.
"""
