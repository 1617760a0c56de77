"""One HTTP POST with everything bounded: time, redirects (none), and how much of an answer is read."""

from __future__ import annotations

import base64
import errno
import os
import ssl
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from alerts.sinks.backoff import retry_after_seconds
from alerts.sinks.delivery import Refused, SecretSource, TryLater
from alerts.sinks.plain import one_line

MOST_ANSWER_BYTES: Final = 16 * 1024
_SHOWN_CHARACTERS: Final = 200
_RETRIED: Final = frozenset({408, 429})


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where to post and how to get there. The URL itself may be a secret (Slack's and Feishu's are)."""

    url: SecretSource
    timeout_seconds: float = 10.0
    bearer: SecretSource | None = None
    username: str | None = None
    password: SecretSource | None = None
    ca_file: str | None = None
    proxy: SecretSource | None = None
    agent: str = "bearwire"


class Answer(NamedTuple):
    """What came back: the status, and the first bytes of the body."""

    status: int
    body: bytes


class Poster:
    """Posts to one endpoint, over connections that are kept. `close` when done."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, headers: Mapping[str, str], *, path: str = "", whole: bool = False) -> Answer:
        """Post `body`; the answer of a 2xx status. `path` is appended to the URL; `whole` says the body matters.

        Raises TryLater for 408, 429, 5xx and everything that is no answer, Refused for every other status.
        """
        try:
            session = self._opened()
            async with session.post(
                self._url(path),
                data=body,
                headers={**headers, **self._authorization()},
                allow_redirects=False,
                proxy=self._endpoint.proxy() if self._endpoint.proxy is not None else None,
            ) as response:
                wanted = whole or response.status >= 300
                answer = Answer(response.status, await _beginning(response) if wanted else b"")
                after = response.headers.get("Retry-After")
        except TimeoutError as error:
            raise TryLater(f"no answer within {self._endpoint.timeout_seconds:g} s") from error
        except aiohttp.InvalidURL:
            raise Refused("the URL is none") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise TryLater(f"its certificate is not to be trusted: {one_line(str(error.certificate_error))}") from error
        except aiohttp.ClientResponseError as error:
            # Its own words show the address, which may be a secret.
            raise TryLater(f"its answer is no HTTP: {one_line(error.message, _SHOWN_CHARACTERS)}") from None
        except aiohttp.ClientConnectorError as error:
            raise TryLater(f"cannot connect to {error.host}:{error.port}: {_why(error.os_error)}") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise TryLater(f"{type(error).__name__}: {one_line(str(error))}") from error
        judge(answer, after, time.time())
        return answer

    async def close(self) -> None:
        """Let go of the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            endpoint = self._endpoint
            try:
                trusted = ssl.create_default_context(cafile=endpoint.ca_file)
            except OSError as error:
                raise TryLater(f"ca_file {endpoint.ca_file} cannot be used: {error.strerror or error}") from None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted, limit=2),
                timeout=aiohttp.ClientTimeout(total=endpoint.timeout_seconds),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": endpoint.agent},
            )
        return self._session

    def _url(self, path: str) -> URL:
        text = self._endpoint.url().strip()
        try:
            url = URL(text.rstrip("/") + path if path else text)
        except ValueError:
            raise Refused("the URL is none") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused("the URL is none that begins with https:// or http://")
        return url

    def _authorization(self) -> dict[str, str]:
        endpoint = self._endpoint
        if endpoint.bearer is not None:
            return {"Authorization": f"Bearer {endpoint.bearer()}"}
        if endpoint.username is not None:
            password = endpoint.password() if endpoint.password is not None else ""
            credentials = base64.b64encode(f"{endpoint.username}:{password}".encode()).decode()
            return {"Authorization": f"Basic {credentials}"}
        return {}


def judge(answer: Answer, retry_after: str | None, now_s: float) -> None:
    """Return where the status is 2xx. Raises TryLater for 408, 429 and 5xx, Refused for what else there is."""
    status = answer.status
    if 200 <= status < 300:
        return
    said = one_line(answer.body.decode("utf-8", "replace"), _SHOWN_CHARACTERS)
    why = f"HTTP {status}" + (f": {said}" if said else "")
    if status in _RETRIED or status >= 500:
        raise TryLater(why, retry_after_seconds(retry_after, now_s))
    if 300 <= status < 400:
        raise Refused(f"HTTP {status}: a redirect, which is not followed; give the URL that it leads to")
    raise Refused(why)


def _why(error: OSError) -> str:
    """What kept a connection from being made, in the system's words where it has some."""
    number = 0 if isinstance(error, ssl.SSLError) else error.errno or 0
    said = os.strerror(number) if number in errno.errorcode else error.strerror or str(error)
    said = one_line(said, _SHOWN_CHARACTERS)
    return said[:1].lower() + said[1:]


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of the body; the connection is dropped where there are more."""
    body = bytearray()
    while len(body) < MOST_ANSWER_BYTES:
        chunk = await response.content.read(MOST_ANSWER_BYTES - len(body))
        if not chunk:
            return bytes(body)
        body += chunk
    response.close()
    return bytes(body)
