"""ListOffsets, v1 to v10, and OffsetForLeaderEpoch, v2 to v4: where a reader can start.

Intended deviations: there is one leader epoch, 0, for ever, so the end of it is the end of the log; nothing is tiered, so
the earliest local offset is the earliest of all and the latest tiered one is none; the time limit of v10 is not used.
"""

from typing import Any, Final

from logbroker.broker.positions import end_of
from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.engine.api import Isolation
from logbroker.errors import LogbrokerError
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import Refused, code_of
from logbroker.kafka_api.metadata import LEADER_EPOCH
from logbroker.model import NO_TIMESTAMP, OffsetAndTimestamp, TopicPartition
from logbroker.wire.codes import ErrorCode

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
_NONE: Final = OffsetAndTimestamp(-1, NO_TIMESTAMP)


async def list_offsets(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve ListOffsets."""
    isolation = Isolation.READ_COMMITTED if request.isolation_level else Isolation.READ_UNCOMMITTED
    topics = []
    for topic in request.topics:
        partitions = [await _partition(services, topic.name, wanted, isolation) for wanted in topic.partitions]
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}


async def _partition(services: Services, topic: str, wanted: Any, isolation: Isolation) -> dict[str, Any]:
    try:
        where = partition_of(services.topics.get(topic), wanted.partition_index)
        check_leader_epoch(wanted.current_leader_epoch)
        offset, timestamp_ms = await _find(services, where, wanted.timestamp, isolation)
    except LogbrokerError as error:
        return {"partition_index": wanted.partition_index, "error_code": code_of(error)}
    return {
        "partition_index": wanted.partition_index,
        "timestamp": timestamp_ms,
        "offset": offset,
        "leader_epoch": LEADER_EPOCH if offset >= 0 else -1,
    }


async def _find(services: Services, where: TopicPartition, timestamp_ms: int, isolation: Isolation) -> OffsetAndTimestamp:
    engine = services.engine
    if timestamp_ms == LATEST:
        return OffsetAndTimestamp(await end_of(engine, where, isolation), NO_TIMESTAMP)
    if timestamp_ms in (EARLIEST, EARLIEST_LOCAL):
        return OffsetAndTimestamp((await engine.bounds(where)).log_start_offset, NO_TIMESTAMP)
    if timestamp_ms == MAX_TIMESTAMP:
        return _seen(await engine.max_timestamp(where), await end_of(engine, where, isolation))
    if timestamp_ms == LATEST_TIERED:
        return _NONE
    if timestamp_ms < 0:
        raise Refused(ErrorCode.UNSUPPORTED_VERSION, f"{timestamp_ms} does not stand for a position")
    return _seen(await engine.offset_at(where, timestamp_ms), await end_of(engine, where, isolation))


def _seen(found: OffsetAndTimestamp | None, end: int) -> OffsetAndTimestamp:
    """What was found, if a reader who comes to an end at ``end`` sees it."""
    return found if found is not None and found.offset < end else _NONE


def check_leader_epoch(epoch: int) -> None:
    """Raise unless the client knows no epoch or the one there is."""
    if epoch > LEADER_EPOCH:
        raise Refused(ErrorCode.UNKNOWN_LEADER_EPOCH, f"the leader epoch is {LEADER_EPOCH}, not {epoch}")


async def offset_for_leader_epoch(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve OffsetForLeaderEpoch."""
    topics = []
    for topic in request.topics:
        partitions = [await _end_of_epoch(services, topic.topic, wanted) for wanted in topic.partitions]
        topics.append({"topic": topic.topic, "partitions": partitions})
    return {"topics": topics}


async def _end_of_epoch(services: Services, topic: str, wanted: Any) -> dict[str, Any]:
    try:
        where = partition_of(services.topics.get(topic), wanted.partition)
        check_leader_epoch(wanted.current_leader_epoch)
        end_offset = (await services.engine.bounds(where)).high_watermark
    except LogbrokerError as error:
        return {"partition": wanted.partition, "error_code": code_of(error)}
    if wanted.leader_epoch != LEADER_EPOCH:
        return {"partition": wanted.partition}
    return {"partition": wanted.partition, "leader_epoch": LEADER_EPOCH, "end_offset": end_offset}


def refuse_list_offsets(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every partition asked for that it failed."""
    return refused_partitions(request, code, "name", "partition_index")


def refuse_offset_for_leader_epoch(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every partition asked for that it failed."""
    return refused_partitions(request, code, "topic", "partition")


def refused_partitions(request: Any, code: ErrorCode, name: str, index: str) -> dict[str, Any]:
    """Topics and partitions as asked for, each with ``code``; ``name`` and ``index`` are what the fields are called."""
    return {
        "topics": [
            {
                name: getattr(topic, name),
                "partitions": [{index: getattr(one, index), "error_code": code} for one in topic.partitions],
            }
            for topic in request.topics
        ]
    }
