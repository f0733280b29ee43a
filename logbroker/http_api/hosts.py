"""Which Host and Origin headers are served: the guard against DNS rebinding and foreign web pages.

What lives here: the allow-list and the middleware that applies it. Invariants: a host that is not loopback, the bound
address or named by ``allow_host`` gets 403; a page of another origin gets 403 whatever it asks.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from logbroker.errors import HostForbidden
from logbroker.http_api.errors import Handler

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_UNSPECIFIED = frozenset({"0.0.0.0", "::", ""})


def host_name(authority: str) -> str:
    """The host of ``host[:port]``, lower case, IPv6 without brackets; empty when it is none."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class AllowedHosts:
    """The hosts this broker answers to.

    Bound to every address, it answers to any address given as a number: rebinding needs a name.
    """

    def __init__(self, bound: str, extra: Iterable[str]) -> None:
        self._names = _LOOPBACK | {bound.strip("[]").lower()} | {host_name(name) for name in extra}
        self._any_address = bound.strip("[]") in _UNSPECIFIED
        self._seen: set[str] = set()

    def serves(self, authority: str) -> bool:
        """Whether a Host header of this value is answered."""
        if authority in self._seen:
            return True
        name = host_name(authority)
        allowed = bool(name) and (name in self._names or (self._any_address and _is_address(name)))
        if allowed and len(self._seen) < 64:
            self._seen.add(authority)
        return allowed

    def trusts(self, origin: str, authority: str) -> bool:
        """Whether a page of this origin may call: the broker's own pages, and those of a host named by ``allow_host``."""
        scheme, _, page = origin.partition("://")
        if scheme not in ("http", "https") or not page:
            return False
        return page.lower() == authority.lower() or host_name(page) in self._names - _LOOPBACK


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def only_from(hosts: AllowedHosts) -> Middleware:
    """The middleware that refuses foreign Host and Origin headers."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        authority = request.headers.get("Host", "")
        if not hosts.serves(authority):
            raise HostForbidden(f"Host {authority[:200]!r} is not served here; name it with --allow-host")
        origin = request.headers.get("Origin")
        if origin is not None and not hosts.trusts(origin, authority):
            raise HostForbidden(f"pages of origin {origin[:200]!r} may not call this broker")
        return await handler(request)

    return check
