"""What can be done with dead letters: send one back, or many of them, or drop them.

What lives here: finding them and asking their machines. What may not: how far an operation has got (``broker.operations``).
Invariant: doing it twice does nothing the second time; a letter is settled only when its copy is durable.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from logbroker.errors import LogbrokerError
from logbroker.queues import commands as c
from logbroker.queues.copies import Edit
from logbroker.queues.dispatcher.partition import QueuePartition
from logbroker.queues.dispatcher.peeking import SLICE, Cursor, Peek
from logbroker.queues.messages import FoundCopy
from logbroker.queues.peeks import MessageState, Peeked, PeekFilter
from logbroker.queues.positions import MessageId, Source


class Batch(NamedTuple):
    """Letters that match, how many were examined for them, and the last of those."""

    letters: list[Peeked]
    examined: int
    cursor: Cursor


class DeadLetters:
    """The dead letters of one queue."""

    def __init__(self, partitions: Sequence[QueuePartition], peek: Peek) -> None:
        self._partitions = partitions
        self._peek = peek

    async def ends(self) -> list[int]:
        """One past the last letter of each partition."""
        return [(await partition.bounds(Source.DEAD)).high_watermark for partition in self._partitions]

    async def batches(self, wanted: PeekFilter, after: Cursor, ends: Sequence[int]) -> AsyncIterator[Batch]:
        """Letters that match, below ``ends``: those that come later are not meant."""
        letters: list[Peeked] = []
        examined, last = 0, after
        async for cursor, letter in self._peek.walk(MessageState.DEAD, after):
            if cursor.partition >= len(ends):
                break
            if cursor.major >= ends[cursor.partition]:
                continue
            examined, last = examined + 1, cursor
            if letter is not None and await self._peek.wants(wanted, letter):
                letters.append(letter)
            if examined >= SLICE:
                yield Batch(letters, examined, last)
                letters, examined = [], 0
        if examined:
            yield Batch(letters, examined, last)

    async def redrive_one(self, message_id: MessageId, edit: Edit | None) -> None:
        """Send a letter back, edited. Raises MessageNotFound."""
        await self._redrive(await self._peek.dead_letter(message_id), edit)

    async def redrive(self, letters: Sequence[Peeked]) -> list[LogbrokerError | None]:
        """Send letters back; what became of each. One that is gone was sent back or dropped already."""

        async def one(letter: Peeked) -> LogbrokerError | None:
            try:
                await self._redrive(letter, None)
            except LogbrokerError as error:
                return error
            return None

        return await asyncio.gather(*map(one, letters))

    async def _redrive(self, letter: Peeked, edit: Edit | None) -> None:
        assert letter.copy is not None, "a dead letter is a copy"
        partition = self._partitions[letter.id.partition]
        copy = FoundCopy(letter.position.offset, letter.copy, letter.record.key)
        await partition.ask(c.Redrive(partition.new_token(), copy, edit))

    async def discard(self, letters: Sequence[Peeked]) -> int:
        """Drop letters; how many were there."""
        dropped = 0
        for partition in self._partitions:
            offsets = tuple(one.position.offset for one in letters if one.id.partition == partition.number)
            if offsets:
                done: int = await partition.ask(c.Discard(offsets))
                dropped += done
        return dropped
