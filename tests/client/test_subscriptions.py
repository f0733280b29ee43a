"""Subscriptions with the Python client, over every carrier."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from logbroker import AsyncClient, Broker, Snapshot
from logbroker.errors import ConfigConflict, FilterInvalid, LeaseLost, SubscriptionNotFound, UnknownTopicOrPartition

pytestmark = pytest.mark.asyncio


class Order(msgspec.Struct):
    id: int
    region: str


@pytest_asyncio.fixture
async def orders(lb: AsyncClient) -> AsyncIterator[AsyncClient]:
    """A topic with orders 0 to 9, of alternating regions."""
    await lb.topics.create("orders")
    async with lb.producer("orders") as producer:
        for number in range(10):
            await producer.send(Order(number, ("eu", "us")[number % 2]))
    yield lb


EU = 'value.region == "eu"'


async def test_a_subscription_gets_what_its_filter_lets_through_and_acks_it(orders: AsyncClient) -> None:
    await orders.subscriptions.create("audit", "orders", filter=EU, start="earliest", ack_deadline="10s")
    audit = orders.subscription("orders", name="audit")
    async with audit.receive(100, wait=1) as received:
        assert [one.json(Order).id for one in received] == [0, 2, 4, 6, 8]
        await received[0].nack(delay=0)
    async with audit.receive(100, wait=2) as received:
        assert [(one.json(Order).id, one.failures) for one in received] == [(0, 1)]
        await received[0].reject("no")
    [letter] = await audit.dlq.list()
    assert (letter.json(Order).id, letter.last_error) == (0, "no")
    info = await audit.stats()
    assert (info.counts.ready, info.counts.in_flight, info.counts.dead) == (0, 0, 1)


async def test_subscriptions_are_declared_listed_changed_and_deleted(orders: AsyncClient) -> None:
    made = await orders.subscriptions.create("one", "orders", max_attempts=5)
    assert (made.config["topic"], made.config["max_attempts"]) == ("orders", 5)
    with pytest.raises(ConfigConflict):
        await orders.subscriptions.create("one", "orders", max_attempts=6)
    assert (await orders.subscriptions.create("one", "orders", max_attempts=6, if_not_exists=True)).config == made.config
    assert (await orders.subscriptions.alter("one", filter=EU, retain_unacked="1d")).config[
        "retain_unacked_ms"
    ] == 86_400_000
    assert [info.name for info in await orders.subscriptions.list()] == ["one"]
    await orders.subscriptions.delete("one")
    await orders.subscriptions.delete("one", missing_ok=True)
    with pytest.raises(SubscriptionNotFound):
        await orders.subscriptions.get("one")


async def test_what_cannot_be_is_refused_with_the_same_errors(orders: AsyncClient) -> None:
    with pytest.raises(FilterInvalid):
        await orders.subscriptions.create("bad", "orders", filter="value.region ==")
    with pytest.raises(UnknownTopicOrPartition):
        await orders.subscriptions.create("bad", "nothing")
    with pytest.raises(SubscriptionNotFound):
        async with orders.subscription("orders", name="missing").receive():
            pass


async def test_a_subscription_that_is_there_otherwise_is_not_taken_for_the_one_declared(orders: AsyncClient) -> None:
    await orders.topics.create("others")
    declared = orders.subscription("orders", name="audit", filter=EU, retry={"policy": "none"})
    made = await declared.create()
    await orders.subscriptions.alter("audit", retain_unacked="1d")
    assert (await declared.create()).created_ms == made.created_ms  # what it does not say may differ
    assert (await orders.subscription("orders", name="audit").create()).config["filter"] == EU
    with pytest.raises(ConfigConflict, match="'others'"):
        await orders.subscription("others", name="audit").create()
    with pytest.raises(ConfigConflict, match="has filter"):
        await orders.subscription("orders", name="audit", filter='value.region == "us"').create()
    with pytest.raises(ConfigConflict, match="has retry"):
        await orders.subscription("orders", name="audit", retry={"policy": "fixed"}).create()
    with pytest.raises(ConfigConflict, match="has topic"):
        await orders.subscriptions.create("audit", "others", if_not_exists=True)


async def test_a_seek_says_what_it_would_do_and_then_does_it(orders: AsyncClient) -> None:
    again = orders.subscription("orders", name="again", start="earliest")
    await again.create()
    async with again.receive(100, wait=1) as received:
        assert len(received) == 10
    [plan] = await again.seek(4)
    assert (plan.from_offset, plan.to_offset) == (10, 4)
    async with again.receive() as received:
        assert len(received) == 0
    await again.seek(4, dry_run=False)
    async with again.receive(100, wait=1) as received:
        assert [one.json(Order).id for one in received] == list(range(4, 10))
        await again.seek("latest", dry_run=False)
        for one in received:
            with pytest.raises(LeaseLost):
                await one.ack()


async def test_a_snapshot_is_a_place_to_start_at() -> None:
    from logbroker.client.positions import position_of

    assert position_of(Snapshot("before-the-change")) == {"snapshot": "before-the-change"}


async def test_a_handler_creates_its_subscription_and_takes_what_matches() -> None:
    async with Broker.memory() as lb:
        await lb.topics.create("orders")
        async with lb.producer("orders") as producer:
            for number in range(10):
                await producer.send(Order(number, ("eu", "us")[number % 2]))
        taken: list[int] = []
        all_taken = asyncio.Event()

        @lb.subscription("orders", name="eu", filter=EU, start="earliest").handler(concurrency=2)
        async def audit(order: Order) -> None:
            taken.append(order.id)
            if len(taken) == 5:
                all_taken.set()

        async with audit.running():
            async with asyncio.timeout(10):
                await all_taken.wait()
        assert sorted(taken) == [0, 2, 4, 6, 8]
        assert audit.stats.acked == 5
        assert (await lb.subscriptions.get("eu")).counts.in_flight == 0
