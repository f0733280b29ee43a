"""``python -m tests.crash.queue_broker``: logbroker, which kills itself at a named point of its queues.

LOGBROKER_TEST_KILL is ``point:n``, for the n-th time the point is passed. LOGBROKER_TEST_RECONCILE=off makes a start take
copies for messages of their own, without settling what they replace: the control of the kill loop.

What lives here: patches of the shells. What may not: a second way to do anything the product does.
"""

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from logbroker.cli.main import main
from logbroker.journal.log import JournalLog
from logbroker.queues.dispatcher import partition
from logbroker.queues.dispatcher.letters import DeadLetters
from logbroker.queues.dispatcher.mover import QueueMover
from logbroker.queues.dispatcher.receiver import Receiver
from logbroker.queues.dispatcher.settling import Settlements
from logbroker.queues.headers import CopyHeader, decoded

KILL = "LOGBROKER_TEST_KILL"
RECONCILE = "LOGBROKER_TEST_RECONCILE"
POINTS: dict[str, tuple[type, str, bool]] = {
    "move decided": (QueueMover, "move", False),
    "copy flushed": (QueueMover, "move", True),
    "note decided": (JournalLog, "append", False),
    "note written": (JournalLog, "append", True),
    "journal flushed": (JournalLog, "flush", True),
    "leased": (Receiver, "_take", True),
    "acked": (Settlements, "ack", True),
    "failure settled": (Settlements, "_fail", True),
    "redriven": (DeadLetters, "redrive_one", True),
}
"""A method of a shell, and whether the end comes after it rather than before."""


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was survived")


def _arm(point: str, count: int) -> None:
    """Die when ``point`` is passed for the ``count``-th time."""
    owner, name, after = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)
    left = count

    async def armed(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        if not after:
            left -= 1
            if left == 0:
                _die()
        result = await original(*arguments, **named)
        if after and not (name == "_take" and not result):
            left -= 1
            if left == 0:
                _die()
        return result

    setattr(owner, name, armed)


def _without_origin(headers: Any) -> CopyHeader:
    return decoded(headers)._replace(replaces=None)


def run() -> None:
    """The command line of logbroker, prepared."""
    given = os.environ.get(KILL)
    if given:
        point, _, count = given.rpartition(":")
        _arm(point, int(count))
    if os.environ.get(RECONCILE) == "off":
        setattr(partition, "decoded", _without_origin)  # noqa: B010 - mypy refuses the plain assignment to an import
    main()


if __name__ == "__main__":
    run()
