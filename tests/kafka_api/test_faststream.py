"""FastStream's KafkaBroker, unchanged: publish, subscribe in a group, batches, chains, and a handler that fails."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from faststream.kafka import KafkaBroker
from pydantic import BaseModel

from tests.kafka_api.broker import RunningBroker, running_broker

pytestmark = pytest.mark.asyncio
TIMEOUT_S = 20


class Order(BaseModel):
    """A typed message."""

    id: int
    item: str


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with running_broker() as running:
        yield running


def new_name() -> str:
    return f"orders-{uuid.uuid4().hex[:8]}"


async def test_typed_messages_go_through_a_chain_of_handlers(broker: RunningBroker) -> None:
    orders, shipped, group = new_name(), new_name(), new_name()
    stream = KafkaBroker(broker.address)
    done: asyncio.Queue[str] = asyncio.Queue()

    @stream.subscriber(orders, group_id=group, auto_offset_reset="earliest")
    @stream.publisher(shipped)
    async def ship(order: Order) -> str:
        return f"{order.id}:{order.item}"

    @stream.subscriber(shipped, group_id=group, auto_offset_reset="earliest")
    async def note(text: str) -> None:
        await done.put(text)

    async with stream:
        await stream.start()
        for number in range(10):
            await stream.publish(Order(id=number, item="tea"), orders, key=b"k", headers={"source": "test"})
        async with asyncio.timeout(TIMEOUT_S):
            found = [await done.get() for _ in range(10)]
    assert found == [f"{number}:tea" for number in range(10)]


async def test_batches_are_published_and_consumed(broker: RunningBroker) -> None:
    topic = new_name()
    stream = KafkaBroker(broker.address)
    found: list[int] = []
    complete = asyncio.Event()

    @stream.subscriber(topic, batch=True, auto_offset_reset="earliest")
    async def take(numbers: list[int]) -> None:
        found.extend(numbers)
        if len(found) == 50:
            complete.set()

    async with stream:
        await stream.start()
        await stream.publish_batch(*range(50), topic=topic)
        async with asyncio.timeout(TIMEOUT_S):
            await complete.wait()
    assert found == list(range(50))


async def test_a_group_goes_on_where_it_stopped(broker: RunningBroker) -> None:
    topic, group = new_name(), new_name()

    async def consume(count: int) -> list[str]:
        stream = KafkaBroker(broker.address)
        done: asyncio.Queue[str] = asyncio.Queue()

        @stream.subscriber(topic, group_id=group, auto_offset_reset="earliest")
        async def take(text: str) -> None:
            await done.put(text)

        async with stream:
            await stream.start()
            async with asyncio.timeout(TIMEOUT_S):
                return [await done.get() for _ in range(count)]

    async with KafkaBroker(broker.address) as sender:
        for number in range(5):
            await sender.publish(f"{number}", topic)
        assert await consume(5) == ["0", "1", "2", "3", "4"]
        await sender.publish("5", topic)
    assert await consume(1) == ["5"]
