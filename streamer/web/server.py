"""The worker's HTTP side: the page, its data, a live event stream, health checks and Prometheus metrics.

Without accounts: it binds to loopback unless told otherwise, and refuses names it was not bound for (DNS rebinding).
All it can change are silences, where `streamer.web.admission` lets it. Everything a text could carry leaves as JSON;
the page sets it as text, never as markup.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any, Protocol

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from streamer.web.admission import Admission
from streamer.web.feed import Key, PageFeed, Point
from streamer.web.silencing import MAX_BODY_BYTES, Silencing

FLUSH_SECONDS = 0.5
KEEPALIVE_SECONDS = 15.0
MAX_WATCHERS = 100

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


class _Watcher:
    """One open page: what it has not been sent yet. Points fold by bucket, so a slow page costs bounded memory."""

    def __init__(self) -> None:
        self.points: dict[tuple[Key, int], Point] = {}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.changed = asyncio.Event()

    def take(self) -> tuple[dict[tuple[Key, int], Point], dict[str, dict[str, Any]]]:
        points, alerts = self.points, self.alerts
        self.points, self.alerts = {}, {}
        self.changed.clear()
        return points, alerts


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
        self._watchers: set[_Watcher] = set()
        self._runner: web.AppRunner | None = None
        self.address = ""

    def take_window(self, value: bytes) -> None:
        """Take in one record of the windows topic and tell the open pages."""
        changed = self._feed.take_window(value)
        if changed is not None:
            key, point = changed
            for watcher in self._watchers:
                watcher.points[key, point[0]] = point
                watcher.changed.set()

    def take_alert(self, value: bytes) -> None:
        """Take in one record of the alerts topic and tell the open pages."""
        alert = self._feed.take_alert(value)
        if alert is not None:
            for watcher in self._watchers:
                watcher.alerts[alert["id"]] = alert
                watcher.changed.set()

    async def start(self) -> None:
        """Bind and serve; sets `address`. Raises OSError when the port is taken."""
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise OSError(
                error.errno, f"the page cannot listen on {self._host}:{self._port} ({error.strerror}); set web.port"
            ) from error
        self._runner = runner
        port = runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"http://{host}:{port}/"

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def application(self) -> web.Application:
        """The aiohttp application with all routes."""
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        application.router.add_get("/", self._page)
        application.router.add_get("/static/{name}", self._static)
        application.router.add_get("/api/overview", self._overview)
        application.router.add_get("/api/sinks", self._sinks_now)
        application.router.add_get("/api/silences", self._silences_now)
        if self._silencing is not None:
            self._silencing.add_routes(application)
        application.router.add_get("/api/events", self._events)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not self._admission.may_read(request.host):
                raise web.HTTPMisdirectedRequest(
                    text='{"error":"Host: this server was not asked for by its own name"}\n',
                    content_type="application/json",
                )
            response = await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _page(self, _request: web.Request) -> web.Response:
        page = files("streamer.web").joinpath("static", "index.html").read_bytes()
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _STATIC:
            raise web.HTTPNotFound(text="no such file\n")
        body = files("streamer.web").joinpath("static", name).read_bytes()
        return web.Response(body=body, content_type=_STATIC[name], charset="utf-8")

    async def _overview(self, _request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self._feed.overview()), content_type="application/json")

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
        async with self._watching() as watcher:
            with contextlib.suppress(ConnectionResetError):
                await response.write(_event("overview", self._feed.overview()))
                while True:
                    try:
                        await asyncio.wait_for(watcher.changed.wait(), KEEPALIVE_SECONDS)
                    except TimeoutError:
                        await response.write(b": still here\n\n")
                        continue
                    points, alerts = watcher.take()
                    if points:
                        news = {
                            "watermark_ms": self._feed.watermark_ms,
                            "model": self._feed.model,
                            "points": [(*key, point) for (key, _), point in points.items()],
                        }
                        await response.write(_event("points", news))
                    for alert in alerts.values():
                        await response.write(_event("alert", alert))
                    await asyncio.sleep(FLUSH_SECONDS)
        return response

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[_Watcher]:
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


def _event(name: str, data: Any) -> bytes:
    """A server-sent event; JSON holds no raw line break, so the data is one line."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _verdict(problems: list[str]) -> web.Response:
    if problems:
        return web.Response(status=503, text="".join(f"{problem}\n" for problem in problems))
    return web.Response(text="ok\n")
