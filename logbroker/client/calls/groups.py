"""Members of consumer groups: join, poll, heartbeat, seek, pause, commit, leave; and how far a group is behind."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from logbroker.client.calls.base import Call, Done, Read, Request, get, path, send
from logbroker.client.calls.records import ENCODING, Position, Record, WireRecord
from logbroker.client.problems import error_of
from logbroker.errors import LogbrokerError
from logbroker.model import TopicPartition

Reset = Literal["earliest", "latest", "error"]
"""Where to start without a committed offset, and where to go from outside the log."""
JOIN_WAIT_MS = 60_000
"""A member that is silent holds up a join for so long, until its group gives it up."""


class _Ref(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int = -1
    error: dict[str, Any] | None = None

    @property
    def where(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class Standing(NamedTuple):
    """Where a member stands. It has to be heard of every ``heartbeat_interval_ms``."""

    member_id: str
    generation: int
    assignment: tuple[TopicPartition, ...]
    rebalancing: bool
    heartbeat_interval_ms: int


class Polled(NamedTuple):
    """What a poll gave. ``positions`` says where each partition is read on; ``not_committed`` what was refused."""

    records: list[Record]
    positions: dict[TopicPartition, int]
    generation: int
    assignment: tuple[TopicPartition, ...]
    rebalancing: bool
    not_committed: dict[TopicPartition, LogbrokerError]


class PartitionLag(msgspec.Struct, frozen=True):
    """A group in one partition; None for what cannot be known."""

    topic: str
    partition: int
    committed: int | None
    end: int | None
    lag: int | None
    lag_ms: int | None
    status: str


class GroupLag(msgspec.Struct, frozen=True):
    """How far a group is behind: the sum of ``lag``, the largest ``lag_ms``, the worst ``status``, each partition."""

    group: str
    state: str
    lag: int
    lag_ms: int
    status: str
    partitions: list[PartitionLag]


class _StandingAnswer(msgspec.Struct):
    member_id: str
    generation: int
    assignment: list[_Ref]
    rebalancing: bool
    heartbeat_interval_ms: int

    def standing(self) -> Standing:
        assignment = tuple(one.where for one in self.assignment)
        return Standing(self.member_id, self.generation, assignment, self.rebalancing, self.heartbeat_interval_ms)


class Join(Call[Standing], frozen=True):
    """Join a group; answers with the first assignment."""

    group: str
    topics: Sequence[str]
    auto_offset_reset: Reset
    session_timeout_ms: int
    client_id: str
    repeatable: ClassVar[bool] = True
    breakable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {
            "topics": list(self.topics),
            "auto_offset_reset": self.auto_offset_reset,
            "session_timeout_ms": self.session_timeout_ms,
            "client_id": self.client_id,
        }
        return send("POST", path("groups", self.group, "members"), body, wait_ms=JOIN_WAIT_MS)

    def answer(self, body: bytes) -> Standing:
        return msgspec.json.decode(body, type=_StandingAnswer).standing()


class Member(NamedTuple):
    """One member of a group."""

    group: str
    member_id: str

    def path(self, verb: str = "") -> str:
        """Its path."""
        return path("groups", self.group, "members", self.member_id, verb=verb)


class Heartbeat(Call[Standing], frozen=True):
    """Say that a member lives."""

    member: Member
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("POST", self.member.path("heartbeat"))

    def answer(self, body: bytes) -> Standing:
        return msgspec.json.decode(body, type=_StandingAnswer).standing()


class _PollAnswer(msgspec.Struct):
    records: list[WireRecord]
    positions: list[_Ref]
    generation: int
    assignment: list[_Ref]
    rebalancing: bool
    commit_errors: list[_Ref]


class Poll(Call[Polled], frozen=True):
    """Commit, say that the member lives, and read on. Never repeated: what it gave would be missing."""

    member: Member
    commit: Sequence[Position]
    max_records: int
    wait_ms: int
    isolation: str = "read_committed"
    breakable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {
            "commit": [one._asdict() for one in self.commit] or "none",
            "max_records": self.max_records,
            "wait_ms": self.wait_ms,
            "isolation": self.isolation,
            "encoding": ENCODING,
        }
        return send("POST", self.member.path("poll"), body, wait_ms=self.wait_ms + JOIN_WAIT_MS)

    def answer(self, body: bytes) -> Polled:
        told = msgspec.json.decode(body, type=_PollAnswer)
        return Polled(
            [one.stored() for one in told.records],
            {one.where: one.offset for one in told.positions},
            told.generation,
            tuple(one.where for one in told.assignment),
            told.rebalancing,
            {one.where: error_of(one.error) for one in told.commit_errors if one.error is not None},
        )


class Leave(Done, frozen=True):
    """Leave a group."""

    member: Member
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("DELETE", self.member.path(), query={"missing_ok": True})


class _Positions(msgspec.Struct):
    positions: list[_Ref]


class Seek(Call[dict[TopicPartition, int]], frozen=True):
    """Read on elsewhere in some partitions; answers where each partition is read on."""

    member: Member
    to: Mapping[str, Any]
    partitions: Sequence[TopicPartition]
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {"to": self.to, "partitions": [one._asdict() for one in self.partitions]}
        return send("POST", self.member.path("seek"), body)

    def answer(self, body: bytes) -> dict[TopicPartition, int]:
        return {one.where: one.offset for one in msgspec.json.decode(body, type=_Positions).positions}


class SetReading(Done, frozen=True):
    """Stop reading some partitions, but keep them; or go on."""

    member: Member
    partitions: Sequence[TopicPartition]
    paused: bool
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {"partitions": [one._asdict() for one in self.partitions]}
        return send("POST", self.member.path("pause" if self.paused else "resume"), body)


class _Committed(msgspec.Struct):
    results: list[_Ref]


class Commit(Call[dict[TopicPartition, LogbrokerError]], frozen=True):
    """Commit positions as a member of a generation; answers what was refused."""

    member: Member
    generation: int
    positions: Sequence[Position]
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        offsets = [one._asdict() for one in self.positions]
        body = {"offsets": offsets, "generation": self.generation, "member_id": self.member.member_id}
        return send("PUT", path("groups", self.member.group, "offsets"), body)

    def answer(self, body: bytes) -> dict[TopicPartition, LogbrokerError]:
        results = msgspec.json.decode(body, type=_Committed).results
        return {one.where: error_of(one.error) for one in results if one.error is not None}


class GetLag(Read[GroupLag], frozen=True):
    """How far a group is behind."""

    group: str

    def request(self) -> Request:
        return get(path("groups", self.group, "lag"))

    def answer(self, body: bytes) -> GroupLag:
        return msgspec.json.decode(body, type=GroupLag)
