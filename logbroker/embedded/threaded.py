"""The broker in process for code without an event loop: it runs on a loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from logbroker.client.calls.base import Call
from logbroker.embedded.carrier import EmbeddedCarrier
from logbroker.errors import Closed

T = TypeVar("T")


class ThreadedCarrier:
    """Hands calls to a carrier that lives on a loop in another thread."""

    def __init__(self, inner: EmbeddedCarrier) -> None:
        self.inner = inner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread and the broker. Raises DataDirectoryError, StorageError, InvalidConfig."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="logbroker", daemon=True)
        self._thread.start()
        try:
            self._await(self.inner.open())
        except BaseException:
            self._end(loop)
            raise

    def close(self) -> None:
        """Stop the broker and the thread."""
        loop = self._loop
        if loop is None:
            return
        try:
            self._await(self.inner.close())
        finally:
            self._end(loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        self._await_on(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join()
        loop.close()

    def call(self, call: Call[T]) -> T:
        """The answer. Raises the refusal."""
        return self._await(self.inner.call(call))

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise Closed
        return self._await_on(self._loop, work)

    def _await_on(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
        answer = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return answer.result()
        except BaseException:
            answer.cancel()
            raise
