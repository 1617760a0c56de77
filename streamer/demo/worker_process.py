"""One real `bearwire worker` as a subprocess, against the demo's broker."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import deque
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from streamer.config.settings import Config

_LAST_LINES: Final = 15
_STOP_SECONDS: Final = 8.0
_POLL_SECONDS: Final = 0.1
_WATERMARK: Final = re.compile(r"^bearwire_book_watermark_seconds\{[^}]*\} (\S+)$", re.MULTILINE)


class WorkerDied(Exception):
    """The worker ended although nobody asked it to, or never became ready; carries its last lines."""


class WorkerProcess:
    """`bearwire worker` with a configuration file of its own in `folder`.

    It gets a session of its own, so that a Ctrl-C in the terminal reaches the demo alone, which then stops it.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def page(self) -> str:
        """The address of the worker's page."""
        return f"http://{self._config.web.host}:{self._config.web.port}/"

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        settings = self._folder / "bearwire.yaml"
        settings.write_bytes(msgspec.yaml.encode(_changed(self._config)))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BEARWIRE_")}
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "from streamer.cli import main; main()", "worker", "--config", str(settings),
                cwd=self._folder, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    async def ready(self, timeout_seconds: float) -> None:
        """Wait until `/readyz` says yes. Raises WorkerDied where the process ends before, or at the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds), aiohttp.ClientSession() as session:
                while not await self._answers(session):
                    self.check()
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise WorkerDied(f"the worker was not ready after {timeout_seconds:.0f} s\n{self._last_lines()}") from None

    async def watermark_ms(self) -> int | None:
        """Event time up to which the worker has closed its panes and produced what they caused; None while unknown."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"{self.page}metrics") as response,
            ):
                found = _WATERMARK.search(await response.text())
        except (aiohttp.ClientError, TimeoutError):
            return None
        return round(float(found[1]) * 1000) if found else None

    def check(self) -> None:
        """Raises WorkerDied where the process has ended."""
        if self._process is not None and self._process.returncode is not None:
            raise WorkerDied(f"the worker ended with status {self._process.returncode}\n{self._last_lines()}")

    async def stop(self) -> int | None:
        """Ask it to finish, insist after a while, and return its exit status."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        return process.returncode

    @property
    def _log(self) -> Path:
        return self._folder / "worker.log"

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.page}readyz", timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _last_lines(self) -> str:
        with self._log.open(encoding="utf-8", errors="replace") as log:
            lines = deque(log, maxlen=_LAST_LINES)
        return "its last lines:\n" + "".join(f"  {line}" for line in lines)


def _changed(config: Config) -> dict[str, dict[str, object]]:
    """The sections as plain mappings, with only the keys that differ from the defaults."""
    plain = msgspec.to_builtins(config)
    default = msgspec.to_builtins(Config())
    return {
        section: {key: value for key, value in keys.items() if value != default[section][key]}
        for section, keys in plain.items()
        if isinstance(keys, dict) and keys != default[section]
    }
