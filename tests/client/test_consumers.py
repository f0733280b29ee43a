"""Consumers of a group: what is committed, when a loop ends, who reads what; over every carrier."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from logbroker import AsyncClient
from logbroker.errors import Closed, GroupNotFound, IllegalGeneration, InvalidRequest, NoResponders, OffsetOutOfRange

pytestmark = pytest.mark.asyncio


async def fill(lb: AsyncClient, count: int, partitions: int = 1) -> None:
    """``count`` records 0, 1, ... in topic ``orders``, spread over its partitions, each a second later."""
    await lb.topics.create("orders", partitions=partitions, if_not_exists=True)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    async with lb.producer("orders") as producer:
        for number in range(count):
            at = first + timedelta(seconds=number)
            producer.send_nowait(str(number), partition=number % partitions, timestamp=at)


async def committed(lb: AsyncClient, group: str = "billing") -> dict[int, int | None]:
    """What the group has committed, by partition."""
    async with lb.consumer("orders", group=group) as looking:
        return {one.partition: one.committed for one in (await looking.lag()).partitions}


async def test_a_record_is_committed_once_the_next_is_asked_for(lb: AsyncClient) -> None:
    await fill(lb, 5)
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        async for record in consumer:
            if record.text() == "3":
                break
    assert await committed(lb) == {0: 3}


async def test_a_loop_body_that_raises_leaves_its_record_uncommitted(lb: AsyncClient) -> None:
    await fill(lb, 5)
    with pytest.raises(ZeroDivisionError):
        async with lb.consumer("orders", group="billing", start="earliest") as consumer:
            async for record in consumer:
                if record.text() == "2":
                    raise ZeroDivisionError
    assert await committed(lb) == {0: 2}
    async with lb.consumer("orders", group="billing") as consumer:
        async for record in consumer:
            assert record.text() == "2"
            break


async def test_a_loop_ends_when_the_consumer_is_closed_and_what_it_worked_on_is_finished(lb: AsyncClient) -> None:
    await fill(lb, 3)
    consumer = lb.consumer("orders", group="billing", start="earliest")
    working, go_on = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def work() -> None:
        async for record in consumer:
            seen.append(record.text())
            if len(seen) == 2:
                working.set()
                await go_on.wait()

    async with consumer:
        task = asyncio.create_task(work())
        await working.wait()
        closing = asyncio.create_task(consumer.close())
        await asyncio.sleep(0.01)
        go_on.set()
        await closing
        await task
    assert seen == ["0", "1"]
    assert await committed(lb) == {0: 2}


async def test_a_loop_that_waits_for_records_ends_when_the_consumer_is_closed(lb: AsyncClient) -> None:
    await fill(lb, 1)
    consumer = lb.consumer("orders", group="billing", start="earliest")
    first = asyncio.Event()

    async def work() -> None:
        async for _ in consumer:
            first.set()

    async with consumer:
        task = asyncio.create_task(work())
        await first.wait()
        await consumer.close()
        async with asyncio.timeout(5):
            await task
    assert await committed(lb) == {0: 1}


async def test_closing_inside_the_loop_ends_it_and_leaves_its_record_uncommitted(lb: AsyncClient) -> None:
    await fill(lb, 3)
    seen = []
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        async for record in consumer:
            seen.append(record.text())
            if len(seen) == 2:
                await consumer.close()
    assert seen == ["0", "1"]
    assert await committed(lb) == {0: 1}


async def test_leaving_the_client_closes_its_consumers_and_producers(lb: AsyncClient) -> None:
    await fill(lb, 2)
    consumer = lb.consumer("orders", group="billing", start="earliest")
    await consumer.__aenter__()
    assert (await anext(consumer)).text() == "0"
    assert (await anext(consumer)).text() == "1"
    await consumer.close()
    with pytest.raises(StopAsyncIteration):
        await anext(consumer)
    with pytest.raises(Closed):
        await consumer.__aenter__()


async def test_manual_commits_alone_count(lb: AsyncClient) -> None:
    await fill(lb, 6)
    async with lb.consumer("orders", group="billing", start="earliest", commit="manual") as consumer:
        async for record in consumer:
            if record.text() == "2":
                await consumer.commit(record)
            if record.text() == "4":
                break
    assert await committed(lb) == {0: 3}
    async with lb.consumer("orders", group="billing", commit="manual") as consumer:
        assert [(await anext(consumer)).text(), (await anext(consumer)).text()] == ["3", "4"]
        await consumer.commit()
    assert await committed(lb) == {0: 5}


async def test_a_batch_is_finished_as_a_whole(lb: AsyncClient) -> None:
    await fill(lb, 7)
    sizes = []
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        async for batch in consumer.batches(max_records=3, max_wait=0.01):
            sizes.append([record.text() for record in batch])
            if len(sizes) == 3:
                break
    assert sizes == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert await committed(lb) == {0: 6}


async def test_a_consumer_that_starts_at_the_end_commits_where_that_was(lb: AsyncClient) -> None:
    await fill(lb, 3)
    async with lb.consumer("orders", group="billing") as consumer:
        waiting = asyncio.ensure_future(anext(consumer))
        while not consumer.assignment:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
        await fill(lb, 1)
        assert (await waiting).text() == "0"
    assert await committed(lb) == {0: 3}


async def test_without_a_committed_offset_a_consumer_may_refuse_to_guess(lb: AsyncClient) -> None:
    await fill(lb, 1)
    async with lb.consumer("orders", group="billing", start="error") as consumer:
        with pytest.raises(OffsetOutOfRange):
            await anext(consumer)


async def test_seeking_moves_what_is_read_and_what_is_committed(lb: AsyncClient) -> None:
    await fill(lb, 6)
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        for number in range(4):
            assert (await anext(consumer)).text() == str(number)
        await consumer.seek(0, offset=1)
        assert (await anext(consumer)).text() == "1"
        await consumer.seek(timestamp=datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC))
        assert (await anext(consumer)).text() == "5"
        await consumer.seek(at="earliest")
        assert (await anext(consumer)).text() == "0"
        assert (await anext(consumer)).text() == "1"
        with pytest.raises(IllegalGeneration):
            await consumer.seek(7, offset=0)
        with pytest.raises(InvalidRequest):
            await consumer.seek(0, offset=0, at="latest")
    assert await committed(lb) == {0: 1}


async def test_a_paused_partition_waits_and_loses_nothing(lb: AsyncClient) -> None:
    await fill(lb, 8, partitions=2)
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        first = await anext(consumer)
        paused = first.partition
        await consumer.pause(paused)
        others = [await anext(consumer) for _ in range(4)]
        assert {record.partition for record in others} == {1 - paused}
        await fill(lb, 2, partitions=2)
        assert (await anext(consumer)).partition == 1 - paused
        await consumer.resume(paused)
        rest = [await anext(consumer) for _ in range(4)]
        assert [record.text() for record in rest] == [str(paused + 2 * at) for at in range(1, 4)] + [str(paused)]


async def test_two_consumers_share_the_partitions_and_lose_nothing_when_one_leaves(lb: AsyncClient) -> None:
    await fill(lb, 40, partitions=4)
    seen: list[tuple[str, str]] = []

    async def work(name: str, stop_after: int | None) -> None:
        mine = 0
        async with lb.consumer("orders", group="billing", start="earliest") as consumer:
            async for record in consumer:
                seen.append((name, record.text()))
                mine += 1
                if mine == stop_after:
                    await anext(consumer)  # so that this one is finished; the one it gives is not
                    return
                if len({text for _, text in seen}) == 80:
                    return

    async with asyncio.timeout(30):
        first = asyncio.create_task(work("first", 5))
        second = asyncio.create_task(work("second", None))
        await first
        async with lb.producer("orders") as producer:
            for number in range(40, 80):
                producer.send_nowait(str(number), partition=number % 4)
        await second
    assert {text for _, text in seen} == {str(number) for number in range(80)}


async def test_how_far_a_group_is_behind(lb: AsyncClient) -> None:
    await fill(lb, 5)
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        with pytest.raises(GroupNotFound):
            await consumer.lag()
        async for batch in consumer.batches(max_records=2, max_wait=0.01):
            if batch[-1].text() == "3":
                break
    async with lb.consumer("orders", group="billing") as consumer:
        lag = await consumer.lag()
        assert (lag.group, lag.lag, [one.end for one in lag.partitions]) == ("billing", 3, [5])


async def test_a_question_that_nobody_listens_to_is_refused_at_once(lb: AsyncClient) -> None:
    with pytest.raises(NoResponders):
        await lb.request("pricing", {"sku": "tea"}, timeout=1)
