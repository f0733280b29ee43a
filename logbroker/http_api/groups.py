"""Consumer groups as administrators see them: list, describe, lag, delete.

What lives here: groups in JSON. What may not: members that read (``group_members``), offsets (``group_offsets``),
arithmetic (``groups.lag``). Invariant: looking changes nothing, and works whoever the members are, Kafka's or ours.
"""

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.errors import GroupNotFound, InvalidRequest
from logbroker.groups.consumer_messages import ConsumerMemberView
from logbroker.groups.consumer_protocol import decode_assignment, subscribed_topics
from logbroker.groups.lag import PartitionLag, total
from logbroker.groups.messages import GroupKind, GroupState, GroupView, MemberView
from logbroker.http_api.group_targets import PartitionRef
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.requests import NoQuery, json_answer
from logbroker.model import TopicPartition


class GroupsQuery(PageQuery, frozen=True):
    """Which groups to list."""

    prefix: Annotated[str, Meta(description="Only groups whose id starts with this.")] = ""
    state: Annotated[
        Literal["Empty", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "Stable"] | UnsetType,
        Meta(description="Only groups in this state."),
    ] = UNSET


class GroupItem(msgspec.Struct):
    """A group in a list."""

    group: str
    type: str
    state: str
    protocol_type: str
    members: int


class GroupsOut(msgspec.Struct):
    """A page of groups, by id."""

    items: list[GroupItem]
    next_page_token: str | None


class MemberOut(msgspec.Struct):
    """A member. ``topics`` and ``assignment`` are empty while a classic group rebalances, null where they are not Kafka's.

    In a group of type ``consumer``, ``protocol`` says which one the member itself speaks, ``epoch`` is the assignment
    epoch it has reached, and ``target`` is what it will own once the group is stable; in a classic one these are null.
    """

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    topics: list[str] | None
    assignment: list[PartitionRef] | None
    protocol: str | None
    epoch: int | None
    pattern: str | None
    target: list[PartitionRef] | None


class PartitionLagOut(msgspec.Struct):
    """A group in one partition; null for what cannot be known.

    ``lag`` counts offsets from the first unread record to ``end``; ``lag_ms`` is that record's age, 0 when there is none.
    """

    topic: str
    partition: int
    committed: int | None
    log_start_offset: int | None
    end: int | None
    lag: int | None
    lag_ms: int | None
    status: str
    metadata: str | None
    committed_ms: int | None
    member_id: str | None


class LagOut(msgspec.Struct):
    """How far a group is behind: the sum of ``lag``, the largest ``lag_ms``, the worst ``status``, and each partition."""

    group: str
    state: str
    lag: int
    lag_ms: int
    status: str
    partitions: list[PartitionLagOut]


class GroupOut(LagOut):
    """A group, its members and how far it is behind. ``type`` is ``classic`` or ``consumer`` (KIP-848).

    ``generation`` is the group epoch of the latter, ``assignment_epoch`` the one that its targets were made for.
    """

    type: str
    generation: int
    assignment_epoch: int | None
    protocol_type: str
    protocol: str
    leader: str | None
    members: list[MemberOut]


class LagQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to show the lag."""

    history: Annotated[str | UnsetType, Meta(description="Not built yet: refused.")] = UNSET


class MissingOkQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about something that is not there."""

    missing_ok: Annotated[bool, Meta(description="Answer 204 then too.")] = False


# -- looking ---------------------------------------------------------------------------------------------------------


async def list_groups(services: Services, request: web.Request, query: GroupsQuery) -> web.Response:
    """List consumer groups."""
    listed = [
        one
        for one in services.groups.list_groups()
        if one.group_id.startswith(query.prefix) and query.state in (UNSET, one.state.value)
    ]
    page, token = page_of(listed, lambda one: one.group_id, query)
    items = [
        GroupItem(
            one.group_id,
            one.kind.value,
            one.state.value,
            one.protocol_type,
            len((await services.groups.describe(one.group_id)).members),
        )
        for one in page
    ]
    return json_answer(GroupsOut(items, token))


async def get_group(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a consumer group: its members, what they read, and how far it is behind."""
    group_id = request.match_info["group"]
    view = await _view(services, group_id)
    lag = await _lag(services, group_id, view)
    return json_answer(
        GroupOut(
            **msgspec.structs.asdict(lag),
            type=view.kind.value,
            generation=view.generation,
            assignment_epoch=view.consumer.assignment_epoch if view.consumer is not None else None,
            protocol_type=view.protocol_type,
            protocol=view.protocol,
            leader=view.leader,
            members=[_member(member) for member in view.members],
        )
    )


async def get_lag(services: Services, request: web.Request, query: LagQuery) -> web.Response:
    """How far a consumer group is behind, in records and in time."""
    if query.history is not UNSET:
        raise InvalidRequest("the history of a lag is not built yet: leave the parameter history out")
    return json_answer(await lag_out(services, request.match_info["group"]))


async def lag_out(services: Services, group_id: str) -> LagOut:
    """How far a group is behind, as it is told. Raises GroupNotFound."""
    return await _lag(services, group_id, await _view(services, group_id))


async def _view(services: Services, group_id: str) -> GroupView:
    """A group. Raises GroupNotFound."""
    view = await services.groups.describe(group_id)
    if view.state is GroupState.DEAD:
        raise GroupNotFound(f"there is no consumer group {group_id!r}")
    return view


async def _lag(services: Services, group_id: str, view: GroupView) -> LagOut:
    owners = {where: member.member_id for member in view.members for where in _assignment(member) or ()}
    lags = await services.lag.of(group_id, owners)
    whole = total(lags)
    partitions = [_partition_lag(one, owners.get(one.where)) for one in lags]
    return LagOut(group_id, view.state.value, whole.lag, whole.lag_ms, whole.status.value, partitions)


def _partition_lag(one: PartitionLag, member_id: str | None) -> PartitionLagOut:
    committed, bounds = one.committed, one.bounds
    return PartitionLagOut(
        topic=one.where.topic,
        partition=one.where.partition,
        committed=committed.offset if committed is not None else None,
        log_start_offset=bounds.log_start_offset if bounds is not None else None,
        end=bounds.high_watermark if bounds is not None else None,
        lag=one.lag,
        lag_ms=one.lag_ms,
        status=one.status.value,
        metadata=committed.metadata if committed is not None else None,
        committed_ms=committed.committed_ms if committed is not None else None,
        member_id=member_id,
    )


def _assignment(member: MemberView) -> tuple[TopicPartition, ...] | None:
    try:
        return decode_assignment(member.assignment).partitions
    except InvalidRequest:
        return None


def _member(member: MemberView) -> MemberOut:
    topics = subscribed_topics(member.metadata) if member.metadata else ()
    assignment, details = _assignment(member), member.consumer
    return MemberOut(
        member_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        session_timeout_ms=member.session_timeout_ms,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        topics=None if topics is None else list(topics),
        assignment=None if assignment is None else [PartitionRef(*where) for where in assignment],
        protocol=None if details is None else _protocol_of(details).value,
        epoch=None if details is None else details.epoch,
        pattern=None if details is None else details.pattern,
        target=None if details is None else [PartitionRef(*where) for where in details.target],
    )


def _protocol_of(member: ConsumerMemberView) -> GroupKind:
    return GroupKind.CLASSIC if member.is_classic else GroupKind.CONSUMER


async def delete_group(services: Services, request: web.Request, query: MissingOkQuery) -> web.Response:
    """Delete a consumer group and what it has committed."""
    try:
        await services.groups.delete(request.match_info["group"])
    except GroupNotFound:
        if not query.missing_ok:
            raise
    return web.Response(status=204)
