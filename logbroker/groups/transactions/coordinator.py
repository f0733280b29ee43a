"""The transactions of a broker: one machine per transactional id, several per journal, and the markers.

What lives here: what the doors call, and telling everybody of an outcome. What may not: decisions (``machine``), wire
formats. Invariants: a marker is written only when the outcome is durable, and an outcome is completed only when every
marker is; what cannot be told now is tried again until it can, or there is nobody left to tell.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar
from zlib import crc32

from logbroker.clock import Clock
from logbroker.config import INT32_MAX, MIB
from logbroker.engine.api import INTERNAL, Engine
from logbroker.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidRequest,
    LogbrokerError,
    Recovering,
    TopicAlreadyExists,
    TransactionNotFound,
    UnknownTopicOrPartition,
)
from logbroker.groups import messages as gm
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.transactions import messages as m
from logbroker.groups.transactions.machine import Transaction
from logbroker.groups.transactions.messages import Producer
from logbroker.journal import Journal, MachineKind
from logbroker.model import TopicPartition

log = logging.getLogger(__name__)

TRANSACTIONS_TOPIC = "__transaction_state"
TRANSACTIONS_PARTITIONS = 4
_TOPIC_CONFIG: Mapping[str, object] = {
    "retention_ms": -1,
    "retention_bytes": -1,
    "durability": "fsync",
    "segment_bytes": 16 * MIB,
    "max_message_bytes": INT32_MAX,
}
_RETRY_S = 1.0
_RETRY_MAX_S = 60.0

Reply = TypeVar("Reply", bound=m.TransactionReply)


class TransactionCoordinator:
    """The use cases of transactions. They raise the refusals of ``logbroker.errors``, and Recovering unless started."""

    def __init__(
        self, engine: Engine, groups: GroupCoordinator, clock: Clock, limits: m.TransactionLimits | None = None
    ) -> None:
        self._engine = engine
        self._groups = groups
        self._clock = clock
        self._limits = limits or m.TransactionLimits()
        self._journals: list[Journal[Transaction, m.TransactionReply]] = []
        self._telling: dict[str, asyncio.Task[None]] = {}

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load all transactions and go on telling the outcomes not everybody knows of. The groups have been started.

        Raises what the journals raise: PartitionDamaged, DataDirectoryError.
        """
        try:
            info = await self._engine.create_topic(
                TRANSACTIONS_TOPIC, TRANSACTIONS_PARTITIONS, _TOPIC_CONFIG, owner=INTERNAL
            )
        except TopicAlreadyExists:
            info = self._engine.topic(TRANSACTIONS_TOPIC)
        kind = MachineKind(
            lambda name: Transaction(name, self._limits), m.TransactionEvent, lambda one: one.is_vacant, self._see_to
        )
        self._journals = [
            Journal(self._engine, TopicPartition(TRANSACTIONS_TOPIC, number), kind, self._clock)
            for number in range(info.partitions)
        ]
        await asyncio.gather(*(journal.open() for journal in self._journals))
        for journal in self._journals:
            journal.resume()

    async def stop(self) -> None:
        """Stop telling, which the next start goes on with, and answer what is durable."""
        telling = list(self._telling.values())
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await asyncio.gather(*(journal.close() for journal in self._journals))

    def wake(self) -> None:
        """Look at the clock again: for clocks that are moved by hand."""
        for journal in self._journals:
            journal.wake()

    # -- producers -------------------------------------------------------------------------------------------------------

    async def init_producer(self, transactional_id: str, timeout_ms: int, current: Producer | None = None) -> Producer:
        """Take over a transactional id, fencing whoever has it; durable on return.

        Raises ConcurrentTransactions while a transaction is being completed, ProducerFenced, InvalidTransactionTimeout.
        """
        if not transactional_id:
            raise InvalidRequest("the transactional id is empty: give it a name")
        unused = await self._engine.allocate_producer_id()
        granted = await self._ask(transactional_id, m.InitProducer(timeout_ms, unused, current), m.Granted)
        return granted.producer

    async def add(
        self,
        transactional_id: str,
        producer: Producer,
        partitions: Iterable[TopicPartition] = (),
        groups: Iterable[str] = (),
    ) -> None:
        """Begin a transaction or go on with it; durable on return."""
        command = m.AddToTransaction(producer, frozenset(partitions), frozenset(groups))
        await self._ask_known(transactional_id, command, m.Done)

    async def end(self, transactional_id: str, producer: Producer, *, committed: bool) -> None:
        """Commit or abort. On return the outcome is durable and, unless something is out of order, everybody knows it."""
        token = self._journal(transactional_id).new_token()
        await self._ask_known(transactional_id, m.EndTransaction(producer, committed, token), m.Done)

    async def commit_offsets(
        self, transactional_id: str, producer: Producer, group_id: str, command: gm.CommitOffsets
    ) -> gm.OffsetResults:
        """Commit positions of a group with the transaction; nobody sees them before it is committed."""
        self.check(transactional_id, producer, group_id)
        return await self._groups.commit_in_transaction(group_id, producer.id, command)

    def check(self, transactional_id: str, producer: Producer, part: TopicPartition | str) -> None:
        """Raise unless ``part``, a partition or group, was added to the producer's open transaction."""
        transaction = self._find(transactional_id)
        refusal = _unknown(transactional_id) if transaction is None else transaction.holds(producer, part)
        if refusal is not None:
            raise refusal

    # -- administration --------------------------------------------------------------------------------------------------

    def list_transactions(self) -> list[m.TransactionView]:
        """All transactional ids, by name."""
        return sorted((one.view() for one in self._transactions()), key=lambda view: view.transactional_id)

    def describe(self, transactional_id: str) -> m.TransactionView:
        """One transactional id. Raises TransactionNotFound."""
        transaction = self._find(transactional_id)
        if transaction is None:
            raise TransactionNotFound(f"there is no transactional id {transactional_id!r}")
        return transaction.view()

    async def abort(self, transactional_id: str) -> None:
        """Abort an open transaction and fence its producer. Raises TransactionNotFound, InvalidTransactionState."""
        self.describe(transactional_id)
        token = self._journal(transactional_id).new_token()
        await self._ask(transactional_id, m.AbortTransaction(token), m.Done)

    # -- telling everybody -----------------------------------------------------------------------------------------------

    def _see_to(self, name: str, transaction: Transaction) -> None:
        """Start telling an outcome, unless that is under way."""
        if transaction.outcome is not None and name not in self._telling:
            self._telling[name] = asyncio.create_task(self._tell(name), name=f"markers of {name}")

    async def _tell(self, name: str) -> None:
        """Tell outcomes of one transactional id as long as there are any."""
        try:
            while (outcome := self._outcome(name)) is not None:
                await self._tell_until_done(name, outcome)
        except LogbrokerError as error:  # the journal is closed or has failed
            log.info("transaction %r: its outcome is told by the next start: %s", name, error)
        finally:
            del self._telling[name]

    def _outcome(self, name: str) -> m.Outcome | None:
        transaction = self._find(name)
        return None if transaction is None else transaction.outcome

    async def _tell_until_done(self, name: str, outcome: m.Outcome) -> None:
        journal = self._journal(name)
        await journal.flushed()
        retry_s = _RETRY_S
        while failures := await self._tell_all(outcome):
            log.warning("transaction %r: not everybody could be told its outcome: %s", name, failures[0])
            await journal.ask(name, m.MarkersDelayed())
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _RETRY_MAX_S)
        await journal.ask(name, m.MarkersWritten())

    async def _tell_all(self, outcome: m.Outcome) -> list[LogbrokerError]:
        """Tell everybody; those who know change nothing. Returns why some could not be told."""
        told = await asyncio.gather(
            *(self._tell_partition(where, outcome) for where in outcome.partitions),
            *(self._tell_group(group_id, outcome) for group_id in outcome.groups),
        )
        return [failure for failure in told if failure is not None]

    async def _tell_partition(self, where: TopicPartition, outcome: m.Outcome) -> LogbrokerError | None:
        producer = outcome.producer
        try:
            await self._engine.end_transaction(where, producer.id, producer.epoch, committed=outcome.committed)
        except (UnknownTopicOrPartition, InvalidProducerEpoch):
            return None  # deleted, or told already: a later epoch only begins once this one has ended
        except LogbrokerError as error:
            return error
        return None

    async def _tell_group(self, group_id: str, outcome: m.Outcome) -> LogbrokerError | None:
        try:
            await self._groups.end_transaction(group_id, outcome.producer.id, committed=outcome.committed)
        except LogbrokerError as error:
            return error
        return None

    # -- machines --------------------------------------------------------------------------------------------------------

    def _transactions(self) -> Iterator[Transaction]:
        return (one for journal in self._journals for _, one in journal.machines() if not one.is_vacant)

    def _find(self, transactional_id: str) -> Transaction | None:
        found = self._journal(transactional_id).find(transactional_id)
        return None if found is None or found.is_vacant else found

    def _journal(self, transactional_id: str) -> Journal[Transaction, m.TransactionReply]:
        if not self._journals:
            raise Recovering("the transactions are not loaded yet")
        return self._journals[crc32(transactional_id.encode()) % len(self._journals)]

    async def _ask_known(self, transactional_id: str, command: m.TransactionCommand, reply_type: type[Reply]) -> Reply:
        """Ask without leaving a machine behind for every name a client makes up."""
        if self._find(transactional_id) is None:
            raise _unknown(transactional_id)
        return await self._ask(transactional_id, command, reply_type)

    async def _ask(self, transactional_id: str, command: m.TransactionCommand, reply_type: type[Reply]) -> Reply:
        reply = await self._journal(transactional_id).ask(transactional_id, command)
        assert isinstance(reply, reply_type)
        return reply


def _unknown(transactional_id: str) -> LogbrokerError:
    return InvalidProducerIdMapping(f"there is no transactional id {transactional_id!r}: call InitProducerId")
