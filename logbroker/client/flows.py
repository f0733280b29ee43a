"""Verbs that take more than one call, written once for the asynchronous and the synchronous client.

What lives here: generators that yield calls and get their answers, and what they have in common. What may not: waiting,
sockets. A driver (``aio.driver``, ``blocking.driver``) carries the calls out; a refusal is raised where the call was
yielded.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from logbroker.client.calls.base import Call, Page
from logbroker.errors import LogbrokerError

T = TypeVar("T")
Item = TypeVar("Item")
Flow: TypeAlias = Generator[Call[Any], Any, T]


def do(call: Call[T]) -> Flow[T]:
    """The answer of one call."""
    return cast(T, (yield call))


def all_pages(page: Callable[[str | None], Call[Page[Item]]], limit: int | None = None) -> Flow[list[Item]]:
    """The items of a list, over its pages; at most ``limit``."""
    items: list[Item] = []
    token: str | None = None
    while True:
        found = yield from do(page(token))
        items += found.items
        token = found.next_page_token
        if token is None or (limit is not None and len(items) >= limit):
            return items if limit is None else items[:limit]


def succeeded(outcomes: Sequence[T | LogbrokerError]) -> list[T]:
    """The outcomes when all are good. Else raises the first error, with all outcomes in its ``fields["results"]``."""
    for outcome in outcomes:
        if isinstance(outcome, LogbrokerError):
            outcome.fields = {**outcome.fields, "results": list(outcomes)}
            raise outcome
    return cast(list[T], list(outcomes))


def in_ms(settings: Mapping[str, Any], durations: frozenset[str], to_ms: Callable[[Any], int]) -> dict[str, Any]:
    """Settings as the broker names them: ``retention="7d"`` becomes ``retention_ms``, for the names in ``durations``."""
    return {
        (f"{name}_ms" if name in durations else name): (to_ms(value) if name in durations and value is not None else value)
        for name, value in settings.items()
    }
