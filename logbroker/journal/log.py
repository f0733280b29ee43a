"""The partition under a journal: appends whose outcome is known, flushes, and the trim behind a finished snapshot pass.

What lives here: the exclusive writer and how far it has got. What may not: what the records mean.
Invariant: ``append`` returns when the records are in the log and raises when they are not; nothing in between.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from logbroker.engine.api import Engine, Writer
from logbroker.errors import AppendUnknown, LogbrokerError, StorageError
from logbroker.model import Record, TopicPartition

log = logging.getLogger(__name__)

READ_BYTES = 256 * 1024


class JournalLog:
    """The writing end of a journal."""

    def __init__(self, engine: Engine, where: TopicPartition) -> None:
        self._engine = engine
        self._where = where
        self._writer: Writer
        self._has_written = asyncio.Event()
        self._trim: tuple[int, int] | None = None
        self.end = 0
        """One past the last record written."""

    async def claim(self) -> None:
        """Take the exclusive right to append; whoever had it is fenced."""
        self._writer = await self._engine.writer(self._where)

    async def append(self, records: Sequence[Record]) -> None:
        """Write ``records`` as one batch, not yet durable. Raises what a writer raises, but never AppendUnknown."""
        try:
            self.end = (await self._writer.append(records, durable=False)).next_offset
        except AppendUnknown:
            self.end = await self._find(records)
        self._has_written.set()

    async def _find(self, records: Sequence[Record]) -> int:
        """Where records end of which nobody knows whether they were written. A new claim keeps them from coming later."""
        await self.claim()
        offset, found = self.end, list[bytes | None]()
        while offset < (await self._engine.bounds(self._where)).high_watermark:
            read = await self._engine.read(self._where, offset, max_bytes=READ_BYTES)
            found.extend(stored.value for stored in read.records)
            offset = read.next_offset
        if not found:
            raise StorageError(f"the append to {self._where} did not happen")
        assert found == [record.value for record in records]  # an append is all or none, and nobody else may append
        return offset

    def trim_when_flushed(self, before_offset: int) -> None:
        """Once all that is written now is durable, drop what lies before ``before_offset``."""
        self._trim = (self.end, before_offset)
        self._has_written.set()

    async def flush(self) -> int:
        """Make durable what is written, and return its end."""
        end = self.end
        await self._writer.flushed()
        return end

    async def keep_flushing(self, flushed: Callable[[int], None]) -> None:
        """Flush whenever something was written, and say how far; never returns. Raises what flushing raises."""
        while True:
            await self._has_written.wait()
            self._has_written.clear()
            end = await self.flush()
            flushed(end)
            if self._trim is not None and self._trim[0] <= end:
                _, before_offset = self._trim
                self._trim = None
                await self._drop(before_offset)

    async def _drop(self, before_offset: int) -> None:
        """Trim the log. What cannot be trimmed now goes with the next pass, and costs a load some reading until then."""
        try:
            await self._engine.trim(self._where, before_offset)
        except LogbrokerError as error:
            log.warning("journal %s: could not be trimmed: %s", self._where, error)
