"""Who waits for messages: no ring is lost, and each wakes one."""

import asyncio

import pytest

from logbroker.queues.dispatcher.bell import Bell

pytestmark = pytest.mark.asyncio


async def waiter(bell: Bell, timeout_s: float = 30) -> "asyncio.Task[None]":
    task = asyncio.create_task(bell.wait(bell.rings, timeout_s))
    await asyncio.sleep(0)
    return task


async def test_a_ring_while_somebody_looks_makes_his_next_wait_return_at_once() -> None:
    bell = Bell()
    noted = bell.rings
    bell.ring()
    await asyncio.wait_for(bell.wait(noted, 30), 1)


async def test_each_ring_wakes_whoever_waits_longest() -> None:
    bell = Bell()
    first, second = await waiter(bell), await waiter(bell)
    bell.ring()
    await asyncio.wait_for(first, 1)
    assert not second.done()
    bell.ring_all()
    await asyncio.wait_for(second, 1)
    assert not bell.somebody.is_set()


async def test_a_ring_given_to_somebody_who_left_goes_to_the_next() -> None:
    bell = Bell()
    first, second = await waiter(bell), await waiter(bell)
    bell.ring()
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert len(bell) == 0


async def test_who_waits_in_vain_is_forgotten() -> None:
    bell = Bell()
    await bell.wait(bell.rings, 0.001)
    assert len(bell) == 0
    assert not bell.somebody.is_set()
