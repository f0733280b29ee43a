"""A small synchronous HTTP client for the commands, on the standard library.

What lives here: connections, JSON in and out, and turning problem+json back into the errors of ``logbroker.errors``. What
may not: routes and the meaning of an answer.
Invariant: nothing is sent twice. A connection that stood idle long enough for the broker to have closed it is replaced
before a request, never after one.
"""

import http.client
import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from logbroker.client.problems import refusal
from logbroker.errors import InvalidRequest, Unreachable

_IDLE_LIMIT_S = 10.0
_PAGE_SIZE = 1000
_READ_BYTES = 256 * 1024

Query = Mapping[str, object]


def path(*segments: object) -> str:
    """A path under ``/v1`` with each segment quoted; a colon, which starts a verb, stays."""
    return "/v1/" + "/".join(quote(str(segment), safe=":") for segment in segments)


class HttpClient:
    """Speaks to one broker over one connection that is kept open. Not for use by several threads."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise InvalidRequest(f"{url!r} is no URL of a broker; one looks like http://127.0.0.1:8080")
        self.url = f"http://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or 80
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._last_used = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, target: str, query: Query | None = None, *, wait_ms: int = 0) -> Any:
        """The decoded answer of a GET; ``wait_ms`` is how long the broker was asked to wait, on top of the timeout."""
        return self.request("GET", target, query, wait_ms=wait_ms)

    def pages(self, target: str, query: Query | None = None, *, page_size: int = _PAGE_SIZE) -> Iterator[Any]:
        """The items of a list, over all of its pages. Raises as ``request``."""
        token = None
        while True:
            page = self.get(target, {**(query or {}), "page_size": page_size, "page_token": token})
            yield from page["items"]
            token = page["next_page_token"]
            if token is None:
                return

    def lines(self, target: str, query: Query | None = None) -> Generator[Any, None, None]:
        """The decoded lines of an answer in NDJSON, as they come. Raises as ``request``, also when it breaks off."""
        with self._exchange("GET", _target(target, query), b"", {"Accept": "application/x-ndjson"}, 0) as response:
            try:
                rest = b""
                # Not the lines of ``response``: their end and a connection that breaks off look alike there.
                while chunk := response.read1(_READ_BYTES):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from map(json.loads, lines)
            finally:
                if not response.isclosed():
                    self.close()

    def request(
        self, method: str, target: str, query: Query | None = None, body: object = None, *, wait_ms: int = 0
    ) -> Any:
        """Send JSON and return the decoded answer, or None for an empty one.

        Raises the LogbrokerError that the broker answered with, and Unreachable.
        """
        data, headers = b"", {"Accept": "application/json"}
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        answer = self.send(method, target, query, data, headers, wait_ms=wait_ms)
        return json.loads(answer) if answer else None

    def send(
        self,
        method: str,
        target: str,
        query: Query | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        wait_ms: int = 0,
    ) -> bytes:
        """Send bytes and return the body of the answer. Raises as ``request``."""
        with self._exchange(method, _target(target, query), body, headers or {}, wait_ms) as response:
            return response.read()

    def _connect(self, wait_ms: int) -> http.client.HTTPConnection:
        now = time.monotonic()
        if self._connection is not None and now - self._last_used > _IDLE_LIMIT_S:
            self.close()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port)
        timeout_s = self._timeout_s + wait_ms / 1000
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    @contextmanager
    def _exchange(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], wait_ms: int
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            connection = self._connect(wait_ms)
            connection.request(method, target, body or None, dict(headers))
            response = connection.getresponse()
            if response.status >= 400:
                raise refusal(response.status, response.read())
            yield response
            self._last_used = time.monotonic()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self.url} does not answer: {error or type(error).__name__}") from None


def _target(target: str, query: Query | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{target}?{urlencode(given)}" if given else target
