"""The consumer groups of a broker: one machine per group, several groups per journal.

What lives here: what the doors call. What may not: decisions about groups (``group`` and what it is made of), wire formats.
Invariant: whatever is answered is durable, and a broker that starts knows every group before it serves one.

A group is a machine of its own, because groups have nothing to decide together; groups that hash to one partition of
``__consumer_offsets`` share its journal, so that the commits of many groups share one flush. A few partitions are enough:
each is a file to flush, and one process writes them all.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar
from uuid import uuid4
from zlib import crc32

from logbroker.clock import Clock
from logbroker.config import INT32_MAX, MIB
from logbroker.engine.api import INTERNAL, Engine
from logbroker.errors import InvalidGroup, LogbrokerError, Recovering, TopicAlreadyExists, UnknownTopicOrPartition
from logbroker.groups import messages as m
from logbroker.groups.catalogue import EngineCatalogue
from logbroker.groups.consumer_messages import Beaten, ConsumerHeartbeat
from logbroker.groups.consumer_state import JOINING_EPOCH
from logbroker.groups.events import CommittedOffset
from logbroker.groups.group import Group, JournalEvent
from logbroker.journal import Journal, MachineKind
from logbroker.model import TopicPartition

log = logging.getLogger(__name__)

OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_PARTITIONS = 4
_OFFSETS_CONFIG: Mapping[str, object] = {
    "retention_ms": -1,
    "retention_bytes": -1,
    "durability": "fsync",
    "segment_bytes": 16 * MIB,
    "max_message_bytes": INT32_MAX,
}

Reply = TypeVar("Reply", bound=m.GroupReply)


class GroupCoordinator:
    """The use cases of consumer groups. They raise the refusals of ``logbroker.errors``, and Recovering unless started."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        limits: m.GroupLimits | None = None,
        new_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits or m.GroupLimits()
        self._new_id = new_id
        self._catalogue = EngineCatalogue(engine)
        self._journals: list[Journal[Group, m.GroupReply]] = []

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load all groups. Raises what the journals raise: PartitionDamaged, DataDirectoryError."""
        try:
            info = await self._engine.create_topic(OFFSETS_TOPIC, OFFSETS_PARTITIONS, _OFFSETS_CONFIG, owner=INTERNAL)
        except TopicAlreadyExists:
            info = self._engine.topic(OFFSETS_TOPIC)
        kind = MachineKind(lambda name: Group(self._limits), JournalEvent, lambda group: group.is_vacant)
        self._journals = [
            Journal(self._engine, TopicPartition(OFFSETS_TOPIC, number), kind, self._clock)
            for number in range(info.partitions)
        ]
        await asyncio.gather(*(journal.open() for journal in self._journals))
        for journal in self._journals:
            journal.resume()
        for group_id, group in list(self._groups()):
            await self._repair(group_id, group)

    async def stop(self) -> None:
        """Answer what is durable and send the others away with Recovering, which makes clients look for us again."""
        await asyncio.gather(*(journal.close() for journal in self._journals))

    def set_limits(self, limits: m.GroupLimits) -> None:
        """What all groups are allowed from now on; what runs already keeps its time."""
        self._limits = limits
        for _, group in self._groups():
            group.limits = limits

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way and nothing is due."""
        return all(journal.is_settled for journal in self._journals)

    def wake(self) -> None:
        """Look at the clock again: for clocks that are moved by hand."""
        for journal in self._journals:
            journal.wake()

    async def _repair(self, group_id: str, group: Group) -> None:
        """Forget topics that were deleted while nobody told us, and cut back offsets whose records a crash has taken."""
        committed = list(group.hard.offsets.values())
        for topic in sorted({offset.where.topic for offset in committed}):
            try:
                config = self._engine.topic(topic).config
            except UnknownTopicOrPartition:
                await self._ask(group_id, m.ForgetTopic(topic), m.Done)
                continue
            if config.durability != "fsync":
                await self._cut_back(group_id, [offset for offset in committed if offset.where.topic == topic])

    async def _cut_back(self, group_id: str, committed: Sequence[CommittedOffset]) -> None:
        for offset in committed:
            end = (await self._engine.bounds(offset.where)).high_watermark
            if offset.offset > end:
                log.warning(
                    "group %r: committed offset %d of %s is above its end: cut back to %d",
                    *(group_id, offset.offset, offset.where, end),
                )
                cut = m.OffsetToCommit(offset.where, end, offset.leader_epoch, offset.metadata)
                await self._ask(group_id, m.ResetOffsets((cut,), force=True), m.OffsetResults)

    # -- members ---------------------------------------------------------------------------------------------------------

    async def join(self, group_id: str, command: m.JoinGroup) -> m.Joined:
        """Enter a group; returns when the next generation starts. A new id comes with MemberIdRequired."""
        _require_group_id(group_id)
        new_member_id = f"{command.instance_id or command.client_id}-{self._new_id()}"
        command = dataclasses.replace(
            command, token=self._token(group_id), new_member_id=new_member_id, catalogue=self._catalogue
        )
        return await self._ask(group_id, command, m.Joined)

    async def sync(self, group_id: str, command: m.SyncGroup) -> m.Synced:
        """Get one's assignment; returns when the leader has assigned."""
        _require_group_id(group_id)
        command = dataclasses.replace(command, token=self._token(group_id))
        return await self._ask(group_id, command, m.Synced)

    async def heartbeat(self, group_id: str, claim: m.MemberClaim) -> None:
        """Say that a member is alive. Raises RebalanceInProgress when it has to join again."""
        _require_group_id(group_id)
        await self._ask(group_id, m.Heartbeat(claim), m.Done)

    async def consumer_heartbeat(
        self, group_id: str, command: ConsumerHeartbeat, *, make_member_id: bool = False
    ) -> Beaten:
        """Be a member of a group of the consumer protocol (KIP-848). ``make_member_id`` gives an id to one without."""
        _require_group_id(group_id)
        member_id = command.member_id
        if make_member_id and not member_id and command.epoch == JOINING_EPOCH:
            member_id = self._new_id()
        command = dataclasses.replace(command, member_id=member_id, catalogue=self._catalogue)
        return await self._ask(group_id, command, Beaten)

    async def leave(self, group_id: str, members: Sequence[m.Leaver]) -> m.Left:
        """Take members out."""
        _require_group_id(group_id)
        return await self._ask(group_id, m.LeaveGroup(tuple(members)), m.Left)

    # -- offsets ---------------------------------------------------------------------------------------------------------

    async def commit(self, group_id: str, command: m.CommitOffsets) -> m.OffsetResults:
        """Commit positions; durable on return. Partitions that do not exist are refused one by one."""
        known, results = self._sort_out(command.offsets)
        if known or not command.offsets:
            reply = await self._ask(group_id, dataclasses.replace(command, offsets=known), m.OffsetResults)
            results.update(reply.results)
        return m.OffsetResults(tuple((wanted.where, results[wanted.where]) for wanted in command.offsets))

    async def reset_offsets(self, group_id: str, command: m.ResetOffsets) -> m.OffsetResults:
        """Set positions as an administrator; durable on return."""
        known, results = self._sort_out(command.offsets)
        reply = await self._ask(group_id, dataclasses.replace(command, offsets=known), m.OffsetResults)
        results.update(reply.results)
        return m.OffsetResults(tuple((wanted.where, results[wanted.where]) for wanted in command.offsets))

    async def fetch_offsets(
        self,
        group_id: str,
        partitions: Sequence[TopicPartition] | None = None,
        claim: m.MemberClaim | None = None,
    ) -> dict[TopicPartition, CommittedOffset]:
        """The committed offsets of ``partitions``, or of all; a partition without one is missing."""
        return (await self.read_offsets(group_id, partitions, claim)).offsets

    async def read_offsets(
        self,
        group_id: str,
        partitions: Sequence[TopicPartition] | None = None,
        claim: m.MemberClaim | None = None,
    ) -> m.Offsets:
        """As ``fetch_offsets``, with the partitions for which a transaction is not decided yet."""
        wanted = None if partitions is None else tuple(partitions)
        return await self._ask(group_id, m.FetchOffsets(wanted, claim), m.Offsets)

    async def commit_in_transaction(self, group_id: str, producer_id: int, command: m.CommitOffsets) -> m.OffsetResults:
        """Commit positions that count once the transaction of a producer is committed; durable on return."""
        _require_group_id(group_id)
        return await self.commit(group_id, dataclasses.replace(command, producer_id=producer_id, may_go_back=True))

    async def end_transaction(self, group_id: str, producer_id: int, *, committed: bool) -> None:
        """Let the positions count that a producer committed in its transaction, or drop them; durable on return."""
        await self._ask(group_id, m.EndTransaction(producer_id, committed), m.Done)

    async def delete_offsets(self, group_id: str, partitions: Sequence[TopicPartition]) -> m.OffsetResults:
        """Delete committed offsets of topics that no member reads."""
        return await self._ask(group_id, m.DeleteOffsets(tuple(partitions)), m.OffsetResults)

    def committed_in(self, where: TopicPartition) -> dict[str, int]:
        """The offset that each group has committed in a partition, by group."""
        known = ((group_id, group.hard.offsets.get(where)) for group_id, group in self._groups())
        return {group_id: committed.offset for group_id, committed in known if committed is not None}

    async def forget_topic(self, topic: str) -> None:
        """Delete the offsets that any group has committed for a topic that was deleted."""
        readers = [group_id for group_id, group in self._groups() if group.hard.knows(topic)]
        for group_id in readers:
            await self._ask(group_id, m.ForgetTopic(topic), m.Done)

    def _sort_out(
        self, offsets: Sequence[m.OffsetToCommit]
    ) -> tuple[tuple[m.OffsetToCommit, ...], dict[TopicPartition, LogbrokerError | None]]:
        """The offsets of partitions that exist, and the refusals of the others."""
        refusals = {wanted.where: self._partition_refusal(wanted.where) for wanted in offsets}
        return tuple(wanted for wanted in offsets if refusals[wanted.where] is None), refusals

    def _partition_refusal(self, where: TopicPartition) -> LogbrokerError | None:
        try:
            partitions = self._engine.topic(where.topic).partitions
        except UnknownTopicOrPartition as error:
            return error
        if 0 <= where.partition < partitions:
            return None
        return UnknownTopicOrPartition(f"topic {where.topic!r} has {partitions} partitions", **where._asdict())

    # -- administration --------------------------------------------------------------------------------------------------

    def list_groups(self) -> list[m.GroupListing]:
        """All groups by id."""
        listed = (dataclasses.replace(group.listing, group_id=group_id) for group_id, group in self._groups())
        return sorted((one for one in listed if one.state is not m.GroupState.DEAD), key=lambda listing: listing.group_id)

    async def describe(self, group_id: str) -> m.GroupView:
        """One group; its state is DEAD if there is none of that name."""
        return await self._ask(group_id, m.DescribeGroup(), m.GroupView)

    async def delete(self, group_id: str) -> None:
        """Delete a group and its offsets. Raises GroupNotFound, NonEmptyGroup."""
        await self._ask(group_id, m.DeleteGroup(), m.Done)

    # -- machines --------------------------------------------------------------------------------------------------------

    def _groups(self) -> Iterator[tuple[str, Group]]:
        return (named for journal in self._journals for named in journal.machines())

    def _journal(self, group_id: str) -> Journal[Group, m.GroupReply]:
        if not self._journals:
            raise Recovering("the consumer groups are not loaded yet")
        return self._journals[crc32(group_id.encode()) % len(self._journals)]

    def _token(self, group_id: str) -> int:
        return self._journal(group_id).new_token()

    async def _ask(self, group_id: str, command: m.GroupCommand, reply_type: type[Reply]) -> Reply:
        reply = await self._journal(group_id).ask(group_id, command)
        assert isinstance(reply, reply_type)
        return reply


def _require_group_id(group_id: str) -> None:
    if not group_id:
        raise InvalidGroup("the group id is empty: name the group")
