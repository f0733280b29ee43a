"""Members that have no Kafka client: callers poll, and the broker does what a Kafka consumer does about its group.

What lives here: who polls which member, and the rebalances that go on between polls. What may not: the member's own part
(``played``), records, positions, HTTP. To the group such a member is like any other, so members of both doors share a
group; whichever leads it assigns to all, for both speak protocol type "consumer".
Invariants: a member reads only what it was assigned in the generation the group is in; a poll is its heartbeat, and nothing
else keeps it in the group.

Callers poll at least every ``heartbeat_interval_ms``, also while they wait for records, so that a rebalance is noticed.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from logbroker.engine.api import Engine
from logbroker.errors import IllegalGeneration, LogbrokerError
from logbroker.groups import messages as m
from logbroker.groups.consumer_protocol import decode_subscription
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.membership import unknown_member
from logbroker.groups.played import HOST_PREFIX, PlayedMember, Wish
from logbroker.model import TopicPartition

HEARTBEAT_MS = 3_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a member stands. While the group rebalances it has nothing to read."""

    member_id: str
    generation: int
    assignment: tuple[TopicPartition, ...]
    is_rebalancing: bool = False


@dataclass(slots=True)
class _Hosted:
    member: PlayedMember
    entering: "asyncio.Task[None] | None" = None

    @property
    def standing(self) -> Standing:
        member, is_rebalancing = self.member, self.entering is not None
        return Standing(member.member_id, member.generation, () if is_rebalancing else member.assignment, is_rebalancing)


class HostedMembers:
    """The members that the broker plays. Calls raise the refusals of the coordinator."""

    def __init__(self, coordinator: GroupCoordinator, engine: Engine) -> None:
        self._coordinator = coordinator
        self._engine = engine
        self._hosted: dict[tuple[str, str], _Hosted] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop playing. The members stay in their groups until their sessions end, or poll the next broker."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, group_id: str, wish: Wish) -> Standing:
        """Enter a group; returns with the first assignment. A caller that leaves meanwhile is taken out again."""
        wish.check()
        member = PlayedMember(self._coordinator, self._engine, group_id, wish)
        await member.get_member_id()
        entering = self._spawn(member.enter())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.cancel()
            self._spawn(member.leave())
            raise
        hosted = self._hosted[group_id, member.member_id] = _Hosted(member)
        return hosted.standing

    async def poll(self, group_id: str, member_id: str, wait_ms: int = 0) -> Standing:
        """The heartbeat. Starts or continues a rebalance that is due, and waits up to ``wait_ms`` for its end.

        Raises UnknownMember when the member has to join again.
        """
        hosted = await self._find(group_id, member_id)
        try:
            if hosted.entering is None and await hosted.member.must_enter():
                hosted.entering = hosted.entering or self._spawn(hosted.member.enter())
            if hosted.entering is not None:
                await asyncio.wait({hosted.entering}, timeout=wait_ms / 1_000)
            if hosted.entering is not None and hosted.entering.done():
                ended, hosted.entering = hosted.entering, None
                if ended.cancelled():
                    raise unknown_member(member_id)
                ended.result()
        except LogbrokerError:
            self.forget(group_id, member_id)
            raise
        return hosted.standing

    async def heartbeat(self, group_id: str, member_id: str) -> Standing:
        """Say that the member lives, and no more: it keeps what it has, and a rebalance that is due waits for its poll.

        Raises UnknownMember when the member has to join again.
        """
        hosted = await self._find(group_id, member_id)
        try:
            is_due = await hosted.member.must_enter()
        except LogbrokerError:
            self.forget(group_id, member_id)
            raise
        standing = hosted.standing
        return replace(standing, is_rebalancing=is_due or standing.is_rebalancing)

    def forget(self, group_id: str, member_id: str) -> None:
        """Let go of a member whose caller is gone; if it lives after all, its next poll finds it again."""
        self._hosted.pop((group_id, member_id), None)

    async def commit(
        self, group_id: str, member_id: str, offsets: Sequence[m.OffsetToCommit], *, may_go_back: bool = False
    ) -> m.OffsetResults:
        """Commit positions of partitions that the member still has; each is answered for itself."""
        member = (await self._find(group_id, member_id)).member
        held = tuple(wanted for wanted in offsets if wanted.where in member.assignment)
        results: dict[TopicPartition, LogbrokerError | None] = {
            wanted.where: IllegalGeneration(f"{wanted.where} is no longer assigned to {member_id!r}") for wanted in offsets
        }
        if held:
            reply = await self._coordinator.commit(group_id, m.CommitOffsets(member.claim, held, may_go_back))
            results.update(reply.results)
        return m.OffsetResults(tuple((wanted.where, results[wanted.where]) for wanted in offsets))

    async def leave(self, group_id: str, member_id: str) -> None:
        """Take the member out. Raises UnknownMember."""
        hosted = await self._find(group_id, member_id)
        del self._hosted[group_id, member_id]
        if hosted.entering is not None:
            hosted.entering.cancel()
        await hosted.member.leave()

    def heartbeat_interval_ms(self, group_id: str, member_id: str) -> int:
        """How often the member has to poll to stay and to notice a rebalance."""
        hosted = self._hosted.get((group_id, member_id))
        return HEARTBEAT_MS if hosted is None else min(HEARTBEAT_MS, hosted.member.wish.session_timeout_ms // 3)

    async def _find(self, group_id: str, member_id: str) -> _Hosted:
        hosted = self._hosted.get((group_id, member_id))
        if hosted is None:
            recalled = await self._recalled(group_id, member_id)
            hosted = self._hosted.setdefault((group_id, member_id), _Hosted(recalled))
        return hosted

    async def _recalled(self, group_id: str, member_id: str) -> PlayedMember:
        """A member from before a restart, which knows its subscription from the group; a pattern has become its topics.

        In the middle of a rebalance the group knows no subscriptions: UnknownMember makes the caller join anew.
        """
        view = await self._coordinator.describe(group_id)
        known = next((one for one in view.members if one.member_id == member_id), None)
        if known is None or not known.client_host.startswith(HOST_PREFIX) or view.state is not m.GroupState.STABLE:
            raise unknown_member(member_id)
        wish = Wish(
            topics=decode_subscription(known.metadata).topics,
            assignor=view.protocol,
            client_id=known.client_id,
            host=known.client_host.removeprefix(HOST_PREFIX),
            instance_id=known.instance_id,
            session_timeout_ms=known.session_timeout_ms,
            rebalance_timeout_ms=known.rebalance_timeout_ms,
        )
        member = PlayedMember(self._coordinator, self._engine, group_id, wish)
        member.recall(known, view.generation)
        return member

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Whoever polls hears of a failure; that nobody polls is no reason to complain."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
