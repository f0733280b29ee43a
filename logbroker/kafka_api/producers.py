"""InitProducerId, v0 to v5, and DescribeProducers, v0: idempotent and transactional producers.

Intended deviations: a producer without a transactional id that names its id and epoch (KIP-360) gets a new id rather than a
new epoch, which serves it as well; the epoch of the coordinator is always 0.
"""

from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.errors import LogbrokerError
from logbroker.groups.transactions.messages import NO_PRODUCER, Producer
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import code_of, message_of
from logbroker.kafka_api.transactions import in_words_of
from logbroker.records.markers import COORDINATOR_EPOCH
from logbroker.wire.codes import ErrorCode

_CURRENT_FROM: Final = 3
_PRODUCER_FENCED_FROM: Final = 4


async def init_producer_id(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve InitProducerId."""
    if request.transactional_id is None:
        return {"producer_id": await services.engine.allocate_producer_id(), "producer_epoch": 0}
    current = None
    if context.version >= _CURRENT_FROM and request.producer_id != NO_PRODUCER:
        current = Producer(request.producer_id, request.producer_epoch)
    try:
        granted = await services.transactions.init_producer(
            request.transactional_id, request.transaction_timeout_ms, current
        )
    except LogbrokerError as error:
        raise in_words_of(context.version, _PRODUCER_FENCED_FROM, error) from None
    return {"producer_id": granted.id, "producer_epoch": granted.epoch}


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
                "coordinator_epoch": COORDINATOR_EPOCH,
                "current_txn_start_offset": -1 if one.transaction_start_offset is None else one.transaction_start_offset,
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
