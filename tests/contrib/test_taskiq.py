"""taskiq's own behaviour, on our broker: its receiver runs the tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from taskiq import InMemoryBroker, TaskiqResult
from taskiq.receiver import Receiver

from logbroker.client.aio.queue import AsyncQueue
from logbroker.contrib.taskiq import LogbrokerBroker
from logbroker.embedded import Broker

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def served() -> AsyncIterator[Broker]:
    async with Broker.memory(http="127.0.0.1:0") as lb:
        yield lb


@asynccontextmanager
async def receiving(broker: LogbrokerBroker) -> AsyncIterator[None]:
    """A worker of taskiq's, as its command line starts one."""
    finish = asyncio.Event()
    receiver = Receiver(broker, run_startup=False, max_async_tasks=4)
    listening = asyncio.create_task(receiver.listen(finish))
    yield
    finish.set()
    await listening


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the tasks tell nobody
            await asyncio.sleep(0.005)


async def states(queue: AsyncQueue) -> tuple[int, int, int]:
    counts = (await queue.stats()).counts
    return counts.ready, counts.in_flight, counts.delayed


async def test_tasks_are_run_with_their_arguments_and_their_results_are_kept() -> None:
    async with served() as lb:
        broker = LogbrokerBroker(lb.listeners["http"])
        broker.with_result_backend(InMemoryBroker().result_backend)

        @broker.task
        async def add(one: int, other: int = 0) -> int:
            return one + other

        await broker.startup()
        async with receiving(broker):
            kicked = [await add.kiq(number, other=10) for number in range(20)]
            results: list[TaskiqResult[int]] = [await task.wait_result(timeout=10) for task in kicked]
        await broker.shutdown()
        assert [result.return_value for result in results] == [number + 10 for number in range(20)]
        assert await states(lb.queue("taskiq")) == (0, 0, 0)


async def test_a_task_that_raises_is_over_and_its_error_is_its_result() -> None:
    async with served() as lb:
        broker = LogbrokerBroker(lb.listeners["http"], "failing")
        broker.with_result_backend(InMemoryBroker().result_backend)

        @broker.task
        async def fail() -> None:
            raise ValueError("no")

        await broker.startup()
        async with receiving(broker):
            result = await (await fail.kiq()).wait_result(timeout=10)
        await broker.shutdown()
        assert (result.is_err, str(result.error)) == (True, "no")
        assert await states(lb.queue("failing")) == (0, 0, 0)


async def test_a_task_with_a_delay_waits_in_the_queue() -> None:
    async with served() as lb:
        broker = LogbrokerBroker(lb.listeners["http"])

        @broker.task
        async def later() -> None: ...

        await broker.startup()
        await later.kicker().with_labels(delay=3600).kiq()
        assert await states(lb.queue("taskiq")) == (0, 0, 1)
        await broker.shutdown()


async def test_what_a_worker_has_not_finished_goes_back_when_it_stops() -> None:
    async with served() as lb:
        broker = LogbrokerBroker(lb.listeners["http"])
        await broker.startup()

        @broker.task
        async def never() -> None: ...

        await never.kiq()
        listening = broker.listen()
        await anext(listening)
        assert await states(lb.queue("taskiq")) == (0, 1, 0)
        await listening.aclose()
        await broker.shutdown()
        assert await states(lb.queue("taskiq")) == (1, 0, 0)


async def test_the_lease_of_a_task_is_kept_until_it_is_acknowledged() -> None:
    async with served() as lb:
        broker = LogbrokerBroker(lb.listeners["http"], visibility_timeout="1s")
        runs: list[int] = []

        @broker.task
        async def slow() -> None:
            runs.append(1)
            await asyncio.sleep(2.2)

        await broker.startup()
        async with receiving(broker):
            await slow.kiq()
            await until(lambda: bool(runs))
        await broker.shutdown()
        assert runs == [1]
        assert await states(lb.queue("taskiq")) == (0, 0, 0)
