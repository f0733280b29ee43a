"""InitProducerId, v0 to v5, and DescribeProducers, v0: idempotent producers.

Intended deviations: a transactional id is refused with error 53, which makes clients fail at once rather than in their
first commit, until transactions are whole; a producer that names its id and epoch (KIP-360) gets a new id rather than a
new epoch, which serves it as well.
"""

from typing import Any

from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.errors import LogbrokerError, TransactionsUnsupported
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import code_of, message_of
from logbroker.wire.codes import ErrorCode


async def init_producer_id(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve InitProducerId."""
    if request.transactional_id is not None:
        raise TransactionsUnsupported()
    return {"producer_id": await services.engine.allocate_producer_id(), "producer_epoch": 0}


def describe_producers(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve DescribeProducers."""
    topics = [
        {"name": topic.name, "partitions": [_described(services, topic.name, one) for one in topic.partition_indexes]}
        for topic in request.topics
    ]
    return {"topics": topics}


def _described(services: Services, topic: str, partition: int) -> dict[str, Any]:
    raw = services.engine.raw
    try:
        where = partition_of(services.topics.get(topic), partition)
        active = raw.producers(where) if raw is not None else []
    except LogbrokerError as error:
        return {"partition_index": partition, "error_code": code_of(error), "error_message": message_of(error)}
    return {
        "partition_index": partition,
        "active_producers": [
            {
                "producer_id": one.producer_id,
                "producer_epoch": one.epoch,
                "last_sequence": one.last_sequence,
                "last_timestamp": one.last_append_ms,
                "coordinator_epoch": -1,
            }
            for one in active
        ],
    }


def refuse_describe_producers(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every partition that it failed."""
    topics = [
        {
            "name": topic.name,
            "partitions": [{"partition_index": one, "error_code": code} for one in topic.partition_indexes],
        }
        for topic in request.topics
    ]
    return {"topics": topics}
