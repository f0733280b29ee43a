"""One member of a consumer group: what it was given, what of that is finished, what may be committed.

What lives here: the state, and the flows that change it. What may not: waiting, sockets, clocks.
Invariants: a position is committed only when every record before it is finished, or was never given to this group; a record
is finished when the next one is asked for, never because the loop ended; what was given in a generation that is over is not
given, finished or committed in the next.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from logbroker.client.calls.base import Wait
from logbroker.client.calls.groups import Commit, Heartbeat, Join, Leave, Member, Poll, Polled, Reset, Seek, SetReading
from logbroker.client.calls.records import Position, Record
from logbroker.client.flows import Flow, do
from logbroker.client.retrying import delays
from logbroker.errors import IllegalGeneration, LogbrokerError, UnknownMember
from logbroker.model import TopicPartition

CommitMode = Literal["after", "manual"]
MAX_RECORDS = 500
_REJOINS = 12
"""How often a member tries to get back to a broker that cannot be reached, over about 45 s."""


def where_of(record: Record) -> TopicPartition:
    """The partition of a record."""
    return TopicPartition(record.topic, record.partition)


class Membership:
    """A member that reads ``topics`` in ``group``."""

    def __init__(self, topics: Sequence[str], group: str, start: Reset, *, commits: bool, session_timeout_ms: int) -> None:
        self.group = group
        self._topics = tuple(topics)
        self._start: Reset = start
        self._commits = commits
        self._session_timeout_ms = session_timeout_ms
        self._member: Member | None = None
        self._generation = -1
        self._buffer: deque[Record] = deque()
        self._parked: list[Record] = []
        """Records of partitions that were paused after they were read."""
        self._in_hand: list[Record] = []
        self._done: dict[TopicPartition, int] = {}
        """Before these positions everything is finished."""
        self._given: dict[TopicPartition, int] = {}
        """Before these positions everything was given to the caller."""
        self._committed: dict[TopicPartition, int] = {}
        self._is_stale = False
        self.heartbeat_interval_s = 1.0
        self.assignment: tuple[TopicPartition, ...] = ()

    # -- giving ----------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """What the caller has in hand is finished: it has come back for more."""
        for record in self._in_hand:
            self._done[where_of(record)] = record.offset + 1
        self._in_hand = []

    def take(self, count: int) -> list[Record]:
        """Up to ``count`` records that are there, in hand from now on; none means ``fill``."""
        if self._is_stale:
            self._drop()
        taken = [self._buffer.popleft() for _ in range(min(count, len(self._buffer)))]
        self._in_hand = [*self._in_hand, *taken]
        self._given.update((where_of(record), record.offset + 1) for record in taken)
        return taken

    def _drop(self) -> None:
        """What was read and not given is read again, by whoever has its partition then."""
        self._buffer.clear()
        self._parked.clear()
        self._is_stale = False

    def _forget(self) -> None:
        """No member any more, as far as we know."""
        self._drop()
        self._member, self._generation, self.assignment = None, -1, ()
        self._in_hand = []
        self._done.clear()
        self._given.clear()
        self._committed.clear()

    # -- reading ---------------------------------------------------------------------------------------------------------

    def fill(self, wait_ms: int, max_records: int = MAX_RECORDS) -> Flow[None]:
        """Commit what is finished, and read on; perhaps there is nothing yet. Joins first where need be.

        Raises what the group refuses with, and Unreachable when no broker was reached for a while.
        """
        member = self._member or (yield from self._join())
        commit = self._to_commit()
        try:
            polled = yield from do(Poll(member, commit, max_records, wait_ms))
        except UnknownMember:
            self._forget()
        except LogbrokerError as error:
            if not error.retriable:
                raise
            # Whether it was carried out is unknown, and then its records would be missing: start from what is committed.
            yield from self._abandon(member)
        else:
            self._took(polled, commit)

    def _join(self) -> Flow[Member]:
        wanted = Join(self.group, self._topics, self._start, self._session_timeout_ms, "logbroker-python")
        for delay in delays(_REJOINS):
            try:
                standing = yield from do(wanted)
                break
            except LogbrokerError as error:
                if not error.retriable:
                    raise
            yield from do(Wait(delay))
        else:
            standing = yield from do(wanted)
        self._member = Member(self.group, standing.member_id)
        self.assignment = standing.assignment
        self.heartbeat_interval_s = standing.heartbeat_interval_ms / 1_000
        return self._member

    def _abandon(self, member: Member) -> Flow[None]:
        self._forget()
        try:
            yield from do(Leave(member))
        except LogbrokerError:
            return  # the session ends by itself

    def _took(self, polled: Polled, commit: Iterable[Position]) -> None:
        for topic, partition, offset in commit:
            where = TopicPartition(topic, partition)
            if where not in polled.not_committed:
                self._committed[where] = offset
        if polled.generation != self._generation:
            self._drop()
            self._in_hand = []
            self._done, self._given, self._committed = {}, {}, {}
            self._generation = polled.generation
        self.assignment = polled.assignment
        if polled.rebalancing:
            return
        self._buffer.extend(polled.records)
        outstanding = self._outstanding()
        for where, position in polled.positions.items():
            self._done[where] = outstanding.get(where, position)

    def _outstanding(self) -> dict[TopicPartition, int]:
        """The first record of each partition that was read and is not finished."""
        first: dict[TopicPartition, int] = {}
        for record in (*self._in_hand, *self._parked, *self._buffer):
            first.setdefault(where_of(record), record.offset)
        return first

    def beat(self) -> Flow[None]:
        """Commit what is finished and say that the member lives, while the caller works. What goes wrong shows at the
        next ``fill``.
        """
        member, generation = self._member, self._generation
        if member is None:
            return
        try:
            commit = self._to_commit()
            if commit:
                refused = yield from do(Commit(member, generation, commit))
                self._note_committed(generation, commit, refused)
            standing = yield from do(Heartbeat(member))
        except (UnknownMember, IllegalGeneration):
            self._is_stale = True
        except LogbrokerError as error:
            self._is_stale = self._is_stale or not error.retriable
        else:
            self._is_stale = self._is_stale or standing.rebalancing or standing.generation != generation

    def _note_committed(self, generation: int, commit: Iterable[Position], refused: Collection[TopicPartition]) -> None:
        if generation == self._generation:
            for topic, partition, offset in commit:
                if TopicPartition(topic, partition) not in refused:
                    self._committed[TopicPartition(topic, partition)] = offset

    # -- committing ------------------------------------------------------------------------------------------------------

    def _to_commit(self) -> list[Position]:
        if not self._commits:
            return []
        return [
            Position(*where, offset) for where, offset in sorted(self._done.items()) if self._committed.get(where) != offset
        ]

    def commit(self, record: Record | None) -> Flow[None]:
        """Commit up to and with ``record``, or all that was given. Raises the first refusal."""
        if self._member is None:
            raise UnknownMember("nothing can be committed before something was read")
        if record is None:
            offsets: Mapping[TopicPartition, int] = self._given
        elif where_of(record) not in self.assignment:
            raise IllegalGeneration(f"{where_of(record)} is no longer assigned to this member of {self.group!r}")
        else:
            offsets = {where_of(record): record.offset + 1}
        commit = [Position(*where, offset) for where, offset in sorted(offsets.items())]
        if commit:
            generation = self._generation
            refused = yield from do(Commit(self._member, generation, commit))
            self._note_committed(generation, commit, refused)
            for error in refused.values():
                raise error

    def leave(self) -> Flow[None]:
        """Commit what is finished, and leave. What was not finished is read by others."""
        member = self._member
        if member is None:
            return
        commit = self._to_commit()
        generation = self._generation
        self._forget()
        try:
            if commit:
                yield from do(Commit(member, generation, commit))
        except LogbrokerError as error:
            if not isinstance(error, UnknownMember | IllegalGeneration):
                yield from self._abandon(member)
                raise
        yield from self._abandon(member)

    # -- moving ----------------------------------------------------------------------------------------------------------

    def _chosen(self, partitions: Collection[int] | None) -> list[TopicPartition]:
        chosen = [where for where in self.assignment if partitions is None or where.partition in partitions]
        missing = sorted(set(partitions or ()) - {where.partition for where in chosen})
        if missing:
            raise IllegalGeneration(f"partition {missing[0]} is not assigned to this member of {self.group!r}")
        return chosen

    def _require_member(self) -> Flow[Member]:
        while self._member is None or self._generation < 0:
            yield from self.fill(0)
        return self._member

    def seek(self, partitions: Collection[int] | None, to: Mapping[str, Any]) -> Flow[None]:
        """Read on elsewhere. Raises IllegalGeneration for a partition that is not assigned, RebalanceInProgress."""
        member = yield from self._require_member()
        chosen = self._chosen(partitions)
        positions = yield from do(Seek(member, to, chosen))
        moved = set(chosen)
        self._buffer = deque(record for record in self._buffer if where_of(record) not in moved)
        self._parked = [record for record in self._parked if where_of(record) not in moved]
        self._in_hand = [record for record in self._in_hand if where_of(record) not in moved]
        for where in moved & positions.keys():
            self._done[where] = self._given[where] = positions[where]

    def set_reading(self, partitions: Collection[int] | None, *, paused: bool) -> Flow[None]:
        """Stop reading partitions, but keep them; or go on. What was read and not given waits meanwhile."""
        member = yield from self._require_member()
        chosen = self._chosen(partitions)
        yield from do(SetReading(member, chosen, paused))
        affected = set(chosen)
        if paused:
            self._parked += [record for record in self._buffer if where_of(record) in affected]
            self._buffer = deque(record for record in self._buffer if where_of(record) not in affected)
        else:
            self._buffer.extendleft(reversed([one for one in self._parked if where_of(one) in affected]))
            self._parked = [record for record in self._parked if where_of(record) not in affected]
