"""The process in which the cleaner runs: ``python -m logbroker.log.compaction.worker``, a job in, a result out.

One line of JSON on standard input, ``{"root", "parent", "job"}``; one on standard output, ``{"result"}`` or ``{"error"}``.
What lives here: that, the pace, and dying with the broker. What may not: anything of what a pass does.
Invariant: it writes nothing but copies of its own, so it may be killed at any time.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterable

import msgspec

from logbroker.errors import LogbrokerError
from logbroker.log.compaction.cleaner import Cleaner
from logbroker.log.compaction.job import Job, Result
from logbroker.log.files.disk import DiskFiles

_STRETCH = 1 << 20
_NICENESS = 10


class Request(msgspec.Struct):
    """What the broker asks."""

    root: str
    parent: int
    """The process to die with."""
    job: Job


class Reply(msgspec.Struct):
    """What it is told."""

    result: Result | None = None
    error: str | None = None


def paced(moved: Iterable[int], bytes_per_second: int, parent: int) -> None:
    """Go through ``moved``, no faster than allowed, for as long as the parent lives."""
    started = time.monotonic()
    total = stretch = 0
    for size in moved:
        stretch += size
        if stretch < _STRETCH:
            continue
        total, stretch = total + stretch, 0
        if os.getppid() != parent:
            sys.exit(1)
        ahead = total / bytes_per_second - (time.monotonic() - started)
        if ahead > 0:
            time.sleep(min(ahead, 1.0))


def main() -> None:
    """Do one job; nothing where the broker has ended before it was asked, and no word to one that has ended since."""
    os.nice(_NICENESS)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        sys.exit(1)
    request = msgspec.json.decode(line, type=Request)
    cleaner = Cleaner(DiskFiles(request.root), request.job)
    try:
        paced(cleaner.run(), request.job.bytes_per_second, request.parent)
        reply = Reply(cleaner.result)
    except LogbrokerError as error:
        reply = Reply(error=error.detail)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
