"""AddPartitionsToTxn, AddOffsetsToTxn, EndTxn and TxnOffsetCommit, v0 to v3 each; DescribeTransactions, v0, and
ListTransactions, v0 to v1.

Intended deviations: EndTxn is answered when all markers are written, so that what was committed can be read (Kafka answers
once the outcome is decided, as this broker does where a marker has to wait); a group is part of a transaction by its name
and not by a partition of ``__consumer_offsets``, so DescribeTransactions does not show it; the feature transaction.version
is not published, so clients speak version 1 of the protocol (an epoch for a producer's life, not for each transaction,
KIP-890).
WriteTxnMarkers (27) is not served: markers are the broker's own.

What lives here: translation. What may not: anything a transaction decides.
"""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.broker.topics import check_changeable, partition_of
from logbroker.errors import InvalidProducerEpoch, LogbrokerError, ProducerFenced, TransactionNotFound
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.groups.transactions.messages import Producer, Status, TransactionView
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import Refused, code_of
from logbroker.kafka_api.offsets import refused_partitions
from logbroker.model import TopicPartition
from logbroker.wire.codes import ErrorCode

_PRODUCER_FENCED_FROM: Final = 2
_NO_START: Final = -1
_STATES: Final = {status.value: status for status in Status}

Fields = dict[str, Any]


def in_words_of(version: int, knows_from: int, error: LogbrokerError) -> LogbrokerError:
    """What a client is told that is fenced: older ones do not know PRODUCER_FENCED (KIP-588)."""
    if isinstance(error, ProducerFenced) and version < knows_from:
        return InvalidProducerEpoch(error.detail)
    return error


# -- in a transaction ----------------------------------------------------------------------------------------------------


async def add_partitions_to_txn(services: Services, request: Any, context: Context) -> Fields:
    """Serve AddPartitionsToTxn: all partitions or, where one cannot be written to, none."""
    asked = [TopicPartition(topic.name, one) for topic in request.v3_and_below_topics for one in topic.partitions]
    problems = {where: problem for where in asked if (problem := _problem(services, where)) is not None}
    if problems:
        codes = {where: code_of(problems[where]) for where in problems}
        return _added(asked, lambda where: codes.get(where, ErrorCode.OPERATION_NOT_ATTEMPTED))
    producer = Producer(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)
    try:
        await services.transactions.add(request.v3_and_below_transactional_id, producer, asked)
    except LogbrokerError as error:
        raise in_words_of(context.version, _PRODUCER_FENCED_FROM, error) from None
    return _added(asked, lambda where: ErrorCode.NONE)


def _problem(services: Services, where: TopicPartition) -> LogbrokerError | None:
    """Why a client cannot write there."""
    try:
        partition_of(services.topics.get(where.topic), where.partition)
        check_changeable(where.topic)
    except LogbrokerError as error:
        return error
    return None


def _added(asked: Iterable[TopicPartition], code: Callable[[TopicPartition], ErrorCode]) -> Fields:
    results = [
        {
            "name": name,
            "results_by_partition": [
                {"partition_index": where.partition, "partition_error_code": code(where)} for where in partitions
            ],
        }
        for name, partitions in groupby(asked, key=lambda where: where.topic)
    ]
    return {"results_by_topic_v3_and_below": results}


def refuse_add_partitions(request: Any, code: ErrorCode, message: str) -> Fields:
    """Say of every partition that it failed."""
    asked = [TopicPartition(topic.name, one) for topic in request.v3_and_below_topics for one in topic.partitions]
    return _added(asked, lambda where: code)


async def add_offsets_to_txn(services: Services, request: Any, context: Context) -> Fields:
    """Serve AddOffsetsToTxn."""
    if not request.group_id:
        raise Refused(ErrorCode.INVALID_GROUP_ID, "the group id is empty")
    producer = Producer(request.producer_id, request.producer_epoch)
    try:
        await services.transactions.add(request.transactional_id, producer, groups=[request.group_id])
    except LogbrokerError as error:
        raise in_words_of(context.version, _PRODUCER_FENCED_FROM, error) from None
    return {}


async def end_txn(services: Services, request: Any, context: Context) -> Fields:
    """Serve EndTxn."""
    producer = Producer(request.producer_id, request.producer_epoch)
    try:
        await services.transactions.end(request.transactional_id, producer, committed=request.committed)
    except LogbrokerError as error:
        raise in_words_of(context.version, _PRODUCER_FENCED_FROM, error) from None
    return {}


async def txn_offset_commit(services: Services, request: Any, context: Context) -> Fields:
    """Serve TxnOffsetCommit. Which member commits is said from v3 on (KIP-447)."""
    claim = MemberClaim(request.member_id, request.generation_id, request.group_instance_id)
    offsets = tuple(
        OffsetToCommit(
            TopicPartition(topic.name, one.partition_index),
            one.committed_offset,
            one.committed_leader_epoch,
            one.committed_metadata,
        )
        for topic in request.topics
        for one in topic.partitions
    )
    producer = Producer(request.producer_id, request.producer_epoch)
    command = CommitOffsets(claim, offsets)
    try:
        committed = await services.transactions.commit_offsets(
            request.transactional_id, producer, request.group_id, command
        )
    except ProducerFenced as fenced:
        raise InvalidProducerEpoch(fenced.detail) from None
    topics = [
        {
            "name": name,
            "partitions": [
                {"partition_index": where.partition, "error_code": ErrorCode.NONE if error is None else code_of(error)}
                for where, error in outcomes
            ],
        }
        for name, outcomes in groupby(committed.results, key=lambda outcome: outcome[0].topic)
    ]
    return {"topics": topics}


def refuse_txn_offset_commit(request: Any, code: ErrorCode, message: str) -> Fields:
    """Say of every partition that it failed."""
    return refused_partitions(request, code, "name", "partition_index")


# -- administration ------------------------------------------------------------------------------------------------------


def describe_transactions(services: Services, request: Any, context: Context) -> Fields:
    """Serve DescribeTransactions."""
    return {"transaction_states": [_described(services, one) for one in request.transactional_ids]}


def _described(services: Services, transactional_id: str) -> Fields:
    try:
        view = services.transactions.describe(transactional_id)
    except TransactionNotFound as error:
        return {
            "transactional_id": transactional_id,
            "error_code": code_of(error),
            "transaction_state": "",
            "producer_id": -1,
            "producer_epoch": -1,
        }
    return {
        "transactional_id": transactional_id,
        "transaction_state": view.status.value,
        "transaction_timeout_ms": view.timeout_ms,
        "transaction_start_time_ms": _NO_START if view.started_ms is None else view.started_ms,
        "producer_id": view.producer.id,
        "producer_epoch": view.producer.epoch,
        "topics": [
            {"topic": topic, "partitions": [where.partition for where in partitions]}
            for topic, partitions in groupby(view.partitions, key=lambda where: where.topic)
        ],
    }


def refuse_describe_transactions(request: Any, code: ErrorCode, message: str) -> Fields:
    """Say of every transactional id that it failed."""
    failed = {"error_code": code, "transaction_state": "", "producer_id": -1, "producer_epoch": -1}
    return {"transaction_states": [{"transactional_id": one, **failed} for one in request.transactional_ids]}


def list_transactions(services: Services, request: Any, context: Context) -> Fields:
    """Serve ListTransactions."""
    wanted = {_STATES[name] for name in request.state_filters if name in _STATES}
    now_ms = services.clock.now().wall_ms
    duration_ms = getattr(request, "duration_filter", -1)

    def is_wanted(view: TransactionView) -> bool:
        ran_ms = -1 if view.started_ms is None else now_ms - view.started_ms
        return (
            (not request.state_filters or view.status in wanted)
            and (not request.producer_id_filters or view.producer.id in request.producer_id_filters)
            and (duration_ms < 0 or ran_ms > duration_ms)
        )

    return {
        "unknown_state_filters": [name for name in request.state_filters if name not in _STATES],
        "transaction_states": [
            {
                "transactional_id": view.transactional_id,
                "producer_id": view.producer.id,
                "transaction_state": view.status.value,
            }
            for view in services.transactions.list_transactions()
            if is_wanted(view)
        ],
    }
