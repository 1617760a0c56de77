"""The worker's HTTP side: the page, its data, a live event stream, health checks and Prometheus metrics.

Without accounts: it binds to loopback unless told otherwise, and `streamer.web.admission` refuses names that are not
its own (DNS rebinding) and pages of other sites. All it can change are silences, where that lets it. Everything a text
could carry leaves as JSON; the page sets it as text, never as markup.

Readers that are slow, silent or many cost bounded memory and bounded file descriptors: answers have a time limit and
leave in small pieces, connections are counted; `streamer.web.watchers` bounds what waits for an open page.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any, Protocol

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from streamer.web.admission import Admission, cross_site_refusal, host_name, is_loopback
from streamer.web.feed import PageFeed
from streamer.web.silencing import MAX_BODY_BYTES, Silencing
from streamer.web.watchers import Watcher, Watchers

FLUSH_SECONDS = 0.5
KEEPALIVE_SECONDS = 15.0
SEND_SECONDS = 60.0  # for one answer, or one event of a stream
IDLE_SECONDS = 75.0  # for a connection on which nothing is asked
MAX_CONNECTIONS = 256

_ACCEPT_QUEUE = 128
_PIECE_BYTES = 65_536
_UNDER_ANY_NAME = ("/healthz", "/readyz", "/metrics")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "chart.js": "text/javascript",
    "elements.js": "text/javascript",
    "silences.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Health(Protocol):
    """What the health endpoints ask of the worker; an empty list means all is well."""

    def dead(self) -> list[str]:
        """Why the process cannot recover by itself and should be restarted."""

    def not_ready(self) -> list[str]:
        """Why the worker is not doing its job right now."""


class _TurnedAway(asyncio.Protocol):
    """A connection beyond the most that may be open: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class PageServer:
    """Serves one PageFeed, of each sink what `sinks` says, and the `silences`. Fed by the worker from the topics.

    `silencing` changes silences, where `admission` lets it; without it nobody can on this page.
    """

    def __init__(
        self,
        feed: PageFeed,
        health: Health,
        registry: CollectorRegistry,
        *,
        host: str,
        port: int,
        sinks: Callable[[], list[dict[str, Any]]] = list,
        silences: Callable[[], list[dict[str, Any]]] = list,
        admission: Admission | None = None,
        silencing: Silencing | None = None,
    ) -> None:
        self._watchers = Watchers(feed)
        self._sinks = sinks
        self._silences = silences
        self._health = health
        self._registry = registry
        self._admission = admission or Admission(host=host, names=(), allowed=False, has_token=False)
        self._silencing = silencing
        self._host = host
        self._port = port
        self._machine = {host_name(socket.gethostname())}
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self.address = ""

    def take_window(self, value: bytes) -> None:
        """Take in one record of the windows topic and tell the open pages."""
        self._watchers.take_window(value)

    def take_alert(self, value: bytes) -> None:
        """Take in one record of the alerts topic and tell the open pages."""
        self._watchers.take_alert(value)

    async def start(self) -> None:
        """Bind and serve; sets `address`. Raises OSError when the port is taken."""
        runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=2.0, keepalive_timeout=IDLE_SECONDS
        )
        await runner.setup()
        try:
            listener = await asyncio.get_running_loop().create_server(
                lambda: _protocol(runner), self._host, self._port, reuse_address=True, backlog=_ACCEPT_QUEUE
            )
        except OSError as error:
            await runner.cleanup()
            raise OSError(
                error.errno, f"the page cannot listen on {self._host}:{self._port} ({error.strerror}); set web.port"
            ) from error
        self._runner, self._listener = runner, listener
        port = listener.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"http://{host}:{port}/"
        if not is_loopback(self._host):
            # A resolver may take long, and nothing can stop it: no thread that anybody waits for.
            threading.Thread(target=_add_full_name, args=(self._machine,), daemon=True).start()

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def application(self) -> web.Application:
        """The aiohttp application with all routes."""
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        application.router.add_get("/", self._page)
        application.router.add_get("/static/{name}", self._static)
        application.router.add_get("/api/overview", self._overview_now)
        application.router.add_get("/api/sinks", self._sinks_now)
        application.router.add_get("/api/silences", self._silences_now)
        if self._silencing is not None:
            self._silencing.add_routes(application)
        application.router.add_get("/api/events", self._events, allow_head=False)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            response = await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(_HEADERS)
            await _finish(request, refusal)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        await _finish(request, response)
        return response

    def _admit(self, request: web.Request) -> None:
        """Raises the HTTPException that refuses a request. Probes and scrapers read no texts, and come by any name."""
        if request.path in _UNDER_ANY_NAME and not is_loopback(self._host):
            return
        refusal = self._admission.reading_refusal(request.host, self._machine)
        if refusal is None and request.path.startswith("/api/"):
            refusal = cross_site_refusal(request.headers)
        if refusal is not None:
            kind = web.HTTPMisdirectedRequest if refusal.status == 421 else web.HTTPForbidden
            raise kind(text=orjson.dumps({"error": refusal.why}).decode() + "\n", content_type="application/json")

    async def _page(self, _request: web.Request) -> web.Response:
        page = files("streamer.web").joinpath("static", "index.html").read_bytes()
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _STATIC:
            raise web.HTTPNotFound(text="no such file\n")
        body = files("streamer.web").joinpath("static", name).read_bytes()
        return web.Response(body=body, content_type=_STATIC[name], charset="utf-8")

    async def _overview_now(self, request: web.Request) -> web.StreamResponse:
        overview = self._watchers.overview()
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "application/json"})
        response.content_length = len(overview.body)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            if request.method != "HEAD":
                await _send(request, response, overview.body)
        return response

    async def _sinks_now(self, _request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self._sinks()), content_type="application/json")

    async def _silences_now(self, _request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self._silences()), content_type="application/json")

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.dead())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.not_ready())

    async def _metrics(self, _request: web.Request) -> web.Response:
        response = web.Response(body=generate_latest(self._registry))
        response.headers["Content-Type"] = CONTENT_TYPE_PLAIN_0_0_4
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._watchers.are_full:
            raise web.HTTPServiceUnavailable(text="too many open pages\n", headers={"Retry-After": "30"})
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with self._watchers.watching() as watcher, contextlib.suppress(ConnectionError):
            while True:
                try:
                    await asyncio.wait_for(watcher.changed.wait(), KEEPALIVE_SECONDS)
                except TimeoutError:
                    await _send(request, response, b": still here\n\n")
                    continue
                await self._send_news(request, response, watcher)
                await asyncio.sleep(FLUSH_SECONDS)
        return response

    async def _send_news(self, request: web.Request, response: web.StreamResponse, watcher: Watcher) -> None:
        """A method of its own, so that a page that waits for news holds on to no overview."""
        for event in self._watchers.news(watcher):
            await _send(request, response, *event)


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    """What a new connection speaks. A burst may pass the limit by as many as wait to be accepted."""
    server = runner.server
    if server is None or len(server.connections) >= MAX_CONNECTIONS:
        return _TurnedAway()
    return server()


def _add_full_name(names: set[str]) -> None:
    """Add the machine's name with its domain, as `hostname -f` tells it."""
    with contextlib.suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)
        names.update(host_name(canonical) for _, _, _, canonical, _ in found if canonical)


async def _send(request: web.Request, response: web.StreamResponse, *parts: bytes) -> None:
    """Write the parts piece by piece, so that little of them waits for a slow reader. Raises ConnectionError."""
    async with _time_limit(request):
        for part in parts:
            pieces = memoryview(part)
            for start in range(0, len(part), _PIECE_BYTES):
                await response.write(pieces[start : start + _PIECE_BYTES])


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    """Send what is left of an answer, which aiohttp would do without a time limit."""
    with contextlib.suppress(ConnectionError):
        async with _time_limit(request):
            await response.prepare(request)
            await response.write_eof()


@contextlib.asynccontextmanager
async def _time_limit(request: web.Request) -> AsyncIterator[None]:
    """Drop the connection after SEND_SECONDS and raise ConnectionError; merely closed, it would wait for its reader."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("the reader took too long") from None


def _verdict(problems: list[str]) -> web.Response:
    if problems:
        return web.Response(status=503, text="".join(f"{problem}\n" for problem in problems))
    return web.Response(text="ok\n")
