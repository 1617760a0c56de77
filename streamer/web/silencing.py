"""Silences made and ended on the page: what a request must look like, and what is answered, in JSON."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta, Struct, field

from alerts.silences import Silence
from alerts.sinks.delivery import SecretSource, Undelivered
from streamer.escaping import escaped, quoted
from streamer.kafka.client import KafkaSetupError
from streamer.kafka.silence_topic import SilenceError, SilenceTopic, expired, new_silence, parse_length_ms
from streamer.web.admission import SHORTEST_TOKEN, Admission, is_token

MAX_BODY_BYTES: Final = 16_384
_BODY_SECONDS: Final = 10.0
_KAFKA_SECONDS: Final = 30.0

Matcher = Annotated[str, Meta(min_length=3, max_length=300)]
T = TypeVar("T")

log = logging.getLogger(__name__)


class SilenceWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/silences`: as `bearwire silences add` takes them, `LABEL=PATTERN` and a duration."""

    matchers: Annotated[tuple[Matcher, ...], Meta(min_length=1, max_length=20)]
    length: Annotated[str, Meta(max_length=20)] = field(name="for")
    reason: Annotated[str, Meta(max_length=500)]
    author: Annotated[str, Meta(max_length=100)]


class NothingMore(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/silences/ID/expire`: an empty object."""


class Silencing:
    """The routes that change silences. `token` gives what a request must show, and is asked every time."""

    def __init__(
        self,
        topic: SilenceTopic,
        admission: Admission,
        token: SecretSource | None,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._topic = topic
        self._admission = admission
        self._token = token
        self._now_ms = now_ms
        self._one_at_a_time = asyncio.Lock()

    def add_routes(self, application: web.Application) -> None:
        """Add them, and the one that says whether they may be used."""
        application.router.add_get("/api/silences/access", self._access)
        application.router.add_post("/api/silences", self._add)
        application.router.add_post("/api/silences/{id}/expire", self._expire)

    async def _access(self, request: web.Request) -> web.Response:
        return _answer(200, {"access": self._admission.access(request.host)})

    async def _add(self, request: web.Request) -> web.Response:
        try:
            wanted = await self._admitted(request, SilenceWanted)
            silence = _silence(wanted, self._now_ms())
            await self._in_kafka(lambda: self._topic.write([silence]))
        except _RefusedRequest as refused:
            return refused.answer
        log.info("silence %s was made on the page by %s at %s", silence.id, escaped(silence.author), request.remote)
        return _answer(201, msgspec.to_builtins(silence))

    async def _expire(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        try:
            await self._admitted(request, NothingMore)
            known = (await self._in_kafka(self._topic.asked)).get(name)
            if known is None:
                raise _RefusedRequest(404, f"no silence is called {quoted(name)}")
            ended = expired(known, self._now_ms())
            if ended is not known:
                await self._in_kafka(lambda: self._topic.write([ended]))
        except _RefusedRequest as refused:
            return refused.answer
        log.info("silence %s was ended on the page at %s", ended.id, request.remote)
        return _answer(200, msgspec.to_builtins(ended))

    async def _admitted(self, request: web.Request, kind: type[T]) -> T:
        """The body of a request that may change something. Raises `_RefusedRequest`."""
        refusal = self._admission.refusal(request.host, request.headers, await self._current_token())
        if refusal is not None:
            raise _RefusedRequest(*refusal)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _RefusedRequest(413, f"the body is longer than {MAX_BODY_BYTES} bytes") from None
        except TimeoutError:
            raise _RefusedRequest(408, f"the body did not come within {_BODY_SECONDS:.0f} s") from None
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _RefusedRequest(400, f"the body is not as expected: {escaped(str(error))}") from None

    async def _current_token(self) -> str | None:
        if self._token is None or not self._admission.allowed:
            return None
        try:
            token = await asyncio.to_thread(self._token)
        except Undelivered as error:
            log.warning("silences cannot be changed on the page: web.token_file: %s", error)
            raise _RefusedRequest(503, "web.token_file cannot be read; the worker's log says why") from None
        if not is_token(token):
            log.warning(
                "silences cannot be changed on the page: web.token_file must hold %d characters at least, printable "
                "ones without spaces",
                SHORTEST_TOKEN,
            )
            raise _RefusedRequest(503, "web.token_file holds no usable token; the worker's log says why")
        return token

    async def _in_kafka(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(_KAFKA_SECONDS), self._one_at_a_time:
                return await work()
        except (KafkaSetupError, TimeoutError) as error:
            log.warning("a change of silences on the page failed: %s", str(error) or "Kafka took too long")
            raise _RefusedRequest(
                503, "Kafka did not take or give it in time; look at the list before you try again"
            ) from None


class _RefusedRequest(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.answer = _answer(status, {"error": why})


def _silence(wanted: SilenceWanted, now_ms: int) -> Silence:
    reason, author = " ".join(wanted.reason.split()), " ".join(wanted.author.split())
    for name, text in (("reason", reason), ("author", author)):
        if not text:
            raise _RefusedRequest(400, f"{name}: is empty")
    try:
        length_ms = parse_length_ms(wanted.length)
    except SilenceError as error:
        raise _RefusedRequest(400, f"for: {error}") from None
    try:
        return new_silence(wanted.matchers, author=author, reason=reason, now_ms=now_ms, ends_ms=now_ms + length_ms)
    except SilenceError as error:
        raise _RefusedRequest(400, str(error)) from None


def _answer(status: int, data: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(data), content_type="application/json")
