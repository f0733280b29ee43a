"""What a route is: the one declaration from which the router and the OpenAPI document derive."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.http_api.requests import NoQuery

Handle = Callable[[Services, web.Request, Any], Awaitable[web.StreamResponse]]

BINARY = bytes
"""Stands for a body of bytes where a table names a type."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``body`` and ``answer`` map media types to the type of their content, or to a tuple of them."""

    method: str
    path: str
    name: str
    tag: str
    handler: Handle
    query: type = NoQuery
    body: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = (200,)
    """The statuses of success; the first of them is the usual one."""
    errors: tuple[type[LogbrokerError], ...] = ()
    headers: tuple[str, ...] = ()
    """Request headers that change what it does."""
    only_reads: bool = False
    """A POST that changes nothing."""
    may_break: bool = False
    """One that leaves nothing half done when its client leaves and it is broken off."""

    @property
    def changes(self) -> bool:
        """Whether it changes something and must not be broken off."""
        return self.method != "GET" and not (self.only_reads or self.may_break)

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0].rstrip(".")


_PARAMETER = re.compile(r"\{(\w+)\}")


def parameters(path: str) -> list[str]:
    """The names of the parameters in a path."""
    return _PARAMETER.findall(path)


_FREE_NAMES = ("group", "transaction")


def aiohttp_path(path: str) -> str:
    """The path in aiohttp's words: parameters hold no colon, so that ``{topic}:verb`` routes.

    Groups and transactional ids may, for Kafka's clients name them as they like; what follows the last colon is the verb
    where there is one.
    """
    return _PARAMETER.sub(lambda found: f"{{{found[1]}:{'[^/]+' if found[1] in _FREE_NAMES else '[^/:]+'}}}", path)
