"""Metadata, v0 to v13: the one broker there is, and the topics.

Intended deviations: a topic that is created by the request is in its answer at once, without a LEADER_NOT_AVAILABLE first;
the operations a client is authorized for are all that Kafka has, as there is no authorizer.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.broker.topics import INTERNAL_PREFIX, check_topic_name, is_reserved
from logbroker.engine.api import TopicInfo
from logbroker.errors import LogbrokerError, TopicAlreadyExists, UnknownTopicOrPartition
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import Refused, code_of
from logbroker.wire.codes import ErrorCode
from logbroker.wire.encoder import Numbered
from logbroker.wire.primitives import NO_UUID

LEADER_EPOCH: Final = 0
_BY_ID_FROM: Final = 12


def operations(*codes: int) -> int:
    """The bits of AclOperation codes (KIP-430)."""
    return sum(1 << code for code in codes)


TOPIC_OPERATIONS: Final = operations(3, 4, 5, 6, 7, 8, 10, 11)
CLUSTER_OPERATIONS: Final = operations(5, 7, 8, 9, 10, 11, 12)


def metadata(services: Services, request: Any, context: Context) -> dict[str, Any] | Awaitable[dict[str, Any]]:
    """Serve Metadata; only a request that has to create topics waits."""
    wanted = _wanted(services, request, context.version)
    missing = [name for name, _, found in wanted if isinstance(found, UnknownTopicOrPartition) and name is not None]
    creates = request.allow_auto_topic_creation and services.settings.broker.auto_create_topics
    if creates and missing:
        return _created(services, request, context, missing)
    return _fields(wanted, request, context)


_Wanted = tuple[str | None, Any, TopicInfo | LogbrokerError]


async def _created(services: Services, request: Any, context: Context, missing: Sequence[str]) -> dict[str, Any]:
    refusals: dict[str, LogbrokerError] = {}
    for name in missing:
        if is_reserved(name):
            continue
        try:
            await services.topics.create(name, None, {})
        except TopicAlreadyExists:
            pass
        except LogbrokerError as error:
            refusals[name] = error
    wanted = [
        (name, topic_id, refusals.get(name or "", found))
        for name, topic_id, found in _wanted(services, request, context.version)
    ]
    return _fields(wanted, request, context)


def _wanted(services: Services, request: Any, version: int) -> list[_Wanted]:
    """Name, id and what is known, of each topic asked for. v0 asks for all by an empty list, later ones by null."""
    topics = request.topics
    if topics is None or (version == 0 and not topics):
        return [(info.name, info.id, info) for info in services.engine.topics()]
    return [_look_up(services, topic, version) for topic in topics]


def _look_up(services: Services, topic: Any, version: int) -> _Wanted:
    # As in Kafka the id goes before the name: Java's consumer asks by id with an empty name.
    by_id = version >= _BY_ID_FROM and (topic.name is None or topic.topic_id != NO_UUID)
    try:
        if by_id:
            info = services.engine.topic_by_id(topic.topic_id)
        elif topic.name is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "a topic needs a name")
        else:
            check_topic_name(topic.name)
            info = services.engine.topic(topic.name)
    except UnknownTopicOrPartition as error:
        unknown_id = Refused(ErrorCode.UNKNOWN_TOPIC_ID, f"there is no topic with id {topic.topic_id}")
        return None if by_id else topic.name, topic.topic_id, unknown_id if by_id else error
    except LogbrokerError as error:
        return topic.name, NO_UUID, error
    return info.name, info.id, info


def _fields(wanted: Sequence[_Wanted], request: Any, context: Context) -> dict[str, Any]:
    node = context.node
    fields: dict[str, Any] = {
        "brokers": ({"node_id": node.node_id, "host": node.host, "port": node.port},),
        "cluster_id": node.cluster_id,
        "controller_id": node.node_id,
        "topics": [_topic(one, request, context) for one in wanted],
    }
    if request.include_cluster_authorized_operations:
        fields["cluster_authorized_operations"] = CLUSTER_OPERATIONS
    return fields


def _topic(wanted: _Wanted, request: Any, context: Context) -> dict[str, Any]:
    name, topic_id, found = wanted
    if isinstance(found, LogbrokerError):
        shown = name if context.version >= _BY_ID_FROM else name or ""
        return {"error_code": code_of(found), "name": shown, "topic_id": topic_id if name is None else NO_UUID}
    replicas = (context.node.node_id,)
    topic: dict[str, Any] = {
        "name": found.name,
        "topic_id": found.id,
        "is_internal": found.name.startswith(INTERNAL_PREFIX),
        "partitions": Numbered(
            found.partitions,
            "partition_index",
            {
                "leader_id": context.node.node_id,
                "leader_epoch": LEADER_EPOCH,
                "replica_nodes": replicas,
                "isr_nodes": replicas,
            },
        ),
    }
    if request.include_topic_authorized_operations:
        topic["topic_authorized_operations"] = TOPIC_OPERATIONS
    return topic


def refuse(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every topic asked for that it failed."""
    return {"topics": [{"error_code": code, "name": topic.name or ""} for topic in request.topics or ()]}
