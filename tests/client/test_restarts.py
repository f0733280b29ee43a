"""A consumer and a producer over HTTP whose broker stops and comes back."""

import asyncio
from pathlib import Path

import pytest

from logbroker import AsyncClient, Broker, connect
from logbroker.client.calls.base import Call
from logbroker.client.calls.groups import Poll
from logbroker.errors import Unreachable

pytestmark = pytest.mark.asyncio


async def fill(lb: AsyncClient, numbers: range) -> None:
    async with lb.producer("orders") as producer:
        for number in numbers:
            producer.send_nowait(str(number), partition=number % 2)


async def test_a_consumer_goes_on_after_a_restart_and_misses_nothing(tmp_path: Path) -> None:
    broker = Broker.open(tmp_path, http="127.0.0.1:0", drain_ms=100)
    await broker.__aenter__()
    address = broker.listeners["http"].removeprefix("http://")
    await broker.topics.create("orders", partitions=2)
    await fill(broker, range(10))
    seen: list[str] = []
    half = asyncio.Event()

    async def work() -> None:
        async with connect(address) as lb, lb.consumer("orders", group="billing", start="earliest") as consumer:
            async for record in consumer:
                seen.append(record.text())
                if len(seen) == 10:
                    half.set()
                if len(set(seen)) == 20:
                    await consumer.commit(record)
                    return

    async with asyncio.timeout(30):
        task = asyncio.create_task(work())
        await half.wait()
        await broker.close()
        async with Broker.open(tmp_path, http=address, drain_ms=100) as again:
            await fill(again, range(10, 20))
            await task
    assert set(seen) == {str(number) for number in range(20)}


async def test_records_of_a_poll_whose_answer_was_lost_are_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Broker.memory() as lb:
        await lb.topics.create("orders", partitions=2)
        await fill(lb, range(10))
        carry, lost = lb._carrier.call, iter([True, False])

        async def losing(call: Call[object]) -> object:
            answer = await carry(call)
            if isinstance(call, Poll) and next(lost, False):
                raise Unreachable("the answer was lost")
            return answer

        monkeypatch.setattr(lb._carrier, "call", losing)
        seen: list[str] = []
        async with lb.consumer("orders", group="billing", start="earliest") as consumer:
            async for record in consumer:
                seen.append(record.text())
                if len(seen) == 10:
                    break
        assert set(seen) == {str(number) for number in range(10)}
        assert next(lost, None) is None
