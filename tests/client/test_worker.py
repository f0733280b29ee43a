"""A worker: handlers run, and every message is settled by how its handler ended."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from logbroker.client import connect
from logbroker.client.aio.client import AsyncClient
from logbroker.client.aio.queue import AsyncQueue
from logbroker.client.aio.worker import Context
from logbroker.client.handling import DeadLetter, Retry
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.errors import InvalidRequest, QueueNotFound, Recovering
from logbroker.log.files.memory import MemoryFiles
from logbroker.node import Node

pytestmark = pytest.mark.asyncio


class Email(msgspec.Struct):
    to: str


@pytest_asyncio.fixture
async def lb() -> AsyncIterator[AsyncClient]:
    node = Node(BrokerConfig(http="127.0.0.1:0", kafka="off"), TopicConfig(), files=MemoryFiles())
    await node.start()
    async with connect(node.listeners["http"]) as lb:
        yield lb
    await node.stop()


@pytest_asyncio.fixture
async def emails(lb: AsyncClient) -> AsyncQueue:
    await lb.queues.create("emails", max_attempts=2, retry={"policy": "none"})
    return lb.queue("emails")


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in the broker
            await asyncio.sleep(0.01)


async def counts(queue: AsyncQueue) -> dict[str, int]:
    return msgspec.structs.asdict((await queue.stats()).counts)


async def is_empty(queue: AsyncQueue) -> bool:
    found = await counts(queue)
    return not any(found[state] for state in ("ready", "in_flight", "delayed", "retrying"))


# -- how a handler ends ------------------------------------------------------------------------------------------------


async def test_what_a_handler_returns_from_is_done(emails: AsyncQueue) -> None:
    seen: list[str] = []

    @emails.worker(concurrency=2)
    async def send(email: Email) -> None:
        seen.append(email.to)

    for number in range(10):
        await send.enqueue(Email(f"user{number}"))
    async with send.running():
        await eventually(lambda: is_empty(emails))
    assert sorted(seen) == [f"user{number}" for number in range(10)]
    assert (send.stats.received, send.stats.acked, send.stats.in_flight) == (10, 10, 0)


async def test_a_handler_that_fails_is_tried_again_and_then_its_message_is_a_dead_letter(emails: AsyncQueue) -> None:
    deliveries: list[tuple[int, int]] = []

    @emails.worker()
    async def send(email: Email, context: Context) -> None:
        deliveries.append((context.deliveries, context.failures))
        raise ValueError(f"no such user: {email.to}")

    await emails.send(Email("ghost"))
    async with send.running():
        await eventually(lambda: has_died(emails, 1))
    [letter] = await emails.dlq.list()
    assert deliveries == [(1, 0), (2, 1)]
    assert letter.last_error is not None
    assert letter.last_error.startswith("ValueError: no such user: ghost\n")
    assert (send.stats.nacked, send.stats.acked) == (2, 0)


async def has_died(queue: AsyncQueue, count: int) -> bool:
    return (await counts(queue))["dead"] == count


async def test_retry_and_dead_letter_do_what_they_say(emails: AsyncQueue) -> None:
    times: list[float] = []

    @emails.worker(concurrency=2)
    async def send(email: Email) -> None:
        if email.to == "never":
            raise DeadLetter("unsubscribed")
        times.append(time.monotonic())
        if len(times) == 1:
            raise Retry("throttled", after="150ms")

    await emails.send(Email("later"))
    await emails.send(Email("never"))
    async with send.running():
        await eventually(lambda: is_empty(emails))
        await eventually(lambda: has_died(emails, 1))
    assert len(times) == 2
    assert times[1] - times[0] >= 0.15
    [letter] = await emails.dlq.list()
    assert (letter.json(Email), letter.last_error) == (Email("never"), "unsubscribed")


async def test_a_message_that_is_not_what_the_handler_takes_becomes_a_dead_letter_at_once(emails: AsyncQueue) -> None:
    called: list[Email] = []

    @emails.worker()
    async def send(email: Email) -> None:
        called.append(email)

    await emails.send(b"\xff")
    async with send.running():
        await eventually(lambda: has_died(emails, 1))
    [letter] = await emails.dlq.list()
    assert (called, letter.deliveries) == ([], 1)
    assert letter.last_error is not None
    assert "not the Email" in letter.last_error


async def test_a_handler_that_runs_too_long_has_failed(emails: AsyncQueue) -> None:
    @emails.worker(timeout=0.05)
    async def send(email: Email) -> None:
        await asyncio.sleep(60)

    await emails.send(Email("slow"))
    async with send.running():
        await eventually(lambda: has_died(emails, 1))
    [letter] = await emails.dlq.list()
    assert letter.last_error == "TimedOut: the handler ran longer than 50 ms"


async def test_a_function_that_raises_what_no_future_can_carry_has_failed(emails: AsyncQueue) -> None:
    @emails.worker()
    def send(email: Email) -> None:
        next(iter(()))

    await emails.send(Email("none"))
    async with send.running():
        await eventually(lambda: has_died(emails, 1))
    [letter] = await emails.dlq.list()
    assert letter.last_error is not None
    assert letter.last_error.startswith("RuntimeError: the handler raised StopIteration")


# -- leases and concurrency --------------------------------------------------------------------------------------------


async def test_the_lease_of_what_runs_is_kept(emails: AsyncQueue) -> None:
    runs: list[int] = []

    @emails.worker(visibility_timeout=1)
    async def send(email: Email) -> None:
        runs.append(1)
        await asyncio.sleep(2.2)

    await emails.send(Email("long"))
    async with send.running():
        await eventually(lambda: is_empty(emails))
    assert (runs, send.stats.lease_lost) == ([1], 0)


async def test_no_more_run_at_a_time_than_asked_for_and_no_more_are_held(emails: AsyncQueue) -> None:
    running = most = held = 0

    @emails.worker(concurrency=3)
    async def send(email: Email) -> None:
        nonlocal running, most, held
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        held = max(held, (await counts(emails))["in_flight"])
        running -= 1

    for number in range(12):
        await emails.send(Email(str(number)))
    async with send.running():
        await eventually(lambda: is_empty(emails))
    assert most == 3
    assert held <= 6  # those whose handlers run, and those that have just ended and wait for their ack


async def test_a_handler_that_is_not_async_runs_in_threads(emails: AsyncQueue) -> None:
    threads: set[str] = set()
    together = threading.Barrier(3, timeout=5)

    @emails.worker(concurrency=3)
    def send(email: Email) -> str:
        threads.add(threading.current_thread().name)
        together.wait()
        return email.to

    for number in range(3):
        await emails.send(Email(str(number)))
    async with send.running():
        await eventually(lambda: is_empty(emails))
    assert len(threads) == 3
    assert all(name.startswith("worker emails") for name in threads)
    together.abort()
    with pytest.raises(threading.BrokenBarrierError):
        send(Email("called like a function"))


async def test_a_thread_that_was_given_up_on_gets_nothing_until_it_is_back(emails: AsyncQueue) -> None:
    hold = threading.Event()

    @emails.worker(timeout=0.05)
    def send(email: Email) -> None:
        hold.wait(10)

    await emails.send(Email("1"))
    await emails.send(Email("2"))
    async with send.running():
        await eventually(lambda: _is(lambda: send.stats.nacked == 1))
        for _ in range(5):
            assert (await counts(emails))["ready"] == 2
        assert send.stats.received == 1
        hold.set()
        await eventually(lambda: is_empty(emails))
    assert (send.stats.acked, send.stats.nacked) == (2, 1)


async def test_order_by_key_is_kept_by_many_handlers(lb: AsyncClient) -> None:
    await lb.queues.create("ordered", partitions=2, ordering="key", retry={"policy": "none"})
    queue = lb.queue("ordered")
    seen: dict[str, list[int]] = {}
    failed: set[int] = set()

    @queue.worker(concurrency=8)
    async def handle(number: int, context: Context) -> None:
        if number % 7 == 0 and number not in failed:
            failed.add(number)
            raise ValueError("once")
        seen.setdefault((context.message.key or b"").decode(), []).append(number)

    for number in range(100):
        await queue.send(number, key=f"k{number % 5}")
    async with handle.running():
        await eventually(lambda: is_empty(queue))
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert sum(map(len, seen.values())) == 100


# -- stopping ----------------------------------------------------------------------------------------------------------


async def test_a_stop_lets_what_runs_end_and_takes_on_nothing(emails: AsyncQueue) -> None:
    begun = asyncio.Event()

    @emails.worker()
    async def send(email: Email, context: Context) -> None:
        begun.set()
        await eventually(lambda: _is(lambda: context.stopping))

    await emails.send(Email("1"))
    await emails.send(Email("2"))
    async with send.running():
        await begun.wait()
    assert send.stats.acked == 1
    assert (await counts(emails))["ready"] == 1


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_what_does_not_end_in_time_goes_back_uncounted_and_unacknowledged(emails: AsyncQueue) -> None:
    begun = asyncio.Event()

    @emails.worker(drain=0.05)
    async def send(email: Email) -> None:
        begun.set()
        await asyncio.sleep(60)

    await emails.send(Email("1"))
    async with send.running():
        await begun.wait()
    assert (send.stats.released, send.stats.acked) == (1, 0)
    async with emails.receive() as [message]:
        assert (message.failures, message.deliveries) == (0, 2)


async def test_a_stop_before_the_first_receive_counts(emails: AsyncQueue) -> None:
    @emails.worker()
    async def send(email: Email) -> None: ...

    async with asyncio.timeout(10):
        async with send.running():
            pass
        work = send.run()
        send.stop()
        await work


async def test_an_idle_worker_stops_at_once(emails: AsyncQueue) -> None:
    @emails.worker()
    async def send(email: Email) -> None: ...

    began = time.monotonic()
    async with send.running():
        await asyncio.sleep(0.05)
    assert time.monotonic() - began < 5
    assert await is_empty(emails)


async def test_a_signal_ends_the_run_of_a_client_with_all_its_workers(lb: AsyncClient, emails: AsyncQueue) -> None:
    await lb.queues.create("other")
    done: list[str] = []

    @emails.worker()
    async def send(email: Email) -> None:
        done.append(email.to)
        signal.raise_signal(signal.SIGTERM)

    @lb.queue("other").worker()
    async def other(email: Email) -> None: ...

    await emails.send(Email("last"))
    async with asyncio.timeout(10):
        await lb.run()
    assert done == ["last"]
    assert await is_empty(emails)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_a_client_without_workers_has_nothing_to_run(lb: AsyncClient) -> None:
    with pytest.raises(InvalidRequest, match="nothing to run"):
        await lb.run()


async def test_a_worker_of_a_queue_that_is_not_there_says_so(lb: AsyncClient) -> None:
    @lb.queue("missing").worker()
    async def handle(email: Email) -> None: ...

    with pytest.raises(QueueNotFound):
        await lb.run()


async def test_a_broker_that_is_away_for_a_while_is_waited_for(emails: AsyncQueue, lb: AsyncClient) -> None:
    done: list[str] = []
    call, away = lb._driver._carrier.call, 8

    async def interrupted(wanted: Any) -> Any:
        nonlocal away
        if away and type(wanted).__name__ == "Receive":
            away -= 1
            raise Recovering("the broker is away")
        return await call(wanted)

    lb._driver._carrier.call = interrupted  # type: ignore[method-assign,assignment]  # the fault is put in here

    @emails.worker()
    async def send(email: Email) -> None:
        done.append(email.to)

    await emails.send(Email("x"))
    async with send.running():
        await eventually(lambda: _is(lambda: done == ["x"]))
    assert away == 0


async def test_a_worker_that_could_never_work_is_refused(emails: AsyncQueue) -> None:
    for concurrency in (0, -1, "8"):
        with pytest.raises(InvalidRequest, match="concurrency"):
            emails.worker(concurrency=concurrency)  # type: ignore[arg-type]  # what a caller may give
    for timeout in (0, -1, "soon"):
        with pytest.raises(InvalidRequest):
            emails.worker(timeout=timeout)
