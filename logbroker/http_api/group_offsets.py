"""What groups have committed, over HTTP: look, commit, reset.

What lives here: positions and plans in JSON. What may not: who may commit (``groups.offsets``), what a plan is
(``broker.resets``). Invariant: a request is checked whole before anything is committed; what is answered is durable.
"""

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, LogbrokerError
from logbroker.groups.messages import NO_GENERATION, CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.http_api.errors import entry
from logbroker.http_api.group_targets import TargetIn, target_of
from logbroker.http_api.payloads import Offset, PartitionNumber
from logbroker.http_api.requests import NoQuery, json_answer, read_json
from logbroker.model import TopicPartition

MAX_OFFSETS = 20_000


class OffsetIn(msgspec.Struct, forbid_unknown_fields=True):
    """A position to commit: the next offset to read, and a note."""

    topic: str
    partition: PartitionNumber
    offset: Offset
    metadata: str | None = None
    leader_epoch: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1


class OffsetsIn(msgspec.Struct, forbid_unknown_fields=True):
    """Positions to commit, as a member in a generation or without membership while the group has no members."""

    offsets: Annotated[list[OffsetIn], Meta(min_length=1, max_length=MAX_OFFSETS)]
    generation: Annotated[int, Meta(ge=NO_GENERATION, le=2**31 - 1)] = NO_GENERATION
    member_id: str = ""


class OffsetsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which offsets."""

    topic: Annotated[str | UnsetType, Meta(description="Only those of this topic.")] = UNSET


class CommittedOut(msgspec.Struct):
    """A committed position."""

    topic: str
    partition: int
    offset: int
    metadata: str | None
    leader_epoch: int
    committed_ms: int


class OffsetsOut(msgspec.Struct):
    """The committed positions of a group."""

    offsets: list[CommittedOut]


class CommitsOut(msgspec.Struct):
    """What became of each position: nothing to say, or its ``error``."""

    results: list[dict[str, Any]]


class ResetIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where to move a group: in all partitions of ``topics``, else in those it has committed for."""

    to: TargetIn
    topics: list[str] | None = None
    dry_run: Annotated[bool, Meta(description="Only plan.")] = True
    force: Annotated[bool, Meta(description="Although the group has members, who read on where they are.")] = False


class ChangeOut(msgspec.Struct):
    """A partition of a plan; ``clamped`` if the target lies outside it. ``error`` if it was not carried out."""

    topic: str
    partition: int
    old: int | None
    new: int
    clamped: bool
    error: dict[str, Any] | UnsetType = UNSET


class ResetOut(msgspec.Struct):
    """A reset, or with ``dry_run`` what it would do. With members in the group it needs ``force``."""

    group: str
    dry_run: bool
    members: int
    partitions: list[ChangeOut]


_offsets_decoder = msgspec.json.Decoder(OffsetsIn)
_reset_decoder = msgspec.json.Decoder(ResetIn)


async def get_offsets(services: Services, request: web.Request, query: OffsetsQuery) -> web.Response:
    """The positions a consumer group has committed."""
    committed = await services.groups.fetch_offsets(request.match_info["group"])
    offsets = [
        CommittedOut(*where, one.offset, one.metadata, one.leader_epoch, one.committed_ms)
        for where, one in sorted(committed.items())
        if query.topic in (UNSET, where.topic)
    ]
    return json_answer(OffsetsOut(offsets))


async def put_offsets(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Commit positions; without membership, while the group has no members."""
    wanted = await read_json(request, _offsets_decoder)
    offsets = to_commit(wanted.offsets)
    command = CommitOffsets(MemberClaim(wanted.member_id, wanted.generation), offsets)
    reply = await services.groups.commit(request.match_info["group"], command)
    results: list[dict[str, Any]] = []
    failures: list[LogbrokerError] = []
    for index, (where, refusal) in enumerate(reply.results):
        result: dict[str, Any] = {"index": index, **where._asdict()}
        if refusal is not None:
            failures.append(refusal)
            result["error"] = entry(refusal)
        results.append(result)
    if len(failures) == len(results) and len({failure.code for failure in failures}) == 1:
        raise failures[0]
    return json_answer(CommitsOut(results), 207 if failures else 200)


def to_commit(offsets: list[OffsetIn]) -> tuple[OffsetToCommit, ...]:
    """The positions. Raises InvalidRequest when a partition is named twice."""
    wanted = tuple(
        OffsetToCommit(TopicPartition(one.topic, one.partition), one.offset, one.leader_epoch, one.metadata)
        for one in offsets
    )
    if len({one.where for one in wanted}) < len(wanted):
        raise InvalidRequest("a partition is named twice")
    return wanted


async def reset_group(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Move a consumer group; by default only show where each partition would go."""
    wanted = await read_json(request, _reset_decoder)
    group_id = request.match_info["group"]
    target = target_of(wanted.to, services.clock.now().wall_ms)
    plan = await services.resets.plan(group_id, target, wanted.topics)
    changes = [ChangeOut(*change.where, change.old, change.new, change.clamped) for change in plan]
    failures: list[LogbrokerError] = []
    if not wanted.dry_run:
        results = await services.resets.carry_out(group_id, plan, force=wanted.force)
        for change, (_, refusal) in zip(changes, results, strict=True):
            if refusal is not None:
                failures.append(refusal)
                change.error = entry(refusal)
    members = len((await services.groups.describe(group_id)).members)
    return json_answer(ResetOut(group_id, wanted.dry_run, members, changes), 207 if failures else 200)
