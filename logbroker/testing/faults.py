"""Faults that a test switches on: an answer that never arrives, leases that run out, a disk that fails.

What lives here: the switches. What may not: decisions about what happens then; that is the broker's own behaviour, and what
the test is about.
"""

import errno
import os
from typing import TYPE_CHECKING

from logbroker.log.files.faults import SYNC, WRITE, FaultFiles

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware


class Faults:
    """The switches of one broker."""

    def __init__(self) -> None:
        self.files = FaultFiles()
        """The disk."""
        self._replies_to_drop = 0

    def drop_reply(self, count: int = 1) -> None:
        """Close the connection instead of answering the next ``count`` HTTP requests; what they ask for is done."""
        self._replies_to_drop += count

    def fail_flush(self) -> None:
        """Let the next flush to disk fail: the broker acknowledges nothing any more, and stops."""
        self.files.fail_next(SYNC, OSError(errno.EIO, os.strerror(errno.EIO)))

    def fill_disk(self) -> None:
        """Let every write fail as on a full disk, until ``heal``."""
        self.files.fail_next(WRITE, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), for_good=True)

    def heal(self) -> None:
        """Nothing fails any more."""
        self.files.heal()
        self._replies_to_drop = 0

    def middleware(self) -> "Middleware":
        """What drops replies, around every HTTP request."""
        from aiohttp import web

        @web.middleware
        async def dropping(request: "web.Request", handler: "Handler") -> "web.StreamResponse":
            answer = await handler(request)
            if self._replies_to_drop and not answer.prepared:
                self._replies_to_drop -= 1
                if request.transport is not None:
                    request.transport.abort()
            return answer

        return dropping
