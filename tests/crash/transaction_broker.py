"""``python -m tests.crash.transaction_broker``: logbroker, which kills itself at a named point of a transaction's life.

LOGBROKER_TEST_KILL is ``point:n``, for the n-th time the point is passed. LOGBROKER_TEST_PREPARE=presumed-abort makes a
start abort what was committed and not told to everybody: the control of the kill loop.

What lives here: patches of the coordinator's shell. What may not: a second way to do anything the product does.
"""

import os

from logbroker.cli.main import main
from logbroker.groups.transactions.coordinator import TransactionCoordinator
from logbroker.groups.transactions.machine import Transaction
from logbroker.groups.transactions.messages import TransactionPrepared
from logbroker.journal.log import JournalLog
from logbroker.log.partition import PartitionLog
from tests.crash.points import KILL, Point, arm

PREPARE = "LOGBROKER_TEST_PREPARE"
POINTS: dict[str, Point] = {
    "producer granted": Point(TransactionCoordinator, "init_producer", True),
    "joined": Point(TransactionCoordinator, "add", True),
    "offsets pending": Point(TransactionCoordinator, "commit_offsets", True),
    "outcome decided": Point(TransactionCoordinator, "_tell_until_done", False),
    "outcome flushed": Point(TransactionCoordinator, "_tell_all", False),
    "marker appended": Point(PartitionLog, "end_transaction", True),
    "marker flushed": Point(TransactionCoordinator, "_tell_partition", True),
    "group told": Point(TransactionCoordinator, "_tell_group", True),
    "all told": Point(TransactionCoordinator, "_tell_all", True),
    "completed": Point(TransactionCoordinator, "_tell_until_done", True),
    "journal written": Point(JournalLog, "append", True),
    "journal flushed": Point(JournalLog, "flush", True),
}


def _presume_aborts() -> None:
    """A start takes for aborted what was committed and not told to everybody."""
    apply, start = Transaction.apply, TransactionCoordinator.start
    loading = False

    def apply_wrongly(self: Transaction, event: object) -> None:
        if loading and isinstance(event, TransactionPrepared) and event.committed:
            event = TransactionPrepared(False, event.epoch + 1, event.at_ms)
        apply(self, event)

    async def start_wrongly(self: TransactionCoordinator) -> None:
        nonlocal loading
        loading = True
        try:
            await start(self)
        finally:
            loading = False

    setattr(Transaction, "apply", apply_wrongly)  # noqa: B010 - mypy refuses the plain assignment to a method
    setattr(TransactionCoordinator, "start", start_wrongly)  # noqa: B010


def run() -> None:
    """The command line of logbroker, prepared."""
    given = os.environ.get(KILL)
    if given:
        point, _, count = given.rpartition(":")
        arm(POINTS[point], int(count))
    if os.environ.get(PREPARE) == "presumed-abort":
        _presume_aborts()
    main()


if __name__ == "__main__":
    run()
