"""Calls over HTTP, by the standard library. Nothing is sent twice here: that is the driver's to decide.

What lives here: connections that are kept open, one for each thread that calls at the same time. Invariant: one that stood
idle long enough for the broker to have closed it is replaced before a request, never after one.
"""

import http.client
import threading
import time
from typing import TypeVar

import msgspec

from logbroker.client.addresses import parse_url
from logbroker.client.calls.base import Call
from logbroker.client.problems import refusal
from logbroker.errors import LogbrokerError, Unreachable

T = TypeVar("T")

_IDLE_LIMIT_S = 10.0
_MAX_IDLE = 8


class HttpCarrier:
    """Speaks to one broker."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._address = parse_url(url)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._is_open = False

    def open(self) -> None:
        """Get ready; connections are made when they are needed."""
        self._is_open = True

    def close(self) -> None:
        """Close the connections that nobody uses now; one that is used is closed after that."""
        with self._lock:
            self._is_open = False
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def call(self, call: Call[T]) -> T:
        """The answer. Raises the broker's refusal, and Unreachable."""
        request = call.request()
        connection = self._connection(self._timeout_s + request.wait_ms / 1_000)
        try:
            headers = {} if request.body is None else {"Content-Type": request.content_type}
            connection.request(request.method, request.target, request.body, headers)
            response = connection.getresponse()
            status, body, keeps = response.status, response.read(), not response.will_close
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(f"{self._address.url} does not answer: {error or type(error).__name__}") from error
        except BaseException:
            connection.close()
            raise
        self._put_back(connection, keeps=keeps)
        if status >= 400:
            raise refusal(status, body)
        try:
            return call.answer(body)
        except msgspec.MsgspecError as error:
            raise LogbrokerError(f"the answer to {request.method} {request.target} is not understood: {error}") from error

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        fresh_since = time.monotonic() - _IDLE_LIMIT_S
        with self._lock:
            while self._idle:
                used_at, connection = self._idle.pop()
                if used_at >= fresh_since:
                    break
                connection.close()
            else:
                connection = http.client.HTTPConnection(*self._address)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection

    def _put_back(self, connection: http.client.HTTPConnection, *, keeps: bool) -> None:
        with self._lock:
            if keeps and self._is_open and len(self._idle) < _MAX_IDLE:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()
