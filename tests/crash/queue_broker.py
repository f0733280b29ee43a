"""``python -m tests.crash.queue_broker``: logbroker, which kills itself at a named point of its log or its queues.

LOGBROKER_TEST_KILL is ``point:n``, for the n-th time the point is passed. LOGBROKER_TEST_RECONCILE=off makes a start take
copies for messages of their own, without settling what they replace: the control of the kill loop.

What lives here: patches of the queues' shells. What may not: a second way to do anything the product does.
"""

import os
from typing import Any

from logbroker.cli.main import main
from logbroker.journal.log import JournalLog
from logbroker.queues.dispatcher import partition
from logbroker.queues.dispatcher.letters import DeadLetters
from logbroker.queues.dispatcher.mover import QueueMover
from logbroker.queues.dispatcher.receiver import Receiver
from logbroker.queues.dispatcher.settling import Settlements
from logbroker.queues.headers import CopyHeader, decoded
from tests.crash.points import KILL, LOG_POINTS, Point, arm

RECONCILE = "LOGBROKER_TEST_RECONCILE"
POINTS: dict[str, Point] = {
    "move decided": Point(QueueMover, "move", False),
    "copy flushed": Point(QueueMover, "move", True),
    "note decided": Point(JournalLog, "append", False),
    "note written": Point(JournalLog, "append", True),
    "journal flushed": Point(JournalLog, "flush", True),
    "leased": Point(Receiver, "_take", True),
    "acked": Point(Settlements, "ack", True),
    "failure settled": Point(Settlements, "_fail", True),
    "redriven": Point(DeadLetters, "redrive_one", True),
}
"""Those of queues; those of the log are in ``points``."""


def _without_origin(headers: Any) -> CopyHeader:
    return decoded(headers)._replace(replaces=None)


def run() -> None:
    """The command line of logbroker, prepared."""
    given = os.environ.get(KILL)
    if given:
        point, _, count = given.rpartition(":")
        arm({**POINTS, **LOG_POINTS}[point], int(count), counts=lambda result: point != "leased" or bool(result))
    if os.environ.get(RECONCILE) == "off":
        setattr(partition, "decoded", _without_origin)  # noqa: B010 - mypy refuses the plain assignment to an import
    main()


if __name__ == "__main__":
    run()
