"""Group commit: one fdatasync of a file covers every producer that waits for it.

What lives here: which logs are dirty, the thread pool that flushes them, and the hand-back to the loop. What may not: any
decision about positions or acknowledgements; those are the log's and its ``Partition``'s.
Invariants: at most one flush of a log is under way; it covers what was written before it began, and whatever is written
meanwhile waits for the next one, so a busy log flushes back to back and the group grows with the load. A flush that
fails is never repeated: Linux may report success the second time although the data is gone (see "fsyncgate"; PostgreSQL's
``data_sync_retry``), so the first failure is handed to ``on_failure`` and nothing is flushed after it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from logbroker.errors import FlushFailed, StorageError


class Ticket(Protocol):
    """What one flush covers; ``sync`` runs in a thread and touches nothing but the files."""

    def sync(self) -> None: ...


class Flushable(Protocol):
    """A log as the flusher sees it."""

    def begin_flush(self) -> Ticket | None:
        """What must be flushed now, or None when nothing is dirty."""
        ...

    def finish_flush(self, ticket: Ticket) -> None:
        """The flush of ``ticket`` is done; on the loop's thread."""
        ...


class Flusher:
    """Flushes logs in a few threads, and tells them when it is done."""

    def __init__(self, threads: int, on_failure: Callable[[FlushFailed], None]) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flush")
        self._on_failure = on_failure
        self._requested: set[Flushable] = set()
        self._under_way: set[Flushable] = set()
        self._start_is_due = False
        self._failed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def request(self, log: Flushable) -> None:
        """Flush ``log`` soon. The flush starts at the end of this turn of the loop, so that it covers the whole turn."""
        self._requested.add(log)
        if not self._start_is_due:
            self._start_is_due = True
            asyncio.get_running_loop().call_soon(self._start)

    async def drain(self) -> None:
        """Return when nothing is requested and nothing under way."""
        while not self._failed and (self._requested or self._under_way):
            self._idle.clear()
            await self._idle.wait()

    def fail(self, failure: FlushFailed) -> None:
        """Flush nothing any more and tell ``on_failure``; also for a flush that failed outside of this pool."""
        if not self._failed:
            self._failed = True
            self._on_failure(failure)

    def close(self) -> None:
        """Stop the threads. What is under way finishes."""
        self._pool.shutdown(wait=True)

    def _start(self) -> None:
        self._start_is_due = False
        loop = asyncio.get_running_loop()
        for log in self._requested - self._under_way:
            self._requested.discard(log)
            ticket = self._begin(log)
            if ticket is not None:
                self._under_way.add(log)
                self._pool.submit(self._flush, loop, log, ticket)
        self._settle()

    def _begin(self, log: Flushable) -> Ticket | None:
        if self._failed:
            return None
        try:
            return log.begin_flush()
        except StorageError as error:
            self.fail(FlushFailed(f"a flush to disk could not begin: {error}", **error.fields))
            return None

    def _flush(self, loop: asyncio.AbstractEventLoop, log: Flushable, ticket: Ticket) -> None:
        """In a thread."""
        try:
            ticket.sync()
        except Exception as error:  # whatever it is: unless the sync returned, nothing is known to be on disk
            loop.call_soon_threadsafe(self._done, log, ticket, error)
        else:
            loop.call_soon_threadsafe(self._done, log, ticket, None)

    def _done(self, log: Flushable, ticket: Ticket, error: Exception | None) -> None:
        self._under_way.discard(log)
        if not self._failed:
            try:
                if error is not None:
                    raise FlushFailed(f"a flush to disk failed: {error}") from error
                log.finish_flush(ticket)
            except FlushFailed as failure:
                self.fail(failure)
            else:
                if log in self._requested:
                    self._start()
        self._settle()

    def _settle(self) -> None:
        if self._failed or not (self._requested or self._under_way):
            self._idle.set()
