"""What a cluster of one node says of itself.

DescribeCluster, v0 to v1; DescribeLogDirs, v1 to v4; DescribeQuorum, v0 to v2; ElectLeaders, v0 to v2;
AlterPartitionReassignments, v0 to v1; ListPartitionReassignments, v0; AlterReplicaLogDirs, v1 to v2;
DescribeAcls, v1 to v3; DescribeUserScramCredentials, v0.

Intended deviations: every partition has this broker as its only replica and leader, so an election is never needed and a
reassignment can only be to where the partition is; the metadata quorum is this broker, at the end of an empty log; there is
one log directory; there is no authorizer (ACLs answer SECURITY_DISABLED) and there are no users.

What lives here: these fixed truths. What may not: anything that changes state.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.broker.topics import partition_of
from logbroker.errors import LogbrokerError
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import Refused, code_of, message_of
from logbroker.kafka_api.metadata import CLUSTER_OPERATIONS, LEADER_EPOCH
from logbroker.model import TopicPartition
from logbroker.wire.codes import ErrorCode

BROKER_ENDPOINTS: Final = 1
METADATA_TOPIC: Final = "__cluster_metadata"

Fields = dict[str, Any]


def describe_cluster(services: Services, request: Any, context: Context) -> Fields:
    """Serve DescribeCluster."""
    if request.endpoint_type != BROKER_ENDPOINTS:
        raise Refused(ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, "there are no controllers beside the broker")
    node = context.node
    fields: Fields = {
        "cluster_id": node.cluster_id,
        "controller_id": node.node_id,
        "brokers": [{"broker_id": node.node_id, "host": node.host, "port": node.port}],
    }
    if request.include_cluster_authorized_operations:
        fields["cluster_authorized_operations"] = CLUSTER_OPERATIONS
    return fields


async def describe_log_dirs(services: Services, request: Any, context: Context) -> Fields:
    """Serve DescribeLogDirs; partitions that do not exist are left out, as in Kafka."""
    storage = services.engine.storage
    counts = {info.name: info.partitions for info in services.engine.topics()}
    wanted: list[tuple[str, Sequence[int]]] = [(name, range(count)) for name, count in counts.items()]
    if request.topics is not None:
        asked = {topic.topic: topic.partitions for topic in request.topics}
        wanted = [(name, [one for one in numbers if one in asked.get(name, ())]) for name, numbers in wanted]
    topics = []
    for name, numbers in wanted:
        if numbers:
            partitions = [_sized(storage, TopicPartition(name, number)) for number in numbers]
            topics.append({"name": name, "partitions": partitions})
            await asyncio.sleep(0)
    return {"results": [{"log_dir": _log_dir(services), "topics": topics}]}


def _log_dir(services: Services) -> str:
    return str(Path(services.config.data_dir).absolute())


def _sized(storage: Any, where: TopicPartition) -> Fields:
    try:
        size = storage.size_bytes(where) if storage is not None else 0
    except LogbrokerError:
        size = -1
    return {"partition_index": where.partition, "partition_size": size}


def describe_quorum(services: Services, request: Any, context: Context) -> Fields:
    """Serve DescribeQuorum."""
    node = context.node
    voter = {"replica_id": node.node_id, "log_end_offset": 0}
    topics = []
    for topic in request.topics:
        known = topic.topic_name == METADATA_TOPIC
        quorum = {"leader_id": node.node_id, "leader_epoch": LEADER_EPOCH, "current_voters": [voter], "error_message": None}
        unknown = {"error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "leader_id": -1, "leader_epoch": -1}
        partitions = [
            {"partition_index": one.partition_index, **(quorum if known and one.partition_index == 0 else unknown)}
            for one in topic.partitions
        ]
        topics.append({"topic_name": topic.topic_name, "partitions": partitions})
    listener = {"name": "PLAINTEXT", "host": node.host, "port": node.port}
    return {"error_message": None, "topics": topics, "nodes": [{"node_id": node.node_id, "listeners": [listener]}]}


def elect_leaders(services: Services, request: Any, context: Context) -> Fields:
    """Serve ElectLeaders: no partition that exists needs an election."""
    if request.topic_partitions is None:
        return {"replica_election_results": []}
    results = [
        {
            "topic": topic.topic,
            "partition_result": [
                {
                    "partition_id": number,
                    **_problem(services, topic.topic, number, ErrorCode.ELECTION_NOT_NEEDED, "it has its leader"),
                }
                for number in topic.partitions
            ],
        }
        for topic in request.topic_partitions
    ]
    return {"replica_election_results": results}


def alter_partition_reassignments(services: Services, request: Any, context: Context) -> Fields:
    """Serve AlterPartitionReassignments: a partition can only be assigned to where it is, and nothing can be cancelled."""
    responses = [
        {
            "name": topic.name,
            "partitions": [
                {
                    "partition_index": one.partition_index,
                    **_problem(services, topic.name, one.partition_index, *_reassignment(one.replicas, context)),
                }
                for one in topic.partitions
            ],
        }
        for topic in request.topics
    ]
    return {"error_message": None, "responses": responses}


def _reassignment(replicas: Sequence[int] | None, context: Context) -> tuple[ErrorCode, str | None]:
    if replicas is None:
        return ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "there is no reassignment to cancel"
    if list(replicas) == [context.node.node_id]:
        return ErrorCode.NONE, None
    return ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"there is no other broker than {context.node.node_id}"


def list_partition_reassignments(services: Services, request: Any, context: Context) -> Fields:
    """Serve ListPartitionReassignments: there is never one under way."""
    return {"error_message": None}


def alter_replica_log_dirs(services: Services, request: Any, context: Context) -> Fields:
    """Serve AlterReplicaLogDirs: a replica can only be moved to where it is."""
    results = []
    for directory in request.dirs:
        code = ErrorCode.NONE if directory.path == _log_dir(services) else ErrorCode.LOG_DIR_NOT_FOUND
        for topic in directory.topics:
            partitions = [
                {"partition_index": number, "error_code": _problem(services, topic.name, number, code)["error_code"]}
                for number in topic.partitions
            ]
            results.append({"topic_name": topic.name, "partitions": partitions})
    return {"results": results}


def refuse_alter_replica_log_dirs(request: Any, code: ErrorCode, message: str) -> Fields:
    """Say of every partition that it failed."""
    return {
        "results": [
            {
                "topic_name": topic.name,
                "partitions": [{"partition_index": number, "error_code": code} for number in topic.partitions],
            }
            for directory in request.dirs
            for topic in directory.topics
        ]
    }


def _problem(
    services: Services, topic: str, partition: int, code: ErrorCode, message: str | None = None
) -> Mapping[str, Any]:
    """``code``, unless there is no such partition."""
    try:
        partition_of(services.topics.get(topic), partition)
    except LogbrokerError as error:
        return {"error_code": code_of(error), "error_message": message_of(error)}
    return {"error_code": code, "error_message": message}


def describe_acls(services: Services, request: Any, context: Context) -> Fields:
    """Serve DescribeAcls."""
    return {"error_code": ErrorCode.SECURITY_DISABLED, "error_message": "there is no authorizer"}


def describe_user_scram_credentials(services: Services, request: Any, context: Context) -> Fields:
    """Serve DescribeUserScramCredentials: there are no users."""
    results = [
        {"user": user.name, "error_code": ErrorCode.RESOURCE_NOT_FOUND, "error_message": f"there is no user {user.name!r}"}
        for user in request.users or ()
    ]
    return {"error_message": None, "results": results}
