"""Calls over HTTP, by aiohttp. Nothing is sent twice here: that is the driver's to decide."""

import io
from typing import TypeVar

import aiohttp
import msgspec

from logbroker.client.addresses import JSON, parse_url
from logbroker.client.calls.base import Call
from logbroker.client.problems import refusal
from logbroker.errors import LogbrokerError, Unreachable

T = TypeVar("T")

_AT_ONCE = 1 << 20
"""A body larger than this is written in pieces, so that it does not hold the loop."""


class HttpCarrier:
    """Speaks to one broker over connections that are kept open."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = parse_url(url).url
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; the broker is not asked for anything yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": JSON, "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, call: Call[T]) -> T:
        """The answer. Raises the broker's refusal, and Unreachable."""
        assert self._session is not None, "the driver calls only while it is open"
        request = call.request()
        body = request.body
        headers = {} if body is None else {"Content-Type": request.content_type}
        data = io.BytesIO(body) if body is not None and len(body) > _AT_ONCE else body
        timeout = aiohttp.ClientTimeout(total=self._timeout_s + request.wait_ms / 1_000)
        try:
            async with self._session.request(
                request.method, self._url + request.target, data=data, headers=headers, timeout=timeout
            ) as response:
                status, answer = response.status, await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{self._url} does not answer: {error or type(error).__name__}") from error
        if status >= 400:
            raise refusal(status, answer)
        try:
            return call.answer(answer)
        except msgspec.MsgspecError as error:
            raise LogbrokerError(f"the answer to {request.method} {request.target} is not understood: {error}") from error
