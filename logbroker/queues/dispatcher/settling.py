"""Settling: what consumers say became of their deliveries.

What lives here: bringing each receipt to its partition, and the results back in order. What may not: which receipts are
good, which is the lease machine's.
Invariant: what is answered is durable; a receipt of another queue, or of an earlier one of this name, has no effect.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from logbroker.clock import Clock
from logbroker.errors import LeaseLost, LogbrokerError
from logbroker.queues import commands as c
from logbroker.queues.dispatcher.partition import QueuePartition
from logbroker.queues.positions import Receipt

Outcome = LogbrokerError | None
"""What became of one entry."""


class Settlements:
    """The settlements of one queue."""

    def __init__(self, partitions: Sequence[QueuePartition], clock: Clock, incarnation: int) -> None:
        self._partitions = partitions
        self._clock = clock
        self._incarnation = incarnation

    async def ack(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """The messages are done."""
        return await self._settle(receipts, lambda chosen: c.Ack(tuple(receipts[index] for index in chosen)))

    async def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Give messages back without counting."""
        return await self._settle(receipts, lambda chosen: c.Release(tuple(receipts[index] for index in chosen)))

    async def extend(self, entries: Sequence[tuple[Receipt, int]]) -> list[int | LogbrokerError]:
        """New deadlines, counted from now; for each entry when its lease ends (wall clock), 0 when it was released."""
        results: list[Any] = await self._settle(
            [receipt for receipt, _ in entries], lambda chosen: c.Extend(tuple(entries[index] for index in chosen))
        )
        now_ms = self._clock.now().wall_ms
        return [now_ms + one if isinstance(one, int) and one else one for one in results]

    async def _settle(self, receipts: Sequence[Receipt], command: Callable[[Sequence[int]], Any]) -> list[Any]:
        """Ask each partition about its receipts, at the same time, and bring the results in order."""
        results: list[Any] = [None] * len(receipts)
        chosen: dict[int, list[int]] = {}
        for index, receipt in enumerate(receipts):
            foreign = self._foreign(receipt)
            if foreign is not None:
                results[index] = foreign
            else:
                chosen.setdefault(receipt.partition, []).append(index)

        async def ask(number: int, indexes: Sequence[int]) -> None:
            try:
                found = await self._partitions[number].ask(command(indexes))
            except LogbrokerError as error:
                found = [error] * len(indexes)
            for index, result in zip(indexes, found, strict=True):
                results[index] = result

        await asyncio.gather(*(ask(number, indexes) for number, indexes in chosen.items()))
        return results

    def _foreign(self, receipt: Receipt) -> LeaseLost | None:
        if receipt.incarnation == self._incarnation and receipt.partition < len(self._partitions):
            return None
        return LeaseLost("the receipt is of another queue, or of an earlier one of this name", receipt=str(receipt))

    async def nack(self, entries: Sequence[tuple[Receipt, int | None, str | None]]) -> list[Outcome]:
        """These deliveries failed: (receipt, delay in ms or None for the policy's, error)."""

        def command(token: int, index: int) -> c.Nack:
            return c.Nack(token, *entries[index])

        return await self._fail([receipt for receipt, _, _ in entries], command)

    async def reject(self, entries: Sequence[tuple[Receipt, str]]) -> list[Outcome]:
        """These messages will never succeed: (receipt, reason)."""

        def command(token: int, index: int) -> c.Reject:
            return c.Reject(token, *entries[index])

        return await self._fail([receipt for receipt, _ in entries], command)

    async def _fail(self, receipts: Sequence[Receipt], command: Callable[[int, int], Any]) -> list[Outcome]:
        async def one(index: int, receipt: Receipt) -> Outcome:
            foreign = self._foreign(receipt)
            if foreign is not None:
                return foreign
            partition = self._partitions[receipt.partition]
            try:
                await partition.ask(command(partition.new_token(), index))
            except LogbrokerError as error:
                return error
            return None

        return await asyncio.gather(*(one(index, receipt) for index, receipt in enumerate(receipts)))
