"""Reading as a member of a consumer group by polls alone, for clients that have no Kafka consumer.

What lives here: what a poll does, in order: commit, heartbeat, take over what the group assigns, read. What may not: what
the group decides (``groups``), where one member stands (``reader``), formats of a door.
Invariants: a poll commits before it takes part in a rebalance, so that whoever reads on starts after what was processed;
nothing is counted as given by a poll that is broken off. Delivery is at least once.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from logbroker.broker.fetch import Fetch, Fetched, Limits, Start
from logbroker.broker.positions import EARLIEST, LATEST, resolve
from logbroker.broker.reader import AutoOffsetReset, Reader
from logbroker.broker.resets import Each, Target, named, offset_for
from logbroker.broker.waiting import Waiting
from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import (
    IllegalGeneration,
    LogbrokerError,
    OffsetOutOfRange,
    RebalanceInProgress,
    UnknownMember,
    UnknownTopicOrPartition,
    UnstableOffsetCommit,
)
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.hosted import HostedMembers, Standing
from logbroker.groups.messages import OffsetToCommit
from logbroker.groups.played import Wish
from logbroker.model import TopicPartition

T = TypeVar("T")

Commit = Literal["none", "previous"] | tuple[OffsetToCommit, ...]
"""What a poll commits first: nothing, all that earlier polls gave, or these positions."""
Refusals = dict[TopicPartition, LogbrokerError]
_KEPT_MS = 45_000
"""How long a reader of whose session nothing is known is kept without being heard of."""


class Moved(NamedTuple):
    """A position that was outside the log and was moved by ``auto_offset_reset``."""

    where: TopicPartition
    old: int
    new: int


class Polled(NamedTuple):
    """What a poll gave. ``positions`` says where the member reads on, of all that it is assigned."""

    standing: Standing
    fetched: list[Fetched]
    positions: dict[TopicPartition, int]
    rebalanced: bool
    """Whether the assignment may not be that of the poll before."""
    not_committed: Refusals
    not_read: Refusals
    moved: list[Moved]


class _Read(NamedTuple):
    fetched: list[Fetched]
    failures: Refusals


class Members:
    """The use cases of members that only poll. Calls raise the refusals of the coordinator, and Recovering at the end."""

    def __init__(self, engine: Engine, groups: GroupCoordinator, fetch: Fetch, waiting: Waiting, clock: Clock) -> None:
        self._engine = engine
        self._groups = groups
        self._fetch = fetch
        self._waiting = waiting
        self._clock = clock
        self._hosted = HostedMembers(groups, engine)
        self._readers: dict[tuple[str, str], Reader] = {}

    async def close(self) -> None:
        """Stop. The members stay in their groups until their sessions end, or poll the next broker."""
        await self._hosted.close()

    # -- coming and going ------------------------------------------------------------------------------------------------

    async def join(self, group_id: str, wish: Wish, auto_offset_reset: AutoOffsetReset) -> Standing:
        """Enter a group; returns with the first assignment. A caller that leaves meanwhile is taken out again.

        Raises InvalidRequest for a wish that cannot be fulfilled.
        """
        self._forget_silent()
        standing = await self._waiting.while_open(self._hosted.join(group_id, wish))
        reader = Reader(auto_offset_reset, wish.session_timeout_ms, self._clock.now().mono_ms)
        self._readers[group_id, standing.member_id] = reader
        try:
            await self._take_over(group_id, reader, standing)
        except LogbrokerError:
            await self.leave(group_id, standing.member_id)
            raise
        reader.rebalanced = False
        return standing

    async def leave(self, group_id: str, member_id: str) -> None:
        """Take the member out. Raises UnknownMember."""
        self._readers.pop((group_id, member_id), None)
        await self._hosted.leave(group_id, member_id)

    def heartbeat_interval_ms(self, group_id: str, member_id: str) -> int:
        """How often the member has to be heard of to stay and to notice a rebalance."""
        return self._hosted.heartbeat_interval_ms(group_id, member_id)

    async def heartbeat(self, group_id: str, member_id: str) -> Standing:
        """Say that the member lives while it works on what it was given; a rebalance that is due waits for its poll."""
        reader = self._reader(group_id, member_id)
        return await self._known(group_id, member_id, self._hosted.heartbeat(group_id, member_id), reader)

    # -- reading ---------------------------------------------------------------------------------------------------------

    async def poll(self, group_id: str, member_id: str, commit: Commit, limits: Limits) -> Polled:
        """Commit, say that the member lives, and read on; waits up to ``limits.wait_ms`` for records or a rebalance.

        Raises UnknownMember when the member has to join again, OffsetOutOfRange where ``auto_offset_reset`` is ``error``,
        and what reading raises if there is nothing else to give.
        """
        reader = self._reader(group_id, member_id)
        async with reader.polling:
            refusals = await self._known(group_id, member_id, self._commit(group_id, member_id, reader, commit), reader)
            standing, read, moved = await self._poll(group_id, member_id, reader, limits)
            if read.failures and not read.fetched:
                raise next(iter(read.failures.values()))
            rebalanced = standing.is_rebalancing or reader.rebalanced
            if not standing.is_rebalancing:
                reader.rebalanced = False
            positions = {} if standing.is_rebalancing else dict(reader.positions)
            return Polled(standing, read.fetched, positions, rebalanced, refusals, read.failures, moved)

    async def _poll(
        self, group_id: str, member_id: str, reader: Reader, limits: Limits
    ) -> tuple[Standing, _Read, list[Moved]]:
        loop = asyncio.get_running_loop()
        end = loop.time() + limits.wait_ms / 1000
        moved: list[Moved] = []
        while True:
            left_ms = max(int((end - loop.time()) * 1000), 0)
            beat = self._hosted.poll(group_id, member_id, left_ms)
            standing = await self._known(group_id, member_id, self._waiting.while_open(beat), reader)
            read = _Read([], {})
            if not standing.is_rebalancing:
                await self._take_over(group_id, reader, standing)
                left_ms = max(int((end - loop.time()) * 1000), 0)
                wait_ms = min(left_ms, self._hosted.heartbeat_interval_ms(group_id, member_id))
                read = await self._read(reader, limits, wait_ms, moved)
            if read.fetched or read.failures or loop.time() >= end or self._waiting.closing:
                return standing, read, moved

    async def _read(self, reader: Reader, limits: Limits, wait_ms: int, moved: list[Moved]) -> _Read:
        starts = reader.starts()
        if not starts:
            await self._waiting.for_end(wait_ms)
            return _Read([], {})
        share = Limits(limits.max_records, limits.max_bytes, limits.min_bytes, wait_ms, limits.isolation)
        answers = await self._fetch.fetch_many(starts, share)
        failures: Refusals = {}
        for start, answer in zip(starts, answers, strict=True):
            if isinstance(answer, OffsetOutOfRange) and reader.auto_offset_reset in ("earliest", "latest"):
                moved.append(await self._back_into_range(reader, start))
            elif isinstance(answer, UnknownTopicOrPartition):
                reader.positions.pop(start.where, None)  # the topic was deleted; the next generation is without it
            elif isinstance(answer, LogbrokerError):
                failures[start.where] = answer
        return _Read(reader.give(starts, (one for one in answers if isinstance(one, Fetched))), failures)

    async def _back_into_range(self, reader: Reader, start: Start) -> Moved:
        place = EARLIEST if reader.auto_offset_reset == "earliest" else LATEST
        offset = await resolve(self._engine, start.where, place, Limits().isolation)
        if reader.positions.get(start.where) == start.offset:
            reader.seek({start.where: offset})
        return Moved(start.where, start.offset, offset)

    # -- positions -------------------------------------------------------------------------------------------------------

    async def positions(self, group_id: str, member_id: str) -> dict[TopicPartition, int]:
        """Where the member reads on, of all that it is assigned. Raises RebalanceInProgress while that is unknown."""
        reader = self._reader(group_id, member_id)
        standing = await self.heartbeat(group_id, member_id)
        if standing.is_rebalancing and not standing.assignment:
            raise RebalanceInProgress("the group is rebalancing: poll until that is over")
        await self._take_over(group_id, reader, standing)
        return reader.positions

    async def seek(
        self, group_id: str, member_id: str, target: Target, partitions: Sequence[TopicPartition] | None
    ) -> dict[TopicPartition, int]:
        """Read on at ``target``, in ``partitions`` or in all; returns all positions.

        Raises as ``positions``, IllegalGeneration for a partition the member does not have, InvalidRequest.
        """
        assigned = await self._require_assigned(group_id, member_id, partitions or ())
        chosen = sorted(assigned) if partitions is None else partitions
        if isinstance(target, Each):
            chosen = named(target, chosen)
        offsets = {where: (await offset_for(self._engine, where, target, assigned[where]))[0] for where in chosen}
        reader = self._reader(group_id, member_id)
        reader.seek({where: offset for where, offset in offsets.items() if where in reader.positions})
        return reader.positions

    async def pause(
        self, group_id: str, member_id: str, partitions: Sequence[TopicPartition] | None, *, paused: bool
    ) -> list[TopicPartition]:
        """Stop (or go on) reading ``partitions``, or all; returns those that are paused now. Raises as ``seek``."""
        assigned = await self._require_assigned(group_id, member_id, partitions or ())
        reader = self._reader(group_id, member_id)
        chosen = set(assigned if partitions is None else partitions)
        reader.paused = reader.paused | chosen if paused else reader.paused - chosen
        return sorted(reader.paused)

    async def _require_assigned(
        self, group_id: str, member_id: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        assigned = await self.positions(group_id, member_id)
        for where in partitions:
            if where not in assigned:
                raise IllegalGeneration(f"{where} is not assigned to {member_id!r}", **where._asdict())
        return assigned

    async def _take_over(self, group_id: str, reader: Reader, standing: Standing) -> None:
        """Start the assignment the member stands in, unless that is done."""
        if reader.stands_in(standing.generation, standing.assignment):
            return
        committed = await self._groups.read_offsets(group_id, standing.assignment)
        for where in committed.unstable.intersection(standing.assignment):
            raise UnstableOffsetCommit(f"a position in {where} is part of an open transaction: try again")
        known = {where: found.offset for where, found in committed.offsets.items()}
        new = [where for where in standing.assignment if where not in known]
        fresh = {where: await self._first_position(group_id, reader, standing, where) for where in new}
        reader.begin(standing.generation, known, fresh)

    async def _first_position(self, group_id: str, reader: Reader, standing: Standing, where: TopicPartition) -> int:
        if reader.auto_offset_reset is None:
            await self.leave(group_id, standing.member_id)
            raise UnknownMember("the broker has restarted and nothing was committed: join again")
        if reader.auto_offset_reset == "error":
            raise OffsetOutOfRange(
                f"group {group_id!r} has committed nothing for {where}: commit an offset first, or say where to start",
                **where._asdict(),
            )
        place = EARLIEST if reader.auto_offset_reset == "earliest" else LATEST
        return await resolve(self._engine, where, place, Limits().isolation)

    # -- commits ---------------------------------------------------------------------------------------------------------

    async def _commit(self, group_id: str, member_id: str, reader: Reader, commit: Commit) -> Refusals:
        """Commit; returns what was refused, partition by partition."""
        if commit == "none":
            return {}
        given = tuple(OffsetToCommit(where, offset) for where, offset in sorted(reader.given.items()))
        wanted = given if commit == "previous" else commit
        refusals: Refusals = {}
        for may_go_back in (False, True):
            chosen = [one for one in wanted if (one.where in reader.sought) is may_go_back]
            if chosen:
                refusals |= await self._commit_some(group_id, member_id, chosen, may_go_back=may_go_back)
        for one in wanted:
            if one.where not in refusals:
                reader.committed(one.where, one.offset)
        return refusals

    async def _commit_some(
        self, group_id: str, member_id: str, offsets: Sequence[OffsetToCommit], *, may_go_back: bool
    ) -> Refusals:
        """A commit that comes too late is no reason not to poll on; what it was for is read again."""
        try:
            reply = await self._hosted.commit(group_id, member_id, offsets, may_go_back=may_go_back)
        except (RebalanceInProgress, IllegalGeneration) as error:
            return dict.fromkeys((one.where for one in offsets), error)
        return {where: refusal for where, refusal in reply.results if refusal is not None}

    # -- readers ---------------------------------------------------------------------------------------------------------

    def _reader(self, group_id: str, member_id: str) -> Reader:
        now = self._clock.now().mono_ms
        reader = self._readers.get((group_id, member_id))
        if reader is None:
            reader = self._readers[group_id, member_id] = Reader(None, _KEPT_MS, now)
        reader.heard_mono_ms = now
        return reader

    async def _known(self, group_id: str, member_id: str, work: Coroutine[Any, Any, T], reader: Reader) -> T:
        """The outcome of ``work``; a member that the group does not know is forgotten here too."""
        try:
            return await work
        except UnknownMember:
            if self._readers.get((group_id, member_id)) is reader:
                del self._readers[group_id, member_id]
            raise

    def _forget_silent(self) -> None:
        """Let go of readers whose callers are gone; their sessions have ended, or a poll would find them again."""
        now = self._clock.now().mono_ms
        for (group_id, member_id), reader in list(self._readers.items()):
            if not reader.polling.locked() and now - reader.heard_mono_ms > reader.session_timeout_ms:
                del self._readers[group_id, member_id]
                self._hosted.forget(group_id, member_id)
