"""One worker from start to end: the page, the broker, the model, the Faust app with its roles, and the way out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from streamer import __version__
from streamer.config.load import ConfigError
from streamer.config.settings import Config
from streamer.kafka.client import KafkaSetupError, last_words, quiet_clients
from streamer.web.service import PageService
from streamer.worker.app import book_maker, faust_app
from streamer.worker.broker import connected_admin, watch_broker
from streamer.worker.deliverer import Deliverer
from streamer.worker.inference import InferenceQueue
from streamer.worker.metrics import worker_registry
from streamer.worker.models_in_service import ModelsInService
from streamer.worker.publishing import PublishError
from streamer.worker.rule_sets import RuleSets
from streamer.worker.scorer import Scorer
from streamer.worker.silence_feed import SilenceFeed
from streamer.worker.status import WorkerStatus
from streamer.worker.watchdog import Watchdog
from streamer.worker.watcher import Watcher

_BEAT_SECONDS: Final = 0.5
_RULES_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 15.0
_STEADY_SECONDS: Final = 60.0
"""What ran for so long did run: its next failure is a first one."""

log = logging.getLogger(__name__)


class WorkerError(Exception):
    """The worker had to end; the message is its last word."""


class Worker:
    """A worker with the role of the configuration. `run` returns when it was told to stop, after finishing."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.status = WorkerStatus(config.worker.role)
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._models: ModelsInService | None = None
        self._scorer: Scorer | None = None
        self._scoring = False
        self._scoring_ended = asyncio.Event()
        self._deliverer: Deliverer | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._watcher: Watcher | None = None
        self._rules: RuleSets | None = None
        self._silences = SilenceFeed(config)
        self._app: faust.App | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    def stop(self) -> None:
        """Begin a graceful stop: finish what was taken, flush, write down, commit."""
        self._stop.set()

    def reload(self, again: Callable[[], Config]) -> None:
        """Read the rules again, in the configuration that `again` reads and in files of their own.

        What is wrong with them is logged, and the rules then stay.
        """
        if self._rules is None:
            return
        try:
            config = again()
        except ConfigError as error:
            self.status.rule_reloads["refused"] += 1
            log.error("the books keep their rules, the configuration is refused: %s", error)
            return
        self._rules.reload(config)

    async def run(self) -> None:
        """Run until `stop`. Raises WorkerError, or what made the start impossible (ConfigError, BundleError, ...)."""
        quiet_clients()
        loop = asyncio.get_running_loop()

        def stalled(why: str) -> None:
            loop.call_soon_threadsafe(self._fail, WorkerError(why))

        watchdog = Watchdog(self.status, self.config.worker.stall_timeout_seconds, stalled)
        self._beside(self._beat())
        watchdog.start()
        page = self._page()
        try:
            if page is not None:
                await page.start()
            await self._until_stopped(self._start())
            await self._stop.wait()
            self.status.hold("worker", "stopping")
            await self._finish()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if page is not None:
                await page.stop()
            watchdog.stop()
        if self._failure is not None:
            raise WorkerError(_said(self._failure)) from self._failure

    def _page(self) -> PageService | None:
        if not self.config.web.enabled:
            return None
        registry = worker_registry(
            self.status,
            version=__version__,
            models=lambda: None if self._models is None else self._models.service,
        )
        return PageService(self.config, self.status, registry, self.status.sinks_now, self._silences.shown)

    async def _start(self) -> None:
        role = self.config.worker.role
        rules = self._rules = RuleSets(self.config, self.status)
        self.status.hold("worker", "starting")
        self.status.hold("broker", "connecting")
        loading = None
        if role in ("all", "score"):
            self.status.hold("model", "loading")
            loading = asyncio.create_task(asyncio.to_thread(ModelsInService, self.config.model, self.config.books))
        admin = await connected_admin(self.config, self.status)
        self._beside(watch_broker(admin, self.config, self.status))
        if role in ("all", "sinks") and self.config.sinks.all():
            self._deliverer = Deliverer(self.config, self.status)
            self._delivering = asyncio.create_task(self._keep_running("sinks", self._deliverer.run))
        if role in ("all", "watch") or self.config.web.enabled:
            self._beside(self._silences.follow())
        log.info("starting as role %s", role)
        if role != "sinks":
            app = self._app = faust_app(self.config)
            if loading is not None:
                await self._with_scorer(app, await loading)
            if role == "score":
                app.producer_only = True
            else:
                self._with_watcher(app, rules)
            await app.start()
        self.status.release("worker")

    def swap_models(self, reload: Callable[[], Config]) -> None:
        """Begin to put the models in service that the configuration names by now; a batch under way is not touched."""
        if self._models is None:
            log.warning("told to swap models, but this worker serves none (yet)")
            return
        self._beside(self._models.swap(reload, self.status))

    async def _with_scorer(self, app: faust.App, in_service: ModelsInService) -> None:
        self._models = in_service
        models = in_service.models
        self.status.provider = models.provider_in_use
        self.status.model = models.version_id
        self.status.release("model")
        log.info("model %s on %s", models.version_id, models.provider_in_use)
        scorer = self._scorer = Scorer(
            self.config,
            InferenceQueue(in_service.predict, status=self.status),
            self.status,
            labels=models.labels,
            model=models.version_id,
            languages=in_service.languages,
        )
        worker = self

        @app.service
        class Scoring(faust.Service):
            """The scorer as a part of the Faust app: it starts and ends with it."""

            logger = logging.getLogger("faust")

            @faust.Service.task
            async def score(self) -> None:
                await worker._keep_scoring(scorer)

    def _with_watcher(self, app: faust.App, rules: RuleSets) -> None:
        make = book_maker(self.config, self.status, rules.desk)
        silences = self._silences
        self._watcher = Watcher(app, self.config, self.status, make, self._fail, rules=rules, silences=silences)
        self._beside(self._watcher.keep_house())
        self._beside(self._look_at_rules(rules))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done beside the rest until the worker ends; an error that it does not deal with ends it."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fail(error)

        task = asyncio.create_task(work)
        task.add_done_callback(ended)
        self._tasks.append(task)

    async def _look_at_rules(self, rules: RuleSets) -> None:
        while True:
            await asyncio.sleep(_RULES_SECONDS)
            await asyncio.to_thread(rules.look)

    async def _keep_scoring(self, scorer: Scorer) -> None:
        self._scoring = True
        try:
            await self._keep_running("scorer", scorer.run)
        finally:
            self._scoring_ended.set()

    async def _keep_running(self, part: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part, and run it again after a failure that may pass, with growing pauses."""
        pause = _FIRST_PAUSE_SECONDS
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    await run()
                except (KafkaError, PublishError, KafkaSetupError, OSError) as error:
                    if time.monotonic() - began >= _STEADY_SECONDS:
                        pause = _FIRST_PAUSE_SECONDS
                    self.status.hold(part, _said(error))
                    wait = pause * random.uniform(0.5, 1.0)  # noqa: S311
                    log.warning("the part %s stopped (%s), starts again in %.1f s", part, _said(error), wait)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), wait)
                    pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            self._fail(error)

    async def _finish(self) -> None:
        """Finish, flush, write down and commit, each within what is left of the time for it."""
        limit = self.config.worker.shutdown_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                if self._scorer is not None:
                    self._scorer.stop()
                    if self._scoring:
                        await self._scoring_ended.wait()
                if self._watcher is not None and self._failure is None:
                    await self._watcher.finish()
                if self._deliverer is not None and self._delivering is not None:
                    self._deliverer.stop()
                    await self._delivering
                    await self._deliverer.close()
                if self._app is not None:
                    await self._app.stop()
        except TimeoutError:
            self._failure = self._failure or WorkerError(
                f"the worker could not finish within {limit:.0f} s (worker.shutdown_timeout_seconds); what it had not "
                "written down is done again by the next one"
            )
        except Exception as error:
            if self._failure is None:
                raise
            log.warning("while ending: %s", _said(error))  # what ended it stays the reason

    async def _until_stopped(self, starting: Any) -> None:
        """Wait for the start, unless the worker is told to stop before."""
        task = asyncio.ensure_future(starting)
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if task.done():
            task.result()
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self.status.note_beat()
            app = self._app
            if app is not None and app.crashed and self._failure is None:
                self._fail(_of_faust(app.crash_reason))
            await asyncio.sleep(_BEAT_SECONDS)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            log.error("the worker ends: %s", _said(error), exc_info=None if isinstance(error, WorkerError) else error)
            self._failure = error
            self.status.fail(_said(error))
        self._stop.set()


async def run_worker(config: Config, reload: Callable[[], Config]) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal ends the process at once. Raises as `Worker.run`.

    SIGUSR1 puts the models in service that the configuration, read again by `reload`, names by then.
    SIGHUP reads the rules again, those in the configuration and those in files.
    """
    worker = Worker(config)
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if worker._stop.is_set():
            os._exit(128 + number)
        log.info("%s: finishing; a second one ends at once", number.name)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGUSR1, worker.swap_models, reload)
    loop.add_signal_handler(signal.SIGHUP, worker.reload, reload)
    try:
        await worker.run()
    except Exception as error:
        # Clients that could not be closed say so when they are collected, and Faust that its agent was cancelled; the
        # last word is why the worker ended.
        loop.set_exception_handler(lambda _, context: log.debug("while ending: %s", context.get("message")))
        for client in ("faust", "mode"):
            logging.getLogger(client).setLevel(logging.CRITICAL)
        why = last_words(error) if isinstance(error, KafkaError) else " ".join(_said(error).splitlines())
        _leave_within(_LEAVE_SECONDS, why)
        raise
    log.info("the worker has finished")


def _leave_within(seconds: float, why: str) -> None:
    """End the process even where a task or thread of a client library does not let go; `why` is the last line."""

    def leave() -> None:
        sys.stderr.write(f"bearwire: {why}\n")
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def _of_faust(reason: BaseException | None) -> BaseException:
    """Why the worker ends where Faust did: its producer gives up for good where a send takes too long."""
    if reason is None:
        return WorkerError("Faust ended for no reason that it gave")
    if isinstance(reason, ProducerSendError):
        return WorkerError(
            f"Kafka took no state of the books for longer than kafka.request_timeout_seconds ({reason}); the next "
            "worker goes on from what was written before"
        )
    return reason


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
