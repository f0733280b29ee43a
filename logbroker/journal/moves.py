"""Appends that a machine wants to be durable in another topic before it goes on (design: the move protocol).

What lives here: reading the original of a recipe, appending the record, finding out about an append of which nobody knows.
What may not: what a failed move means; that is the machine's business.
"""

from collections.abc import Sequence
from typing import Protocol

from logbroker.engine.api import Engine
from logbroker.errors import AppendUnknown, MessageNotFound
from logbroker.machine import Move
from logbroker.model import Record, StoredRecord, TopicPartition

READ_BYTES = 1024 * 1024


class Mover(Protocol):
    """Carries out moves."""

    async def move(self, move: Move) -> int:
        """Append the record of ``move`` and return its offset once it is durable. Raises what appends and reads raise."""
        ...


class EngineMover:
    """Moves within one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def move(self, move: Move) -> int:
        record = (
            move.record
            if isinstance(move.record, Record)
            else move.record.make(await self._original(*move.record.original))
        )
        return await self.append(move.where, record)

    async def append(self, where: TopicPartition, record: Record) -> int:
        """Append a record and return its offset once it is durable. Raises what appends and reads raise."""
        return await self.append_all(where, [record])

    async def append_all(self, where: TopicPartition, records: Sequence[Record]) -> int:
        """Append records as one batch and return the first offset once they are durable. Raises as ``append``."""
        before = (await self._engine.bounds(where)).high_watermark
        try:
            return (await self._engine.append(where, records, durable=True)).base_offset
        except AppendUnknown:
            offset = await self._find(where, before, records)
            if offset is None:
                raise
            return offset

    async def _original(self, where: TopicPartition, offset: int) -> StoredRecord:
        record = await self.original(where, offset)
        if record is None:
            raise MessageNotFound(f"there is no record at offset {offset} of {where} any more")
        return record

    async def original(self, where: TopicPartition, offset: int) -> StoredRecord | None:
        """The record that is copied, or None. Raises what reads raise."""
        read = await self._engine.read(where, offset, max_bytes=1, max_records=1)
        return read.records[0] if read.records and read.records[0].offset == offset else None

    async def _find(self, where: TopicPartition, offset: int, records: Sequence[Record]) -> int | None:
        """Where ``records`` stand side by side at or after ``offset``, if they do."""
        wanted = [(record.key, record.value, record.headers) for record in records]
        found: list[StoredRecord] = []
        while True:
            read = await self._engine.read(where, offset, max_bytes=READ_BYTES)
            found += read.records
            if read.next_offset >= read.bounds.high_watermark:
                break
            offset = read.next_offset
        contents = [(stored.key, stored.value, stored.headers) for stored in found]
        for index in range(len(contents) - len(wanted) + 1):
            if contents[index : index + len(wanted)] == wanted:
                return found[index].offset
        return None
