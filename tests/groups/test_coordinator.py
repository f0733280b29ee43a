"""The coordinator on real engines: what doors call, and what survives a restart."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import Engine
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import (
    GroupNotFound,
    InvalidGroup,
    LogbrokerError,
    MemberIdRequired,
    NonEmptyGroup,
    RebalanceInProgress,
    Recovering,
    UnknownMember,
)
from logbroker.groups import messages as m
from logbroker.groups.coordinator import OFFSETS_TOPIC, GroupCoordinator
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine
from tests.groups.driver import code_of, protocols

pytestmark = pytest.mark.asyncio

ORDERS = TopicPartition("orders", 0)
SIMPLE = m.MemberClaim("", -1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=["memory", "fake"])
async def engine(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Engine]:
    embedded = EmbeddedEngine(MemoryFiles(), BrokerConfig(), TopicConfig(), clock)
    if request.param == "fake":
        engine: Engine = FakeEngine(clock)
    else:
        await embedded.start()
        engine = embedded
    await engine.create_topic("orders", 3, {})
    yield engine
    if engine is embedded:
        await embedded.stop()


@pytest_asyncio.fixture
async def groups(engine: Engine, clock: ManualClock) -> AsyncIterator[GroupCoordinator]:
    coordinator = GroupCoordinator(engine, clock)
    await coordinator.start()
    yield coordinator
    await coordinator.stop()


def joining(member_id: str = "") -> m.JoinGroup:
    return m.JoinGroup(
        member_id=member_id,
        client_id="app",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols=protocols("range"),
    )


def committing(offset: int, claim: m.MemberClaim = SIMPLE, where: TopicPartition = ORDERS) -> m.CommitOffsets:
    return m.CommitOffsets(claim, (m.OffsetToCommit(where, offset),))


async def let_pass(groups: GroupCoordinator, clock: ManualClock, ms: int) -> None:
    """Let time pass once everybody has had a turn."""
    await settle()
    clock.advance(ms)
    groups.wake()
    await settle()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def form(groups: GroupCoordinator, clock: ManualClock, size: int = 2) -> list[m.Joined]:
    """A stable group 'g'; its members, the leader first."""
    asks = [asyncio.ensure_future(groups.join("g", joining())) for _ in range(size)]
    await let_pass(groups, clock, 3_000)
    await let_pass(groups, clock, 3_000)
    members = sorted(await asyncio.gather(*asks), key=lambda joined: joined.member_id != joined.leader)
    shares = tuple((joined.member_id, joined.member_id.encode()) for joined in members)
    syncs = [
        groups.sync("g", m.SyncGroup(claim=claim_of(one), assignments=shares if one is members[0] else ()))
        for one in reversed(members)
    ]
    synced = await asyncio.gather(*syncs)
    assert {one.assignment for one in synced} == {share for _, share in shares}
    return members


def claim_of(joined: m.Joined) -> m.MemberClaim:
    return m.MemberClaim(joined.member_id, joined.generation)


async def test_a_group_forms_commits_and_goes_on_after_a_restart(
    engine: Engine, clock: ManualClock, groups: GroupCoordinator
) -> None:
    leader, follower = await form(groups, clock)
    await groups.commit("g", committing(5, claim_of(follower)))
    await groups.stop()

    restarted = GroupCoordinator(engine, clock)
    await restarted.start()
    await restarted.heartbeat("g", claim_of(leader))
    await restarted.commit("g", committing(6, claim_of(follower)))
    assert {at: found.offset for at, found in (await restarted.fetch_offsets("g")).items()} == {ORDERS: 6}
    view = await restarted.describe("g")
    assert view.state is m.GroupState.STABLE
    assert {member.member_id for member in view.members} == {leader.member_id, follower.member_id}
    assert view.members[0].client_id == "app"
    await restarted.stop()


async def test_member_ids_start_with_the_name_of_the_client_and_are_never_alike(
    groups: GroupCoordinator, clock: ManualClock
) -> None:
    members = await form(groups, clock, size=3)
    assert len({joined.member_id for joined in members}) == 3
    assert all(joined.member_id.startswith("app-") for joined in members)


async def test_a_member_is_told_its_id_before_it_joins(groups: GroupCoordinator) -> None:
    command = m.JoinGroup(
        member_id="",
        instance_id=None,
        client_id="app",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols=protocols("range"),
        member_id_required=True,
    )
    with pytest.raises(MemberIdRequired) as refusal:
        await groups.join("g", command)
    assert str(refusal.value.fields["member_id"]).startswith("app-")


async def test_silent_members_are_out_by_the_injected_clock(groups: GroupCoordinator, clock: ManualClock) -> None:
    loud, silent = await form(groups, clock)
    await let_pass(groups, clock, 9_000)
    await groups.heartbeat("g", claim_of(loud))
    await let_pass(groups, clock, 1_000)
    with pytest.raises(RebalanceInProgress):
        await groups.heartbeat("g", claim_of(loud))
    with pytest.raises(UnknownMember):
        await groups.heartbeat("g", claim_of(silent))


async def test_leaving_empties_and_deleting_removes_a_group(groups: GroupCoordinator, clock: ManualClock) -> None:
    members = await form(groups, clock)
    assert groups.list_groups() == [m.GroupListing("g", m.GroupState.STABLE, "consumer")]
    with pytest.raises(NonEmptyGroup):
        await groups.delete("g")
    left = await groups.leave("g", [m.Leaver(joined.member_id) for joined in members])
    assert [code_of(error) for _, error in left.results] == ["ok", "ok"]
    assert groups.list_groups() == [m.GroupListing("g", m.GroupState.EMPTY, "consumer")]
    await groups.delete("g")
    assert groups.list_groups() == []
    assert (await groups.describe("g")).state is m.GroupState.DEAD
    with pytest.raises(GroupNotFound):
        await groups.delete("g")


async def test_offsets_of_partitions_that_do_not_exist_are_refused_one_by_one(groups: GroupCoordinator) -> None:
    wanted = tuple(
        m.OffsetToCommit(TopicPartition(topic, number), 5)
        for topic, number in [("nowhere", 0), ("orders", 3), ("orders", 2)]
    )
    reply = await groups.commit("g", m.CommitOffsets(SIMPLE, wanted))
    codes = [code_of(error) for _, error in reply.results]
    assert codes == ["UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_OR_PARTITION", "ok"]
    assert list(await groups.fetch_offsets("g")) == [TopicPartition("orders", 2)]


async def test_offsets_of_a_deleted_topic_go_with_it(engine: Engine, clock: ManualClock, groups: GroupCoordinator) -> None:
    await engine.create_topic("payments", 1, {})
    for group_id in ("g", "h"):
        await groups.commit(group_id, committing(5))
        await groups.commit(group_id, committing(5, where=TopicPartition("payments", 0)))
    await groups.forget_topic("payments")
    assert list(await groups.fetch_offsets("g")) == list(await groups.fetch_offsets("h")) == [ORDERS]


async def test_offsets_of_a_topic_deleted_behind_our_back_go_at_the_next_start(
    engine: Engine, clock: ManualClock, groups: GroupCoordinator
) -> None:
    await groups.commit("g", committing(5))
    await groups.stop()
    await engine.delete_topic("orders")
    restarted = GroupCoordinator(engine, clock)
    await restarted.start()
    assert await restarted.fetch_offsets("g") == {}
    await restarted.stop()


@pytest.mark.parametrize(("durability", "kept"), [("os", 1), ("fsync", 5)])
async def test_offsets_above_the_end_are_cut_back_where_a_crash_may_have_taken_records(
    engine: Engine, clock: ManualClock, groups: GroupCoordinator, durability: str, kept: int
) -> None:
    await engine.configure_topic("orders", {"durability": durability})
    appended = await engine.append(ORDERS, [Record(b"x")])
    end = (await engine.bounds(ORDERS)).high_watermark
    assert appended.next_offset <= end <= 2
    await groups.commit("g", committing(5))
    await groups.stop()
    restarted = GroupCoordinator(engine, clock)
    await restarted.start()
    assert (await restarted.fetch_offsets("g"))[ORDERS].offset == (end if kept == 1 else kept)
    await restarted.stop()


async def test_resetting_and_deleting_offsets(groups: GroupCoordinator) -> None:
    await groups.commit("g", committing(5))
    await groups.reset_offsets("g", m.ResetOffsets((m.OffsetToCommit(ORDERS, 2),)))
    assert (await groups.fetch_offsets("g", [ORDERS]))[ORDERS].offset == 2
    await groups.delete_offsets("g", [ORDERS])
    assert await groups.fetch_offsets("g", [ORDERS]) == {}


async def test_a_group_needs_a_name(groups: GroupCoordinator) -> None:
    with pytest.raises(InvalidGroup):
        await groups.join("", joining())


async def test_nothing_is_served_before_the_start_and_after_the_stop(engine: Engine, clock: ManualClock) -> None:
    groups = GroupCoordinator(engine, clock)
    with pytest.raises(Recovering):
        await groups.commit("g", committing(5))
    await groups.start()
    waiting = asyncio.ensure_future(groups.join("g", joining()))
    await settle()
    await groups.stop()
    with pytest.raises(Recovering):
        await waiting
    with pytest.raises(LogbrokerError):
        await groups.describe("g")


async def test_the_offsets_topic_belongs_to_the_broker(engine: Engine, groups: GroupCoordinator) -> None:
    info = engine.topic(OFFSETS_TOPIC)
    assert info.owner == "internal"
    assert (info.config.durability, info.config.retention_ms, info.config.retention_bytes) == ("fsync", -1, -1)
