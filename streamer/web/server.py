"""The worker's HTTP side: the page, its data, a live event stream, health checks and Prometheus metrics.

Without accounts: it binds to loopback unless told otherwise, and `streamer.web.admission` refuses names that are not
its own (DNS rebinding) and pages of other sites. All it can change are silences, where that lets it. Everything a text
could carry leaves as JSON; the page sets it as text, never as markup.

Readers that are slow, silent or many cost bounded memory and bounded file descriptors: answers have a time limit and
leave in small pieces, pages that fall behind begin anew, connections are counted.
"""

import asyncio
import contextlib
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.resources import files
from typing import Any, Protocol

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from streamer.web.admission import Admission, cross_site_refusal, host_name, is_loopback
from streamer.web.feed import MAX_ALERTS, MAX_SERIES, Key, PageFeed, Point
from streamer.web.silencing import MAX_BODY_BYTES, Silencing

FLUSH_SECONDS = 0.5
KEEPALIVE_SECONDS = 15.0
SEND_SECONDS = 60.0  # for one answer, or one event of a stream
IDLE_SECONDS = 75.0  # for a connection on which nothing is asked
SHARE_SECONDS = 1.0
MAX_WATCHERS = 100
MAX_CONNECTIONS = 256
MOST_POINTS_BEHIND = 5 * MAX_SERIES
MOST_ALERTS_BEHIND = MAX_ALERTS
MOST_OVERVIEWS = 4

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


class _Backlog:
    """What changed since an overview; points fold by bucket. Beyond a fixed number it is lost: an overview is due."""

    def __init__(self, *, lost: bool = False) -> None:
        self.points: dict[tuple[Key, int], Point] = {}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.lost = lost

    def add_point(self, key: Key, point: Point) -> None:
        if not self.lost:
            self.points[key, point[0]] = point
            self._bound()

    def add_alert(self, alert: dict[str, Any]) -> None:
        if not self.lost:
            self.alerts[alert["id"]] = alert
            self._bound()

    def copy(self) -> "_Backlog":
        other = _Backlog(lost=self.lost)
        other.points, other.alerts = self.points.copy(), self.alerts.copy()
        return other

    def _bound(self) -> None:
        if len(self.points) > MOST_POINTS_BEHIND or len(self.alerts) > MOST_ALERTS_BEHIND:
            self.points, self.alerts, self.lost = {}, {}, True


class _Overview:
    """A serialised overview, shared by whoever asks soon after it was made, and what changed since."""

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.body = body
        self.since = _Backlog()


class _Watcher:
    """One open page: what it has not been sent yet, and the number of the overview it was sent last."""

    def __init__(self) -> None:
        self.backlog = _Backlog(lost=True)
        self.sent = 0
        self.changed = asyncio.Event()
        self.changed.set()

    def take(self) -> _Backlog:
        backlog, self.backlog = self.backlog, _Backlog()
        self.changed.clear()
        return backlog

    def go_on_from(self, backlog: _Backlog) -> None:
        self.backlog = backlog
        self.changed.set()


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
        self._feed = feed
        self._sinks = sinks
        self._silences = silences
        self._health = health
        self._registry = registry
        self._admission = admission or Admission(host=host, names=(), allowed=False, has_token=False)
        self._silencing = silencing
        self._host = host
        self._port = port
        self._machine = {host_name(socket.gethostname())}
        self._watchers: set[_Watcher] = set()
        self._overview: _Overview | None = None
        self._overviews: weakref.WeakSet[_Overview] = weakref.WeakSet()
        self._overviews_made = 0
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self.address = ""

    def take_window(self, value: bytes) -> None:
        """Take in one record of the windows topic and tell the open pages."""
        changed = self._feed.take_window(value)
        if changed is not None:
            for backlog in self._backlogs():
                backlog.add_point(*changed)

    def take_alert(self, value: bytes) -> None:
        """Take in one record of the alerts topic and tell the open pages."""
        alert = self._feed.take_alert(value)
        if alert is not None:
            for backlog in self._backlogs():
                backlog.add_alert(alert)

    def _backlogs(self) -> Iterator[_Backlog]:
        """Those that a change belongs to; whose pages are told of it."""
        if self._overview is not None:
            yield self._overview.since
        for watcher in self._watchers:
            yield watcher.backlog
            watcher.changed.set()

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
        overview = self._shared_overview()
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "application/json"})
        response.content_length = len(overview.body)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            if request.method != "HEAD":
                await _send(request, response, overview.body)
        return response

    def _shared_overview(self) -> _Overview:
        """The overview of a second ago, or a new one. Where slow readers hold on to many, it may be older."""
        if self._overview is None:
            self._overviews_made += 1
            self._overview = _Overview(self._overviews_made, orjson.dumps(self._feed.overview()))
            self._overviews.add(self._overview)
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self._let_go_of_overview)
        return self._overview

    def _let_go_of_overview(self) -> None:
        if len(self._overviews) < MOST_OVERVIEWS:
            self._overview = None
        else:
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self._let_go_of_overview)

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
        if len(self._watchers) >= MAX_WATCHERS:
            raise web.HTTPServiceUnavailable(text="too many open pages\n", headers={"Retry-After": "30"})
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with self._watching() as watcher, contextlib.suppress(ConnectionError):
            while True:
                try:
                    await asyncio.wait_for(watcher.changed.wait(), KEEPALIVE_SECONDS)
                except TimeoutError:
                    await _send(request, response, b": still here\n\n")
                    continue
                await self._send_news(request, response, watcher)
                await asyncio.sleep(FLUSH_SECONDS)
        return response

    async def _send_news(self, request: web.Request, response: web.StreamResponse, watcher: _Watcher) -> None:
        news = watcher.take()
        if news.lost:
            overview = self._shared_overview()
            if overview.number == watcher.sent:
                watcher.go_on_from(news)  # it would be told the same again: it waits for the next one
                return
            watcher.sent = overview.number
            if overview.since.lost or overview.since.points or overview.since.alerts:
                watcher.go_on_from(overview.since.copy())
            await _send(request, response, b"event: overview\ndata: ", overview.body, b"\n\n")
            return
        if news.points:
            points = {
                "watermark_ms": self._feed.watermark_ms,
                "model": self._feed.model,
                "points": [(*key, point) for (key, _), point in news.points.items()],
            }
            await _send(request, response, _event("points", points))
        for alert in news.alerts.values():
            await _send(request, response, _event("alert", alert))

    @contextlib.contextmanager
    def _watching(self) -> Iterator[_Watcher]:
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


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


def _event(name: str, data: Any) -> bytes:
    """A server-sent event; JSON holds no raw line break, so the data is one line."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _verdict(problems: list[str]) -> web.Response:
    if problems:
        return web.Response(status=503, text="".join(f"{problem}\n" for problem in problems))
    return web.Response(text="ok\n")
