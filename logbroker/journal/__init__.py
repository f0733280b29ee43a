"""Runs decide / apply machines over an internal topic: the one async shell for groups, leases and transactions.

Reading order: ``records`` (what is written), ``loader`` (how it is read back), ``log`` and ``snapshots`` (how it is kept
short), ``answers`` and ``deadlines`` (who waits for what), ``moves`` (appends to other topics), ``journal`` (the loop that
joins them).
"""

from logbroker.journal.entries import MachineKind
from logbroker.journal.journal import Journal
from logbroker.journal.moves import EngineMover, Mover

__all__ = ["EngineMover", "Journal", "MachineKind", "Mover"]
