"""Starts worker processes in no time: everything is imported once, then each worker is a fork of this process.

Reads `config log` lines on standard input; answers each with the process id of the worker it started.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.deployment import WorkerProcess


class Nursery:
    """The process that forks workers, seen from the test. A context manager."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *unused: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def start(self, config: Path, log: Path) -> ForkedWorker:
        """A worker with this configuration, its log in a file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{config} {log}\n")
        self._process.stdin.flush()
        return ForkedWorker(int(self._process.stdout.readline()), log)


class ForkedWorker(WorkerProcess):
    """A worker that the nursery started, by its process id."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self._pidfd = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return _is_running(self._pidfd)

    def kill(self) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return


def _is_running(pidfd: int) -> bool:
    import select

    return not select.select([pidfd], [], [], 0)[0]


def main() -> None:
    """Fork workers until standard input ends."""
    import streamer.web.service
    import streamer.worker.runtime  # noqa: F401
    from streamer.cli import run

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    for line in sys.stdin:
        config, log = line.split()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            status = run(["worker", "-c", config])
            sys.stderr.flush()
            print(f"exit {status}", file=sys.stderr, flush=True)
            os._exit(status)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
