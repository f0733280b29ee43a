"""What a call is, and the request it becomes over HTTP."""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from logbroker.errors import InvalidRequest

T = TypeVar("T")
Item = TypeVar("Item")

_encoder = msgspec.json.Encoder()
PAGE_SIZE = 1_000


class Request(NamedTuple):
    """One HTTP request. ``wait_ms`` is how long the broker was asked to wait before it answers."""

    method: str
    target: str
    body: bytes | None = None
    wait_ms: int = 0
    content_type: str = "application/json"


class Call(msgspec.Struct, Generic[T], frozen=True):
    """A call that answers with ``T``."""

    repeatable: ClassVar[bool] = False
    """Whether doing it twice is as good as once, so that it may be sent again when its answer was lost."""
    breakable: ClassVar[bool] = False
    """Whether it leaves nothing half done when its caller leaves and it is broken off."""

    @property
    def may_repeat(self) -> bool:
        """``repeatable``, where that depends on what is asked."""
        return self.repeatable

    def request(self) -> Request:
        """The call as an HTTP request."""
        raise NotImplementedError

    def answer(self, body: bytes) -> T:
        """What a successful answer says. Raises msgspec.MsgspecError for one that is none."""
        raise NotImplementedError


class Read(Call[T], frozen=True):
    """A call that changes nothing."""

    repeatable: ClassVar[bool] = True
    breakable: ClassVar[bool] = True


class Done(Call[None], frozen=True):
    """A call that has nothing to say when it is done."""

    def answer(self, body: bytes) -> None:
        return None


class Wait(Call[None], frozen=True):
    """No call: so many seconds are let go by before a flow goes on. Drivers wait; carriers never see it."""

    seconds: float


class Page(msgspec.Struct, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_page_token: str | None


def path(*segments: str | int, verb: str = "") -> str:
    """A path under ``/v1`` with each segment quoted, and its verb."""
    return (
        "/v1/"
        + "/".join(quote(str(segment), safe="", errors="replace") for segment in segments)
        + (f":{verb}" if verb else "")
    )


def get(target: str, query: Mapping[str, Any] | None = None, *, wait_ms: int = 0) -> Request:
    """A request that reads. What is None in ``query`` is left out."""
    return Request("GET", _with(target, query), None, wait_ms)


def send(
    method: str, target: str, body: Any = None, query: Mapping[str, Any] | None = None, *, wait_ms: int = 0
) -> Request:
    """A request with ``body`` as JSON. Raises InvalidRequest for what JSON cannot say."""
    try:
        content = None if body is None else _encoder.encode(body)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"this cannot be asked of a broker: {error}") from None
    return Request(method, _with(target, query), content, wait_ms)


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _with(target: str, query: Mapping[str, Any] | None) -> str:
    parts = {
        name: ("true" if value else "false") if isinstance(value, bool) else value
        for name, value in (query or {}).items()
        if value is not None
    }
    return f"{target}?{urlencode(parts)}" if parts else target
