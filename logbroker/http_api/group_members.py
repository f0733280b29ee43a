"""Members of consumer groups over HTTP: join, poll, heartbeat, seek, pause, resume, leave.

What lives here: members in JSON. What may not: what a poll does (``broker.members``). Invariant: a request that is refused
has not moved a member.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.fetch import Limits
from logbroker.broker.members import Commit, Polled
from logbroker.broker.services import Services
from logbroker.broker.topics import check_topic_name
from logbroker.engine.api import Isolation
from logbroker.errors import LogbrokerError, UnknownMember
from logbroker.groups.hosted import Standing
from logbroker.groups.played import Wish
from logbroker.http_api.errors import entry
from logbroker.http_api.fetch import IsolationLevel, MaxBytes, MaxRecords, WaitMs
from logbroker.http_api.group_offsets import OffsetIn, to_commit
from logbroker.http_api.group_targets import (
    PartitionIn,
    PartitionRef,
    PositionOut,
    TargetIn,
    partitions_of,
    target_of,
)
from logbroker.http_api.groups import MissingOkQuery
from logbroker.http_api.payloads import Encoding, RecordOut, to_payload
from logbroker.http_api.requests import NoQuery, json_answer, read_json
from logbroker.model import StoredRecord, TopicPartition

MAX_TOPICS = 1_000
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,249}$")]
TimeoutMs = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class JoinIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a member wants to read: topics by name, or all whose name matches a glob.

    ``auto_offset_reset`` says where to start without a committed offset, and where to go from outside the log.
    """

    topics: Annotated[list[str], Meta(min_length=1, max_length=MAX_TOPICS)] | UnsetType = UNSET
    pattern: Annotated[str, Meta(min_length=1, max_length=249)] | UnsetType = UNSET
    client_id: Name = "http"
    instance_id: Name | None = None
    session_timeout_ms: TimeoutMs = 45_000
    rebalance_timeout_ms: TimeoutMs = 60_000
    assignor: Literal["range", "roundrobin", "sticky", "cooperative-sticky"] = "range"
    auto_offset_reset: Literal["earliest", "latest", "error"] = "latest"


class StandingOut(msgspec.Struct):
    """Where a member stands. It has to poll or heartbeat every ``heartbeat_interval_ms``.

    While ``rebalancing`` is true, the next poll takes part in a rebalance.
    """

    member_id: str
    generation: int
    assignment: list[PartitionRef]
    rebalancing: bool
    heartbeat_interval_ms: int


class PollIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to commit first, and how much to read.

    ``commit``: ``previous`` is all that was given, as far as the broker knows (one that has restarted gives it again);
    the ``positions`` of an earlier answer are exact.
    """

    max_records: MaxRecords = 500
    max_bytes: MaxBytes = 1 << 20
    wait_ms: WaitMs = 0
    commit: Literal["none", "previous"] | Annotated[list[OffsetIn], Meta(max_length=20_000)] = "previous"
    encoding: Encoding = "auto"
    isolation: IsolationLevel = "read_committed"


class MemberRecord(RecordOut, kw_only=True, gc=False):
    """A record, and the topic it is from."""

    topic: str


class PollOut(msgspec.Struct):
    """Records, and where each partition is read on: what to commit once they are processed.

    ``rebalanced``: the assignment may have changed since the last poll. ``commit_errors``: positions that were not
    committed. ``errors``: partitions that cannot be read. ``moved``: those that were outside the log.
    """

    records: list[MemberRecord]
    positions: list[PositionOut]
    generation: int
    assignment: list[PartitionRef]
    rebalanced: bool
    rebalancing: bool
    commit_errors: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    moved: list[dict[str, Any]]


class SeekIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where to read on, in ``partitions`` or in all that are assigned."""

    to: TargetIn
    partitions: Annotated[list[PartitionIn], Meta(min_length=1, max_length=20_000)] | None = None


class PositionsOut(msgspec.Struct):
    """Where each partition that is assigned is read on."""

    positions: list[PositionOut]


class PauseIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which partitions; all that are assigned if it does not say."""

    partitions: Annotated[list[PartitionIn], Meta(max_length=20_000)] | None = None


class PausedOut(msgspec.Struct):
    """The partitions that are paused."""

    paused: list[PartitionRef]


_join_decoder = msgspec.json.Decoder(JoinIn)
_poll_decoder = msgspec.json.Decoder(PollIn)
_seek_decoder = msgspec.json.Decoder(SeekIn)
_pause_decoder = msgspec.json.Decoder(PauseIn)


async def join_group(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Join a consumer group; answers with the first assignment."""
    wanted = await read_json(request, _join_decoder)
    topics = () if wanted.topics is UNSET else tuple(dict.fromkeys(wanted.topics))
    for topic in topics:
        check_topic_name(topic)
    wish = Wish(
        topics=topics,
        pattern=None if wanted.pattern is UNSET else wanted.pattern,
        assignor=wanted.assignor,
        client_id=wanted.client_id,
        host=request.remote or "",
        instance_id=wanted.instance_id,
        session_timeout_ms=wanted.session_timeout_ms,
        rebalance_timeout_ms=wanted.rebalance_timeout_ms,
    )
    group_id = request.match_info["group"]
    standing = await services.members.join(group_id, wish, wanted.auto_offset_reset)
    return json_answer(_standing(services, group_id, standing), 201)


async def leave_group(services: Services, request: web.Request, query: MissingOkQuery) -> web.Response:
    """Leave a consumer group. What was not committed is read again by others."""
    try:
        await services.members.leave(*_member(request))
    except UnknownMember:
        if not query.missing_ok:
            raise
    return web.Response(status=204)


async def heartbeat(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Say that the member lives, while it works on what it was given."""
    group_id, member_id = _member(request)
    return json_answer(_standing(services, group_id, await services.members.heartbeat(group_id, member_id)))


async def poll(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Commit, say that the member lives, and read on."""
    wanted = await read_json(request, _poll_decoder)
    commit: Commit = wanted.commit if isinstance(wanted.commit, str) else to_commit(wanted.commit)
    isolation = Isolation[wanted.isolation.upper()]
    limits = Limits(wanted.max_records, wanted.max_bytes, wait_ms=wanted.wait_ms, isolation=isolation)
    polled = await services.members.poll(*_member(request), commit, limits)
    return json_answer(_polled(polled, wanted.encoding))


async def seek(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Read on elsewhere."""
    wanted = await read_json(request, _seek_decoder)
    target = target_of(wanted.to, services.clock.now().wall_ms)
    partitions = None if wanted.partitions is None else partitions_of(wanted.partitions)
    positions = await services.members.seek(*_member(request), target, partitions)
    return json_answer(PositionsOut(_positions(positions)))


async def pause(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Stop reading partitions, but keep them."""
    return await _pause(services, request, paused=True)


async def resume(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Go on reading partitions that were paused."""
    return await _pause(services, request, paused=False)


async def _pause(services: Services, request: web.Request, *, paused: bool) -> web.Response:
    wanted = await read_json(request, _pause_decoder)
    partitions = None if wanted.partitions is None else partitions_of(wanted.partitions)
    now = await services.members.pause(*_member(request), partitions, paused=paused)
    return json_answer(PausedOut([PartitionRef(*where) for where in now]))


def _member(request: web.Request) -> tuple[str, str]:
    return request.match_info["group"], request.match_info["member"]


def _standing(services: Services, group_id: str, standing: Standing) -> StandingOut:
    return StandingOut(
        member_id=standing.member_id,
        generation=standing.generation,
        assignment=[PartitionRef(*where) for where in standing.assignment],
        rebalancing=standing.is_rebalancing,
        heartbeat_interval_ms=services.members.heartbeat_interval_ms(group_id, standing.member_id),
    )


def _positions(positions: Mapping[TopicPartition, int]) -> list[PositionOut]:
    return [PositionOut(*where, offset) for where, offset in sorted(positions.items())]


def _polled(polled: Polled, encoding: Encoding) -> PollOut:
    standing = polled.standing
    return PollOut(
        records=[_record(one.where, record, encoding) for one in polled.fetched for record in one.records],
        positions=_positions(polled.positions),
        generation=standing.generation,
        assignment=[PartitionRef(*where) for where in standing.assignment],
        rebalanced=polled.rebalanced,
        rebalancing=standing.is_rebalancing,
        commit_errors=_errors(polled.not_committed),
        errors=_errors(polled.not_read),
        moved=[{**one.where._asdict(), "old": one.old, "new": one.new} for one in polled.moved],
    )


def _record(where: TopicPartition, record: StoredRecord, encoding: Encoding) -> MemberRecord:
    written = to_payload(where.partition, record, encoding)
    return MemberRecord(topic=where.topic, **msgspec.structs.asdict(written))


def _errors(refusals: Mapping[TopicPartition, LogbrokerError]) -> list[dict[str, Any]]:
    return [{**where._asdict(), "error": entry(error)} for where, error in sorted(refusals.items())]
