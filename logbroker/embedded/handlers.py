"""How a call of the client is carried out in this process: one handler for each class of call, found by its type.

What lives here: the registry, and checking what a caller gives exactly as the HTTP door does, by the same structs.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from logbroker.broker.services import Services
from logbroker.client.calls.base import Call, Page
from logbroker.http_api.requests import invalid

C = TypeVar("C", bound=Call[Any])
T = TypeVar("T")
Struct = TypeVar("Struct")

Handler = Callable[[Services, Any], Awaitable[Any]]
HANDLERS: dict[type[Call[Any]], Handler] = {}


def carries_out(kind: type[C]) -> Callable[[Callable[[Services, C], Awaitable[T]]], Callable[[Services, C], Awaitable[T]]]:
    """Enter a function as the one that carries out calls of a class."""

    def enter(handler: Callable[[Services, C], Awaitable[T]]) -> Callable[[Services, C], Awaitable[T]]:
        assert kind not in HANDLERS, f"{kind.__name__} has a handler"
        HANDLERS[kind] = handler
        return handler

    return enter


def checked(kind: type[Struct], values: Mapping[str, Any]) -> Struct:
    """``values`` as the struct that HTTP decodes them into. Raises InvalidRequest."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from None


def told(value: Any, kind: type[T]) -> T:
    """A value that HTTP would answer, as the client has it."""
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


def whole(items: list[T]) -> Page[T]:
    """A list that needs no pages."""
    return Page(items, None)
