"""Who may read the page and who may change anything on it: decided on a request's headers alone.

It is read only under names that no stranger can have pointed at this server (DNS rebinding): beyond loopback these are
addresses, names without a dot, the machine's own and `web.names`. Names under `.local` or `.internal` are to be listed
like any other: whoever answers on the network may claim them. Pages of other sites read nothing (`Sec-Fetch-Site`).

For a change, which is decided before the body is read, a request must be addressed to a listed name, must not come from
another site's page (`Origin`, `Sec-Fetch-Site`, a header and a content type that a form cannot send), and must show
the token where one is configured. Without a token only a loopback listener takes changes, and nothing that a proxy
passed on.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from streamer.escaping import quoted

MARK: Final = "X-Bearwire"
SHOWN: Final = "X-Bearwire-Token"
SHORTEST_TOKEN: Final = 16
_WITHOUT_DOT: Final = re.compile(r"[a-z0-9_-]+")
_PASSED_ON: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")

Access = Literal["open", "token", "off"]
"""Changes are taken from everyone who reaches the listener, from those who show the token, from nobody."""


class Refusal(NamedTuple):
    """An HTTP status, and what was wrong with the request."""

    status: int
    why: str


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one listener, bound to `host`. `names` are further host names that it is reached by."""

    host: str
    names: tuple[str, ...]
    allowed: bool
    has_token: bool

    def access(self, asked: str) -> Access:
        """Who may change anything under the Host `asked`."""
        if not self.allowed:
            return "off"
        if self.has_token:
            return "token" if self._is_own(asked) else "off"
        return "open" if is_loopback(self.host) and is_loopback(host_name(asked)) else "off"

    def may_read(self, asked: str, machine: Collection[str] = ()) -> bool:
        """Whether the page may be read under the Host `asked`; `machine` are the machine's names for itself.

        A loopback listener goes by its own names alone.
        """
        if self._is_own(asked):
            return True
        name = host_name(asked)
        return not is_loopback(self.host) and (
            name in machine or _is_address(name) or _WITHOUT_DOT.fullmatch(name) is not None
        )

    def reading_refusal(self, asked: str, machine: Collection[str] = ()) -> Refusal | None:
        """Why the page may not be read under the Host `asked`; None where it may. For `machine` see `may_read`."""
        if self.may_read(asked, machine):
            return None
        status = 421 if is_loopback(self.host) else 403
        return Refusal(status, f"Host: {quoted(asked)} is no name of this server; if it is one, list it in web.names")

    def refusal(self, asked: str, headers: Mapping[str, str], token: str | None) -> Refusal | None:
        """Why a request under the Host `asked` may change nothing; None where it may.

        `headers` must look names up in any case. `token` is the one to show, where there is one.
        """
        if not self.allowed:
            return Refusal(403, "nothing can be changed on this page: web.silences is false")
        if not self.has_token and not is_loopback(self.host):
            return Refusal(403, f"nothing can be changed on this page: it listens on {self.host} without a web.token")
        if not self._is_own(asked):
            return Refusal(421, f"Host: {quoted(asked)} is no name of this server; web.names lists them")
        if self.access(asked) == "off":
            return Refusal(403, f"Host: under {quoted(asked)} nothing can be changed without a web.token")
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return Refusal(415, "Content-Type: must be application/json")
        if MARK not in headers:
            return Refusal(403, f"{MARK}: this header is missing; any value does")
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or not _same_site(asked, headers):
            return Refusal(403, "Origin: the request comes from a page of another site")
        if not self.has_token:
            through = [name for name in _PASSED_ON if name in headers]
            return Refusal(403, f"{through[0]}: came through a proxy, so web.token must be set") if through else None
        shown = headers.get(SHOWN)
        if shown is None or token is None:
            return Refusal(403, f"{SHOWN}: the token is missing")
        if not hmac.compare_digest(shown.encode(errors="surrogateescape"), token.encode()):
            return Refusal(403, f"{SHOWN}: the token is wrong")
        return None

    def _is_own(self, asked: str) -> bool:
        name = host_name(asked)
        return is_loopback(name) or name == host_name(self.host) or name in self.names


def cross_site_refusal(headers: Mapping[str, str]) -> Refusal | None:
    """Why a request that a browser sent for a page of another site may not read data; None for all others.

    `headers` must look names up in any case.
    """
    if headers.get("Sec-Fetch-Site") == "cross-site":
        return Refusal(403, "Sec-Fetch-Site: the request comes from a page of another site")
    return None


def host_name(asked: str) -> str:
    """The name in a Host header or a setting, in lower case, without port, brackets and final dot."""
    name = asked.rsplit(":", 1)[0] if asked.count(":") == 1 or "]:" in asked else asked
    return name.strip("[]").lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether a name or an address stands for this machine alone."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_token(text: str) -> bool:
    """Whether a token can be sent in a header and is too long to be guessed."""
    return len(text) >= SHORTEST_TOKEN and text.isascii() and text.isprintable() and " " not in text


def _same_site(asked: str, headers: Mapping[str, str]) -> bool:
    """Whether `Origin`, which browsers send with every POST, is the server that was asked; other programs send none."""
    origin = headers.get("Origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == asked.lower()
    except ValueError:
        return False
