"""OffsetCommit, v2 to v9, OffsetFetch, v1 to v9, and OffsetDelete, v0: the committed offsets of groups.

Intended deviations: a commit's retention time (up to v4) is not used, as offsets are kept for as long as their group and
topic. A commit may move a committed offset back: Kafka's protocol cannot tell a seek from a late request.

What lives here: translation. What may not: anything a group decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.groups.events import CommittedOffset
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import code_of
from logbroker.kafka_api.offsets import refused_partitions
from logbroker.model import TopicPartition
from logbroker.wire.codes import ErrorCode

_GROUPS_FROM: Final = 8
_NO_OFFSET: Final = -1


async def offset_commit(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve OffsetCommit."""
    claim = MemberClaim(request.member_id, request.generation_id_or_member_epoch, request.group_instance_id)
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
    committed = await services.groups.commit(request.group_id, CommitOffsets(claim, offsets, may_go_back=True))
    return {"topics": _by_topic(committed.results)}


def refuse_offset_commit(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every partition that it failed: fenced and unknown members are told so."""
    return refused_partitions(request, code, "name", "partition_index")


async def offset_fetch(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve OffsetFetch. From v8 on it asks for many groups."""
    if context.version < _GROUPS_FROM:
        topics = await _committed(services, request.group_id, request.topics, request.require_stable)
        return {"topics": topics}
    groups = []
    for group in request.groups:
        try:
            committed = await _committed(services, group.group_id, group.topics, request.require_stable, _claim(group))
            groups.append({"group_id": group.group_id, "topics": committed})
        except LogbrokerError as error:
            groups.append({"group_id": group.group_id, "error_code": code_of(error)})
    return {"groups": groups}


def refuse_offset_fetch(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say that it failed: once at the top and, where versions ask for many, of every group and partition."""
    topics = [
        {
            "name": topic.name,
            "partitions": [
                {"partition_index": index, "committed_offset": _NO_OFFSET, "error_code": code}
                for index in topic.partition_indexes
            ],
        }
        for topic in request.topics or ()
    ]
    groups = [{"group_id": group.group_id, "error_code": code} for group in request.groups]
    return {"error_code": code, "topics": topics, "groups": groups}


def _claim(group: Any) -> MemberClaim | None:
    """Which member asks, where it says so (v9, KIP-848)."""
    is_said = group.member_id is not None and group.member_epoch >= 0
    return MemberClaim(group.member_id, group.member_epoch) if is_said else None


async def _committed(
    services: Services,
    group_id: str,
    topics: Sequence[Any] | None,
    require_stable: bool,
    claim: MemberClaim | None = None,
) -> list[dict[str, Any]]:
    """The offsets of the partitions asked for, -1 where there is none; of all that have one for ``topics`` None."""
    partitions = None
    if topics is not None:
        partitions = [TopicPartition(topic.name, index) for topic in topics for index in topic.partition_indexes]
    read = await services.groups.read_offsets(group_id, partitions, claim)
    found = read.offsets
    unstable = read.unstable if require_stable else frozenset[TopicPartition]()
    wanted = sorted({*found, *unstable}) if partitions is None else partitions
    return [
        {"name": name, "partitions": [_offset(found, where, where in unstable) for where in several]}
        for name, several in groupby(wanted, key=lambda where: where.topic)
    ]


def _offset(found: Mapping[TopicPartition, CommittedOffset], where: TopicPartition, is_unstable: bool) -> dict[str, Any]:
    if is_unstable:
        code = ErrorCode.UNSTABLE_OFFSET_COMMIT
        return {"partition_index": where.partition, "committed_offset": _NO_OFFSET, "metadata": "", "error_code": code}
    committed = found.get(where)
    if committed is None:
        return {"partition_index": where.partition, "committed_offset": _NO_OFFSET, "metadata": ""}
    return {
        "partition_index": where.partition,
        "committed_offset": committed.offset,
        "committed_leader_epoch": committed.leader_epoch,
        "metadata": committed.metadata or "",
    }


async def offset_delete(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve OffsetDelete."""
    partitions = [TopicPartition(topic.name, one.partition_index) for topic in request.topics for one in topic.partitions]
    deleted = await services.groups.delete_offsets(request.group_id, partitions)
    return {"topics": _by_topic(deleted.results)}


def _by_topic(results: Iterable[tuple[TopicPartition, LogbrokerError | None]]) -> list[dict[str, Any]]:
    """Outcomes per partition in the order asked, neighbours of one topic together."""
    return [
        {
            "name": name,
            "partitions": [
                {
                    "partition_index": where.partition,
                    "error_code": ErrorCode.NONE if error is None else code_of(error),
                }
                for where, error in outcomes
            ],
        }
        for name, outcomes in groupby(results, key=lambda outcome: outcome[0].topic)
    ]
