"""Named points at which a broker process kills itself.

What lives here: the points of the log, and arming one of any kind. What may not: a second way to do what the product does.
"""

import inspect
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from logbroker.log.checkpoint import Checkpoint
from logbroker.log.compaction.swap import Swap
from logbroker.log.files.disk import DiskFile
from logbroker.log.flushing import FlushTicket
from logbroker.log.partition import PartitionLog
from logbroker.log.recovery import _Recovery
from logbroker.log.segment import Segment

KILL = "LOGBROKER_TEST_KILL"


class Point(NamedTuple):
    """A method, and whether the end comes after it rather than before."""

    owner: type
    name: str
    after: bool


LOG_POINTS: dict[str, Point] = {
    "mid-batch": Point(DiskFile, "append", False),
    "flush begins": Point(FlushTicket, "sync", False),
    "flushed": Point(FlushTicket, "sync", True),
    "roll begins": Point(PartitionLog, "roll", False),
    "sealed": Point(Segment, "seal", True),
    "checkpoint begins": Point(Checkpoint, "store", False),
    "checkpoint stored": Point(Checkpoint, "store", True),
    "start moves": Point(PartitionLog, "_move_start", True),
    "swap begins": Point(Swap, "commit", False),
    "swap committed": Point(Swap, "commit", True),
    "swapped in": Point(PartitionLog, "swap_in", True),
    "recovery reads": Point(_Recovery, "_read_past", False),
    "recovery flushes": Point(_Recovery, "_make_durable", False),
    "recovered": Point(_Recovery, "_make_durable", True),
}
"""At ``mid-batch`` half of what was to be written is there."""


def die() -> NoReturn:
    """End as by SIGKILL, which it is."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was survived")


def arm(point: Point, count: int, *, counts: Callable[[Any], bool] = lambda result: True) -> None:
    """Die when ``point`` is passed for the ``count``-th time; afterwards only results that ``counts`` is true of count."""
    original: Callable[..., Any] = getattr(point.owner, point.name)
    left = count

    def passed(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if point.owner is DiskFile:
                _write_half(*arguments)
            die()

    async def armed_async(*arguments: Any, **named: Any) -> Any:
        if not point.after:
            passed(*arguments)
        result = await original(*arguments, **named)
        if point.after and counts(result):
            passed(*arguments)
        return result

    def armed(*arguments: Any, **named: Any) -> Any:
        if not point.after:
            passed(*arguments)
        result = original(*arguments, **named)
        if point.after and counts(result):
            passed(*arguments)
        return result

    setattr(point.owner, point.name, armed_async if inspect.iscoroutinefunction(original) else armed)


def _write_half(file: DiskFile, parts: Any) -> None:
    data = b"".join(parts)
    os.pwrite(file._descriptor, data[: len(data) // 2], file.size())
