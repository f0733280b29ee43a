"""Members the broker plays for callers that only poll, alone and beside members of the Kafka protocol."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.errors import InvalidRequest, UnknownMember
from logbroker.groups import messages as m
from logbroker.groups.consumer_protocol import Assignment, Subscription, encode_assignment, encode_subscription
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.events import GroupProtocol
from logbroker.groups.hosted import HostedMembers, Standing
from logbroker.groups.played import Wish
from logbroker.model import TopicPartition
from tests.engine.fake import FakeEngine
from tests.groups.driver import code_of

pytestmark = pytest.mark.asyncio

ORDERS = Wish(topics=("orders",))


class World:
    """An engine with 'orders' of four partitions, a coordinator, hosted members, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(self.clock)

    async def start(self) -> None:
        self.coordinator = GroupCoordinator(self.engine, self.clock)
        await self.coordinator.start()
        self.hosted = HostedMembers(self.coordinator, self.engine)

    async def stop(self) -> None:
        await self.hosted.close()
        await self.coordinator.stop()

    async def settle(self, ms: int = 0) -> None:
        """Give everybody a turn, let time pass, and again."""
        for _ in range(40):
            await asyncio.sleep(0)
        self.clock.advance(ms)
        self.coordinator.wake()
        for _ in range(40):
            await asyncio.sleep(0)

    async def join(self, wish: Wish = ORDERS) -> Standing:
        asking = asyncio.ensure_future(self.hosted.join("g", wish))
        await self.settle(3_000)
        return await asking

    async def poll(self, member_id: str) -> Standing:
        return await self.hosted.poll("g", member_id)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.engine.create_topic("orders", 4, {})
    await world.start()
    yield world
    await world.stop()


def numbers(standing: Standing) -> list[int]:
    return sorted(at.partition for at in standing.assignment)


async def two_members(world: World, wish: Wish = ORDERS) -> tuple[str, str]:
    """A stable group of two hosted members."""
    first = await world.join(wish)
    joining = asyncio.ensure_future(world.hosted.join("g", wish))
    for _ in range(3):
        await world.settle()
        await world.poll(first.member_id)
    return first.member_id, (await joining).member_id


async def test_a_member_alone_reads_everything(world: World) -> None:
    standing = await world.join()
    assert (standing.generation, numbers(standing)) == (1, [0, 1, 2, 3])
    assert await world.poll(standing.member_id) == standing


async def test_a_second_member_gets_its_share_once_the_first_has_polled(world: World) -> None:
    first = await world.join()
    joining = asyncio.ensure_future(world.hosted.join("g", ORDERS))
    await world.settle()
    assert not joining.done()
    rebalancing = await world.poll(first.member_id)
    assert rebalancing.is_rebalancing
    assert rebalancing.assignment == ()
    await world.settle()
    second, again = await joining, await world.poll(first.member_id)
    assert sorted(numbers(again) + numbers(second)) == [0, 1, 2, 3]
    assert len(numbers(again)) == len(numbers(second)) == 2
    assert again.generation == second.generation == 2


async def test_a_member_that_does_not_poll_loses_its_share_to_the_others(world: World) -> None:
    loud, silent = await two_members(world)
    for _ in range(5):
        await world.settle(9_000)
        standing = await world.poll(loud)
    await world.settle()
    standing = await world.poll(loud)
    assert numbers(standing) == [0, 1, 2, 3]
    with pytest.raises(UnknownMember):
        await world.poll(silent)


async def test_leaving_gives_the_share_back(world: World) -> None:
    first, second = await two_members(world)
    await world.hosted.leave("g", second)
    await world.poll(first)
    await world.settle()
    assert numbers(await world.poll(first)) == [0, 1, 2, 3]
    with pytest.raises(UnknownMember):
        await world.hosted.leave("g", second)


async def test_new_partitions_are_handed_out(world: World) -> None:
    standing = await world.join()
    await world.engine.grow_topic("orders", 6)
    await world.poll(standing.member_id)
    await world.settle()
    assert numbers(await world.poll(standing.member_id)) == [0, 1, 2, 3, 4, 5]


async def test_a_pattern_takes_in_topics_as_they_appear_but_none_of_the_brokers_own(world: World) -> None:
    standing = await world.join(Wish(pattern="*"))
    assert {at.topic for at in standing.assignment} == {"orders"}
    await world.engine.create_topic("payments", 1, {})
    await world.poll(standing.member_id)
    await world.settle()
    assert {at.topic for at in (await world.poll(standing.member_id)).assignment} == {"orders", "payments"}


async def test_a_topic_may_be_subscribed_to_before_it_exists(world: World) -> None:
    standing = await world.join(Wish(topics=("later",)))
    assert standing.assignment == ()
    await world.engine.create_topic("later", 1, {})
    await world.poll(standing.member_id)
    await world.settle()
    assert (await world.poll(standing.member_id)).assignment == (TopicPartition("later", 0),)


async def test_a_cooperative_rebalance_ends_with_everything_handed_out(world: World) -> None:
    wish = Wish(topics=("orders",), assignor="cooperative-sticky")
    first, second = await two_members(world, wish)
    for _ in range(4):
        await world.settle()
        standings = [await world.poll(member) for member in (first, second)]
    assert sorted(number for standing in standings for number in numbers(standing)) == [0, 1, 2, 3]
    assert not any(standing.is_rebalancing for standing in standings)


async def test_members_go_on_after_a_restart(world: World) -> None:
    first, second = await two_members(world)
    before = [await world.poll(member) for member in (first, second)]
    await world.stop()
    await world.start()
    assert [await world.poll(member) for member in (first, second)] == before
    await world.hosted.leave("g", first)
    await world.poll(second)
    await world.settle()
    assert numbers(await world.poll(second)) == [0, 1, 2, 3]


async def test_a_member_of_the_kafka_protocol_cannot_be_polled(world: World) -> None:
    kafka, _ = await kafka_member(world)
    await world.settle(3_000)
    joined = await kafka
    await world.coordinator.sync("g", m.SyncGroup(claim=m.MemberClaim(joined.member_id, 1)))
    with pytest.raises(UnknownMember):
        await world.poll(joined.member_id)


async def kafka_member(world: World, member_id: str = "") -> tuple["asyncio.Future[m.Joined]", m.JoinGroup]:
    """A join as a client of the Kafka door sends it."""
    command = m.JoinGroup(
        member_id=member_id,
        client_id="java",
        client_host="/127.0.0.1",
        session_timeout_ms=45_000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols=(GroupProtocol("range", encode_subscription(Subscription(("orders",)))),),
    )
    return asyncio.ensure_future(world.coordinator.join("g", command)), command


async def test_a_hosted_leader_assigns_to_members_of_both_doors(world: World) -> None:
    hosted = await world.join()
    kafka, _ = await kafka_member(world)
    await world.settle()
    await world.poll(hosted.member_id)
    await world.settle()
    joined = await kafka
    assert joined.leader == hosted.member_id
    synced = await world.coordinator.sync("g", m.SyncGroup(claim=m.MemberClaim(joined.member_id, joined.generation)))
    await world.settle()
    share = numbers(await world.poll(hosted.member_id))
    assert len(share) == 2
    rest = tuple(TopicPartition("orders", number) for number in range(4) if number not in share)
    assert synced.assignment == encode_assignment(Assignment(rest))


async def test_a_hosted_follower_takes_what_a_kafka_leader_gives_it(world: World) -> None:
    kafka, _ = await kafka_member(world)
    joining = asyncio.ensure_future(world.hosted.join("g", ORDERS))
    await world.settle(3_000)
    await world.settle(3_000)
    joined = await kafka
    (other,) = [one for one in joined.members if one.member_id != joined.member_id]
    share = encode_assignment(Assignment((TopicPartition("orders", 3),)))
    claim = m.MemberClaim(joined.member_id, joined.generation)
    await world.coordinator.sync("g", m.SyncGroup(claim=claim, assignments=((other.member_id, share),)))
    assert numbers(await joining) == [3]


async def test_a_member_commits_only_what_it_still_has(world: World) -> None:
    first = await world.join()
    wanted = [m.OffsetToCommit(TopicPartition("orders", number), 7) for number in range(4)]
    reply = await world.hosted.commit("g", first.member_id, wanted)
    assert [code_of(error) for _, error in reply.results] == ["ok"] * 4
    joining = asyncio.ensure_future(world.hosted.join("g", ORDERS))
    await world.settle()
    await world.poll(first.member_id)
    await world.settle()
    await joining
    await world.poll(first.member_id)
    reply = await world.hosted.commit("g", first.member_id, wanted)
    assert sorted(code_of(error) for _, error in reply.results) == ["ILLEGAL_GENERATION"] * 2 + ["ok"] * 2


async def test_a_caller_that_leaves_while_it_joins_is_taken_out(world: World) -> None:
    joining = asyncio.ensure_future(world.hosted.join("g", ORDERS))
    await world.settle()
    joining.cancel()
    await world.settle(3_000)
    assert (await world.coordinator.describe("g")).members == ()


async def test_a_static_member_that_joins_anew_takes_over(world: World) -> None:
    wish = Wish(topics=("orders",), instance_id="i")
    first = await world.join(wish)
    second = await world.join(wish)
    assert second.member_id != first.member_id
    assert (second.generation, numbers(second)) == (1, [0, 1, 2, 3])


@pytest.mark.parametrize("wish", [Wish(), Wish(topics=("a",), pattern="b"), Wish(topics=("a",), assignor="best")])
async def test_a_wish_that_makes_no_sense_is_refused(world: World, wish: Wish) -> None:
    with pytest.raises(InvalidRequest):
        await world.hosted.join("g", wish)
