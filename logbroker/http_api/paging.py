"""Pages of sorted lists: ``page_size``, ``page_token``, ``next_page_token``.

What lives here: the one way every list is cut. Invariant: a token names the last item that was given, so items that
come and go between two pages shift nothing.
"""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from logbroker.errors import InvalidRequest

T = TypeVar("T")


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of a list."""

    page_size: Annotated[int, Meta(ge=1, le=1000, description="The most items of the answer.")] = 100
    page_token: Annotated[str | UnsetType, Meta(description="next_page_token of the page before.")] = UNSET


def page_of(items: Sequence[T], key: Callable[[T], Any], query: PageQuery) -> tuple[Sequence[T], str | None]:
    """The page of ``items``, which ascend by ``key``, and the token of the next page. Raises InvalidRequest."""
    begin = 0
    if query.page_token is not UNSET and items:
        after = _decode(query.page_token, type(key(items[0])))
        begin = bisect_right(items, after, key=key)
    page = items[begin : begin + query.page_size]
    more = begin + len(page) < len(items)
    return page, _encode(key(page[-1])) if more and page else None


def _encode(key: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _decode(token: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidRequest("page_token is not one that was given") from None
