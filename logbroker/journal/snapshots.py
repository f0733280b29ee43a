"""Snapshot passes: when one is due, and how it is written piece by piece.

What lives here: the pass under way. What may not: the rounds of decisions that run between its pieces (``journal``).
Invariant: the log is trimmed to where a pass began only once the whole pass is durable;
a pass that fails is given up and changes nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from logbroker.errors import FlushFailed, LogbrokerError, WriterFenced
from logbroker.journal.entries import Entry
from logbroker.journal.log import JournalLog
from logbroker.journal.records import PIECE_BYTES, EventCodec
from logbroker.model import Record

log = logging.getLogger(__name__)

SNAPSHOT_EVENTS = 10_000
SNAPSHOT_BYTES = 8 * 1024 * 1024


class Snapshots:
    """The snapshot passes of one journal."""

    def __init__(self, journal_log: JournalLog, codec: EventCodec) -> None:
        self._log = journal_log
        self._codec = codec
        self._events_left = SNAPSHOT_EVENTS
        self._bytes_left = SNAPSHOT_BYTES
        self._names: deque[str] | None = None
        self._start = 0

    def wrote(self, events: int, size: int) -> None:
        """So much was written since the last pass began, or found at load."""
        self._events_left -= events
        self._bytes_left -= size

    @property
    def have_work(self) -> bool:
        """Whether a pass is due or under way."""
        return self._names is not None or self._events_left <= 0 or self._bytes_left <= 0

    async def go_on(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Begin the pass that is due, or write about one piece more of the one under way."""
        if self._names is None:
            self._names = deque(entries)
            self._start = self._log.end
            self._events_left, self._bytes_left = SNAPSHOT_EVENTS, SNAPSHOT_BYTES
        try:
            await self._write_some(self._names, entries)
        except (WriterFenced, FlushFailed):
            raise
        except LogbrokerError as error:
            log.warning("a snapshot was given up: %s", error)
            self._names = None
            return
        if not self._names:
            self._names = None
            self._log.trim_when_flushed(self._start)

    async def _write_some(self, names: deque[str], entries: Mapping[str, Entry[Any]]) -> None:
        """Write whole machines, until about one piece is full. A machine decides nothing while it is being written."""
        records: list[Record] = []
        size = 0
        while names and size < PIECE_BYTES:
            name = names.popleft()
            entry = entries.get(name)
            if entry is None or not entry.has_snapshot:
                continue  # it is gone, or has no hard state yet
            for record in self._codec.snapshot(name, entry.machine.snapshot()):
                if size >= PIECE_BYTES:
                    await self._write(records)
                    records, size = [], 0
                records.append(record)
                size += len(record.value or b"")
        if records:
            await self._write(records)

    async def _write(self, records: Sequence[Record]) -> None:
        await self._log.append(records)
        await asyncio.sleep(0)
