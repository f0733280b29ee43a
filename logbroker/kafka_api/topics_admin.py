"""CreateTopics, v2 to v7, DeleteTopics, v1 to v6, CreatePartitions, v0 to v3, and DeleteRecords, v0 to v2.

Intended deviations: the replication factor can be 1 or left to the broker (-1), an assignment can name this broker alone;
time limits are not used, as an answer comes when the change is durable; names that logbroker keeps for itself are refused
with INVALID_TOPIC_EXCEPTION.

What lives here: translation, and the rules about replicas. What may not: rules about topics (``broker.topics``).
Invariant: each topic of a request succeeds or fails alone; one that is named twice is refused.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.engine.api import TopicInfo
from logbroker.errors import InvalidPartitions, LogbrokerError, UnknownTopicOrPartition
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.config_names import overrides_from_kafka
from logbroker.kafka_api.configs import topic_entries
from logbroker.kafka_api.errors import Refused, code_of, message_of
from logbroker.kafka_api.offsets import refused_partitions
from logbroker.wire.codes import ErrorCode
from logbroker.wire.primitives import NO_UUID

_DEFAULT: Final = -1
_REPLICAS: Final = 1
_HIGH_WATERMARK: Final = -1
_BY_ID_FROM: Final = 6


def _check_once(names: Sequence[str], name: str) -> None:
    if Counter(names)[name] > 1:
        raise Refused(ErrorCode.INVALID_REQUEST, f"topic {name!r} is named more than once in the request")


# -- creating --------------------------------------------------------------------------------------------------------


async def create_topics(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve CreateTopics."""
    names = [topic.name for topic in request.topics]
    topics = []
    for topic in request.topics:
        try:
            _check_once(names, topic.name)
            topics.append(await _create(services, topic, context, validate_only=request.validate_only))
        except LogbrokerError as error:
            topics.append({"name": topic.name, "error_code": code_of(error), "error_message": message_of(error)})
    return {"topics": topics}


async def _create(services: Services, topic: Any, context: Context, *, validate_only: bool) -> dict[str, Any]:
    partitions = _partitions(topic, context.node.node_id)
    overrides = overrides_from_kafka({entry.name: entry.value for entry in topic.configs})
    if validate_only:
        services.topics.check_new(topic.name, partitions, overrides)
        count = services.settings.broker.num_partitions if partitions is None else partitions
        return {"name": topic.name, "error_message": None, "num_partitions": count, "replication_factor": _REPLICAS}
    info = await services.topics.create(topic.name, partitions, overrides)
    return _created(info)


def _created(info: TopicInfo) -> dict[str, Any]:
    entries = topic_entries(info)
    return {
        "name": info.name,
        "topic_id": info.id,
        "error_message": None,
        "num_partitions": info.partitions,
        "replication_factor": _REPLICAS,
        "configs": [{key: entry[key] for key in ("name", "value", "read_only", "config_source")} for entry in entries],
    }


def _partitions(topic: Any, node_id: int) -> int | None:
    """How many partitions are asked for; None leaves it to the broker."""
    if topic.assignments:
        if topic.num_partitions != _DEFAULT or topic.replication_factor != _DEFAULT:
            raise Refused(ErrorCode.INVALID_REQUEST, "give an assignment, or numbers of partitions and replicas; not both")
        if sorted(one.partition_index for one in topic.assignments) != list(range(len(topic.assignments))):
            raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "the partitions of an assignment must be 0, 1, 2, ...")
        for one in topic.assignments:
            _check_replicas(one.broker_ids, node_id)
        return len(topic.assignments)
    if topic.replication_factor not in (_DEFAULT, _REPLICAS):
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replication factor {topic.replication_factor} is larger than the number of brokers, which is 1",
        )
    return None if topic.num_partitions == _DEFAULT else int(topic.num_partitions)


def _check_replicas(broker_ids: Sequence[int], node_id: int) -> None:
    if list(broker_ids) != [node_id]:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"replicas {list(broker_ids)}: there is no other broker than {node_id}"
        )


def refuse_create_topics(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every topic that it failed."""
    return {"topics": [{"name": one.name, "error_code": code, "error_message": message} for one in request.topics]}


# -- deleting --------------------------------------------------------------------------------------------------------


async def delete_topics(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve DeleteTopics: by name, and from v6 on by name or id."""
    if context.version < _BY_ID_FROM:
        return {"responses": [await _delete(services, name, NO_UUID) for name in request.topic_names]}
    return {"responses": [await _delete(services, topic.name, topic.topic_id) for topic in request.topics]}


async def _delete(services: Services, name: str | None, topic_id: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "topic_id": topic_id}
    try:
        if name is None:
            info = _by_id(services, topic_id)
        elif topic_id != NO_UUID:
            raise Refused(ErrorCode.INVALID_REQUEST, "name a topic by its name or by its id, not by both")
        else:
            info = services.topics.changeable(name)
        found = {"name": info.name, "topic_id": info.id}
        await services.topics.delete(info.name)
    except LogbrokerError as error:
        return {**found, "error_code": code_of(error), "error_message": message_of(error)}
    return found


def _by_id(services: Services, topic_id: Any) -> TopicInfo:
    try:
        return services.engine.topic_by_id(topic_id)
    except UnknownTopicOrPartition:
        raise Refused(ErrorCode.UNKNOWN_TOPIC_ID, f"there is no topic with id {topic_id}") from None


def refuse_delete_topics(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every topic that it failed."""
    by_name = [{"name": name, "error_code": code} for name in request.topic_names]
    by_either = [{"name": one.name, "topic_id": one.topic_id, "error_code": code} for one in request.topics]
    return {"responses": by_name + by_either}


# -- growing and trimming --------------------------------------------------------------------------------------------


async def create_partitions(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve CreatePartitions."""
    names = [topic.name for topic in request.topics]
    results = []
    for topic in request.topics:
        result: dict[str, Any] = {"name": topic.name}
        try:
            _check_once(names, topic.name)
            await _grow(services, topic, context, validate_only=request.validate_only)
        except LogbrokerError as error:
            result |= {"error_code": code_of(error), "error_message": message_of(error)}
        results.append(result)
    return {"results": results}


async def _grow(services: Services, topic: Any, context: Context, *, validate_only: bool) -> None:
    info = services.topics.changeable(topic.name)
    if topic.count <= info.partitions:
        raise InvalidPartitions(f"topic {topic.name!r} has {info.partitions} partitions already, {topic.count} is not more")
    if topic.assignments is not None:
        if len(topic.assignments) != topic.count - info.partitions:
            raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "the assignment must name each new partition")
        for one in topic.assignments:
            _check_replicas(one.broker_ids, context.node.node_id)
    await services.topics.alter(topic.name, topic.count, {}, check_only=validate_only)


def refuse_create_partitions(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every topic that it failed."""
    return {"results": [{"name": one.name, "error_code": code, "error_message": message} for one in request.topics]}


async def delete_records(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve DeleteRecords."""
    topics = []
    for topic in request.topics:
        partitions = [await _trim(services, topic.name, one.partition_index, one.offset) for one in topic.partitions]
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}


async def _trim(services: Services, topic: str, partition: int, offset: int) -> dict[str, Any]:
    try:
        where = partition_of(services.topics.changeable(topic), partition)
        if offset == _HIGH_WATERMARK:
            offset = (await services.engine.bounds(where)).high_watermark
        elif offset < 0:
            raise Refused(ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {offset} is negative")
        low = await services.engine.trim(where, offset)
    except LogbrokerError as error:
        return {"partition_index": partition, "low_watermark": -1, "error_code": code_of(error)}
    return {"partition_index": partition, "low_watermark": low}


def refuse_delete_records(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every partition that it failed."""
    return refused_partitions(request, code, "name", "partition_index")
