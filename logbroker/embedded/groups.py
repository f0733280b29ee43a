"""Members of consumer groups, in process."""

from logbroker.broker.fetch import Limits
from logbroker.broker.services import Services
from logbroker.broker.topics import check_topic_name
from logbroker.client.calls import groups as g
from logbroker.client.problems import refuse_if_all_failed
from logbroker.embedded.handlers import carries_out, checked, told
from logbroker.embedded.topics import record_of
from logbroker.engine.api import Isolation
from logbroker.errors import LogbrokerError, UnknownMember
from logbroker.groups.hosted import Standing
from logbroker.groups.messages import CommitOffsets, MemberClaim
from logbroker.groups.played import Wish
from logbroker.http_api.group_members import JoinIn, PollIn, SeekIn
from logbroker.http_api.group_offsets import OffsetsIn, to_commit
from logbroker.http_api.group_targets import target_of
from logbroker.http_api.groups import lag_out
from logbroker.model import TopicPartition

_HOST = "in process"


@carries_out(g.Join)
async def join(services: Services, call: g.Join) -> g.Standing:
    wanted = checked(
        JoinIn,
        {
            "topics": list(call.topics),
            "client_id": call.client_id,
            "session_timeout_ms": call.session_timeout_ms,
            "auto_offset_reset": call.auto_offset_reset,
        },
    )
    topics = tuple(dict.fromkeys(call.topics))
    for topic in topics:
        check_topic_name(topic)
    wish = Wish(
        topics=topics,
        assignor=wanted.assignor,
        client_id=wanted.client_id,
        host=_HOST,
        session_timeout_ms=wanted.session_timeout_ms,
        rebalance_timeout_ms=wanted.rebalance_timeout_ms,
    )
    standing = await services.members.join(call.group, wish, wanted.auto_offset_reset)
    return _standing(services, call.group, standing)


def _standing(services: Services, group: str, standing: Standing) -> g.Standing:
    interval_ms = services.members.heartbeat_interval_ms(group, standing.member_id)
    return g.Standing(standing.member_id, standing.generation, standing.assignment, standing.is_rebalancing, interval_ms)


@carries_out(g.Heartbeat)
async def heartbeat(services: Services, call: g.Heartbeat) -> g.Standing:
    return _standing(services, call.member.group, await services.members.heartbeat(*call.member))


@carries_out(g.Poll)
async def poll(services: Services, call: g.Poll) -> g.Polled:
    commit = [one._asdict() for one in call.commit]
    wanted = checked(
        PollIn,
        {"commit": commit, "max_records": call.max_records, "wait_ms": call.wait_ms, "isolation": call.isolation},
    )
    assert not isinstance(wanted.commit, str), "positions were given"
    isolation = Isolation[wanted.isolation.upper()]
    limits = Limits(wanted.max_records, wanted.max_bytes, wait_ms=wanted.wait_ms, isolation=isolation)
    polled = await services.members.poll(*call.member, to_commit(wanted.commit), limits)
    standing = polled.standing
    return g.Polled(
        [record_of(one.where, record) for one in polled.fetched for record in one.records],
        dict(sorted(polled.positions.items())),
        standing.generation,
        standing.assignment,
        standing.is_rebalancing,
        polled.not_committed,
    )


@carries_out(g.Leave)
async def leave(services: Services, call: g.Leave) -> None:
    try:
        await services.members.leave(*call.member)
    except UnknownMember:
        return


@carries_out(g.Seek)
async def seek(services: Services, call: g.Seek) -> dict[TopicPartition, int]:
    partitions = [one._asdict() for one in call.partitions]
    wanted = checked(SeekIn, {"to": call.to, "partitions": partitions})
    target = target_of(wanted.to, services.clock.now().wall_ms)
    return dict(await services.members.seek(*call.member, target, call.partitions))


@carries_out(g.SetReading)
async def set_reading(services: Services, call: g.SetReading) -> None:
    await services.members.pause(*call.member, call.partitions, paused=call.paused)


@carries_out(g.Commit)
async def commit(services: Services, call: g.Commit) -> dict[TopicPartition, LogbrokerError]:
    offsets = to_commit(checked(OffsetsIn, {"offsets": [one._asdict() for one in call.positions]}).offsets)
    command = CommitOffsets(MemberClaim(call.member.member_id, call.generation), offsets)
    reply = await services.groups.commit(call.member.group, command)
    refuse_if_all_failed([refusal for _, refusal in reply.results])
    return {where: refusal for where, refusal in reply.results if refusal is not None}


@carries_out(g.GetLag)
async def get_lag(services: Services, call: g.GetLag) -> g.GroupLag:
    return told(await lag_out(services, call.group), g.GroupLag)
