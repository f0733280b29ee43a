"""ListGroups, v0 to v5, DescribeGroups, v0 to v5, and DeleteGroups, v0 to v2: groups as administrators see them.

Intended deviation: none. A group that does not exist is described as Dead, as Kafka has it up to DescribeGroups v5, and so
is one of the consumer protocol (KIP-848), for which there is ConsumerGroupDescribe.

What lives here: translation. What may not: anything a group decides.
"""

from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.groups.messages import GroupKind, GroupState
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.errors import code_of
from logbroker.kafka_api.metadata import operations
from logbroker.wire.codes import ErrorCode

GROUP_OPERATIONS: Final = operations(3, 6, 8)


def list_groups(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve ListGroups. States and types are compared without case, as Kafka does."""
    wanted = {state.casefold() for state in request.states_filter}
    kinds = {kind.casefold() for kind in request.types_filter}
    return {
        "groups": [
            {
                "group_id": listing.group_id,
                "protocol_type": listing.protocol_type,
                "group_state": listing.state.value,
                "group_type": listing.kind.value,
            }
            for listing in services.groups.list_groups()
            if (not wanted or listing.state.value.casefold() in wanted) and (not kinds or listing.kind.value in kinds)
        ]
    }


async def describe_groups(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve DescribeGroups."""
    shown = {"authorized_operations": GROUP_OPERATIONS} if request.include_authorized_operations else {}
    return {"groups": [{**await _described(services, group_id), **shown} for group_id in request.groups]}


async def _described(services: Services, group_id: str) -> dict[str, Any]:
    try:
        view = await services.groups.describe(group_id)
    except LogbrokerError as error:
        return {"group_id": group_id, "error_code": code_of(error)}
    if view.kind is not GroupKind.CLASSIC:
        return {"group_id": group_id, "group_state": GroupState.DEAD.value}
    return {
        "group_id": group_id,
        "group_state": view.state.value,
        "protocol_type": view.protocol_type,
        "protocol_data": view.protocol,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.instance_id,
                "client_id": member.client_id,
                "client_host": f"/{member.client_host}",
                "member_metadata": member.metadata,
                "member_assignment": member.assignment,
            }
            for member in view.members
        ],
    }


def refuse_describe_groups(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every group that it failed."""
    return {"groups": [{"group_id": group_id, "error_code": code} for group_id in request.groups]}


async def delete_groups(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve DeleteGroups."""
    results = []
    for group_id in request.groups_names:
        try:
            await services.groups.delete(group_id)
        except LogbrokerError as error:
            results.append({"group_id": group_id, "error_code": code_of(error)})
        else:
            results.append({"group_id": group_id})
    return {"results": results}


def refuse_delete_groups(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every group that it failed."""
    return {"results": [{"group_id": group_id, "error_code": code} for group_id in request.groups_names]}
