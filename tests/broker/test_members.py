"""Members that poll, over a restart of the broker and at its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.broker.fetch import Limits
from logbroker.broker.members import Polled
from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig
from logbroker.errors import Recovering, UnknownMember
from logbroker.groups.played import Wish
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine

pytestmark = pytest.mark.asyncio

ORDERS = TopicPartition("orders", 0)


class World:
    """An engine with a topic of one partition, and a broker over it that restarts."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(self.clock)
        self.services: Services

    async def start(self) -> None:
        config = BrokerConfig(group_initial_rebalance_delay_ms=0)
        self.services = services_on(self.engine, self.clock, config, "cluster")
        await self.services.groups.start()

    async def stop(self) -> None:
        await self.services.members.close()
        await self.services.groups.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def join(self, wish: Wish | None = None) -> str:
        standing = await self.services.members.join("g", wish or Wish(topics=("orders",)), "earliest")
        return standing.member_id

    async def poll(self, member_id: str, wait_ms: int = 0) -> Polled:
        return await self.services.members.poll("g", member_id, "previous", Limits(wait_ms=wait_ms))

    async def produce(self, *values: bytes) -> None:
        await self.engine.append(ORDERS, [Record(value) for value in values])


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.engine.create_topic("orders", 1, {})
    await world.start()
    yield world
    await world.stop()


def values(polled: Polled) -> list[bytes | None]:
    return [record.value for fetched in polled.fetched for record in fetched.records]


async def test_a_member_goes_on_after_a_restart_at_what_was_committed(world: World) -> None:
    member_id = await world.join()
    await world.produce(b"a", b"b")
    assert values(await world.poll(member_id)) == [b"a", b"b"]
    await world.poll(member_id)
    await world.produce(b"c")
    assert values(await world.poll(member_id)) == [b"c"]
    await world.restart()
    polled = await world.poll(member_id)
    assert values(polled) == [b"c"]  # it was given but nobody has said that it was processed
    assert polled.standing.generation == 1


async def test_a_member_of_which_nothing_is_committed_joins_again_after_a_restart(world: World) -> None:
    """Nobody knows any more where it wanted to start."""
    member_id = await world.join()
    await world.restart()
    with pytest.raises(UnknownMember):
        await world.poll(member_id)
    assert (await world.services.groups.describe("g")).members == ()
    await world.produce(b"a")
    assert values(await world.poll(await world.join())) == [b"a"]


async def test_members_that_vanish_are_not_kept_for_ever(world: World) -> None:
    members = world.services.members
    for number in range(20):
        await members.join(f"g{number}", Wish(topics=("orders",), session_timeout_ms=6_000), "earliest")
        world.clock.advance(2_000)
        world.services.groups.wake()
    assert len(members._readers) <= 4
    assert len(members._hosted._hosted) <= 4


async def test_a_member_that_was_let_go_but_lives_is_found_again(world: World) -> None:
    member_id = await world.join(Wish(topics=("orders",), session_timeout_ms=60_000))
    await world.produce(b"a")
    await world.poll(member_id)
    await world.poll(member_id)
    world.services.members._hosted.forget("g", member_id)
    del world.services.members._readers["g", member_id]
    await world.produce(b"b")
    assert values(await world.poll(member_id)) == [b"b"]


async def test_waiting_ends_with_the_broker(world: World) -> None:
    member_id = await world.join()
    waiting = asyncio.ensure_future(world.poll(member_id, wait_ms=60_000))
    joining = asyncio.ensure_future(world.join())
    await asyncio.sleep(0.01)
    world.services.lifecycle.closing.set()
    with pytest.raises(Recovering):
        await asyncio.wait_for(joining, 5)
    assert values(await asyncio.wait_for(waiting, 5)) == []


async def test_a_join_whose_caller_leaves_is_taken_back(world: World) -> None:
    await world.join()
    joining = asyncio.ensure_future(world.join())
    await asyncio.sleep(0.01)
    joining.cancel()
    await asyncio.wait([joining])
    await asyncio.sleep(0.01)
    assert len((await world.services.groups.describe("g")).members) == 1
