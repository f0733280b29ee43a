"""FindCoordinator, v0 to v6, and the classic group protocol: JoinGroup, v0 to v9, SyncGroup, v0 to v5, Heartbeat, v0 to v4,
LeaveGroup, v0 to v5.

Intended deviations: this broker is the coordinator of every group and transactional id; there are no share groups. A member
that waits in a join or a sync when the broker closes is told COORDINATOR_NOT_AVAILABLE and looks for it again.

What lives here: translation. What may not: anything a group decides. Source of the versions' meanings: KIP-345 (static
members), KIP-394 (member id required), KIP-559 (protocol in answers), KIP-814 (skip assignment).
"""

from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError, MemberIdRequired
from logbroker.groups.events import GroupProtocol
from logbroker.groups.messages import JoinGroup, Leaver, MemberClaim, SyncGroup
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import Refused, code_of
from logbroker.wire.codes import ErrorCode

GROUP_KEY: Final = 0
TRANSACTION_KEY: Final = 1
_BATCHED_FROM: Final = 4
_MEMBER_ID_REQUIRED_FROM: Final = 4
_NULL_PROTOCOL_FROM: Final = 7
_SKIP_ASSIGNMENT_FROM: Final = 9
_MEMBERS_FROM: Final = 3
_NAME_CHARS: Final = 249
"""The most characters of what member ids are made of: an instance id (longer ones are refused), a client id (cut)."""


def find_coordinator(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve FindCoordinator."""
    if request.key_type not in (GROUP_KEY, TRANSACTION_KEY):
        raise Refused(ErrorCode.INVALID_REQUEST, f"there is no coordinator for keys of type {request.key_type}")
    node = {"node_id": context.node.node_id, "host": context.node.host, "port": context.node.port}
    if context.version < _BATCHED_FROM:
        return {**node, "error_message": None}
    return {"coordinators": [{"key": key, **node, "error_message": None} for key in request.coordinator_keys]}


def refuse_find_coordinator(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every key that it failed; up to v3 there is one."""
    nobody = {"node_id": -1, "host": "", "port": -1, "error_code": code, "error_message": message}
    return {**nobody, "coordinators": [{"key": key, **nobody} for key in request.coordinator_keys]}


async def join_group(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve JoinGroup."""
    version = context.version
    if len(request.group_instance_id or "") > _NAME_CHARS:
        raise Refused(ErrorCode.INVALID_REQUEST, f"a group.instance.id has at most {_NAME_CHARS} characters")
    protocols = tuple(GroupProtocol(offered.name, offered.metadata) for offered in request.protocols)
    timeout_ms = request.rebalance_timeout_ms if version >= 1 else request.session_timeout_ms
    command = JoinGroup(
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        client_id=context.client_id[:_NAME_CHARS],
        client_host=context.client_host,
        caller=context.caller,
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=timeout_ms,
        protocol_type=request.protocol_type,
        protocols=protocols,
        member_id_required=version >= _MEMBER_ID_REQUIRED_FROM,
        can_skip_assignment=version >= _SKIP_ASSIGNMENT_FROM,
    )
    no_protocol = None if version >= _NULL_PROTOCOL_FROM else ""
    try:
        joined = await services.waiting.while_open(services.groups.join(request.group_id, command))
    except LogbrokerError as error:
        member_id = error.fields["member_id"] if isinstance(error, MemberIdRequired) else request.member_id
        return {"error_code": code_of(error), "member_id": member_id, "protocol_name": no_protocol}
    return {
        "generation_id": joined.generation,
        "protocol_type": joined.protocol_type,
        "protocol_name": joined.protocol if joined.protocol is not None else no_protocol,
        "leader": joined.leader,
        "skip_assignment": joined.skip_assignment,
        "member_id": joined.member_id,
        "members": [
            {"member_id": one.member_id, "group_instance_id": one.instance_id, "metadata": one.metadata}
            for one in joined.members
        ],
    }


async def sync_group(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve SyncGroup."""
    command = SyncGroup(
        claim=MemberClaim(request.member_id, request.generation_id, request.group_instance_id),
        assignments=tuple((one.member_id, one.assignment) for one in request.assignments),
        protocol_type=request.protocol_type,
        protocol=request.protocol_name,
    )
    synced = await services.waiting.while_open(services.groups.sync(request.group_id, command))
    return {"protocol_type": synced.protocol_type, "protocol_name": synced.protocol, "assignment": synced.assignment}


async def heartbeat(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve Heartbeat."""
    claim = MemberClaim(request.member_id, request.generation_id, request.group_instance_id)
    await services.groups.heartbeat(request.group_id, claim)
    return {}


async def leave_group(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve LeaveGroup. Up to v2 one member leaves, and what becomes of it is the answer."""
    if context.version < _MEMBERS_FROM:
        left = await services.groups.leave(request.group_id, [Leaver(request.member_id)])
        error = left.results[0][1]
        return {} if error is None else {"error_code": code_of(error)}
    leavers = [Leaver(one.member_id, one.group_instance_id) for one in request.members]
    left = await services.groups.leave(request.group_id, leavers)
    return {
        "members": [
            {
                "member_id": leaver.member_id,
                "group_instance_id": leaver.instance_id,
                "error_code": ErrorCode.NONE if error is None else code_of(error),
            }
            for leaver, error in left.results
        ]
    }
