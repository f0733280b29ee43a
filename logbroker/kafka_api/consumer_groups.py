"""ConsumerGroupHeartbeat, v0 and v1, and ConsumerGroupDescribe, v0 and v1: the consumer protocol (KIP-848).

Intended deviations: a heartbeat to a group that does not exist is told UNKNOWN_MEMBER_ID, not GROUP_ID_NOT_FOUND, so that
its sender joins anew instead of giving up; patterns do not match the broker's own topics; racks are noted and not used.

What lives here: translation, topic ids to names and back. What may not: anything a group decides.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.engine.api import Engine
from logbroker.errors import GroupNotFound, LogbrokerError, UnknownTopicOrPartition
from logbroker.groups.consumer_messages import ConsumerHeartbeat
from logbroker.groups.messages import MemberView
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import Refused, code_of, message_of
from logbroker.kafka_api.groups_admin import GROUP_OPERATIONS
from logbroker.model import TopicPartition
from logbroker.wire.codes import ErrorCode

_NAME_CHARS: Final = 249
"""The most characters of an instance id (longer ones are refused), a client id (cut)."""
_UNSAID_MS: Final = -1
_CLASSIC_MEMBER, _CONSUMER_MEMBER = 0, 1


async def heartbeat(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve ConsumerGroupHeartbeat."""
    if len(request.instance_id or "") > _NAME_CHARS:
        raise Refused(ErrorCode.INVALID_REQUEST, f"a group.instance.id has at most {_NAME_CHARS} characters")
    owned = request.topic_partitions
    timeout_ms = request.rebalance_timeout_ms
    command = ConsumerHeartbeat(
        member_id=request.member_id,
        epoch=request.member_epoch,
        instance_id=request.instance_id,
        rack_id=request.rack_id,
        client_id=context.client_id[:_NAME_CHARS],
        client_host=context.client_host,
        rebalance_timeout_ms=None if timeout_ms == _UNSAID_MS else max(timeout_ms, 0),
        topics=request.subscribed_topic_names,
        pattern=request.subscribed_topic_regex,
        assignor=request.server_assignor,
        owned=None if owned is None else frozenset(_named(services.engine, owned)),
    )
    beaten = await services.groups.consumer_heartbeat(request.group_id, command, make_member_id=context.version == 0)
    return {
        "member_id": beaten.member_id,
        "member_epoch": beaten.epoch,
        "heartbeat_interval_ms": beaten.interval_ms,
        "assignment": None if beaten.assignment is None else _assignment(services.engine, beaten.assignment, named=False),
    }


async def describe(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve ConsumerGroupDescribe."""
    shown = {"authorized_operations": GROUP_OPERATIONS} if request.include_authorized_operations else {}
    return {"groups": [{**await _described(services, group_id), **shown} for group_id in request.group_ids]}


async def _described(services: Services, group_id: str) -> dict[str, Any]:
    try:
        view = await services.groups.describe(group_id)
        if view.consumer is None:
            raise GroupNotFound(f"there is no consumer group {group_id!r} of this protocol")
    except LogbrokerError as error:
        return {"group_id": group_id, "error_code": code_of(error), "error_message": message_of(error)}
    return {
        "group_id": group_id,
        "group_state": view.state.value,
        "group_epoch": view.generation,
        "assignment_epoch": view.consumer.assignment_epoch,
        "assignor_name": view.protocol,
        "members": [_member(services.engine, member) for member in view.members],
    }


def _member(engine: Engine, member: MemberView) -> dict[str, Any]:
    details = member.consumer
    assert details is not None  # every member of such a group has them
    return {
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "rack_id": details.rack_id,
        "member_epoch": details.epoch,
        "client_id": member.client_id,
        "client_host": f"/{member.client_host}",
        "subscribed_topic_names": details.topics,
        "subscribed_topic_regex": details.pattern,
        "assignment": _assignment(engine, details.owned),
        "target_assignment": _assignment(engine, details.target),
        "member_type": _CLASSIC_MEMBER if details.is_classic else _CONSUMER_MEMBER,
    }


def refuse_describe(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every group that it failed."""
    return {
        "groups": [{"group_id": group_id, "error_code": code, "error_message": message} for group_id in request.group_ids]
    }


def _named(engine: Engine, topics: Iterable[Any]) -> Iterable[TopicPartition]:
    """The partitions by topic name; of a topic that is gone nobody owns anything."""
    for topic in topics:
        try:
            name = engine.topic_by_id(topic.topic_id).name
        except UnknownTopicOrPartition:
            continue
        yield from (TopicPartition(name, number) for number in topic.partitions)


def _assignment(engine: Engine, partitions: Sequence[TopicPartition], *, named: bool = True) -> dict[str, Any]:
    """Sorted partitions as the protocol groups them; those of a topic that is gone are left out."""
    topics = []
    for name, some in groupby(partitions, lambda at: at.topic):
        try:
            topic_id = engine.topic(name).id
        except UnknownTopicOrPartition:
            continue
        names = {"topic_name": name} if named else {}
        topics.append({"topic_id": topic_id, **names, "partitions": [at.partition for at in some]})
    return {"topic_partitions": topics}
