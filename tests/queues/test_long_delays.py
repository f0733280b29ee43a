"""A message that waits for long keeps nobody else waiting."""

import pytest

from logbroker.clock import ManualClock
from logbroker.log.files.memory import MemoryFiles
from tests.queues.shell import running, texts

pytestmark = pytest.mark.asyncio

HOUR_MS = 3_600_000
COUNT = 10_000


async def test_ten_thousand_short_delays_are_due_in_time_beside_one_of_an_hour() -> None:
    clock = ManualClock()
    async with running(MemoryFiles(), clock) as shell:
        await shell.create(max_in_flight=2 * COUNT)
        now_ms = clock.now().wall_ms
        await shell.send("long", due_ms=now_ms + HOUR_MS)
        for start in range(0, COUNT, 1_000):
            await shell.send(*map(str, range(start, start + 1_000)), due_ms=now_ms + 1_000)
        await shell.advance(999)
        assert await shell.receive(1_000) == []
        await shell.advance(1)
        values: list[str] = []
        while received := await shell.receive(1_000):
            values += texts(received)
            await shell.ack(*received)
        assert sorted(map(int, values)) == list(range(COUNT))
        await shell.advance(HOUR_MS - 1_001)
        assert await shell.receive(1) == []
        await shell.advance(1)
        assert texts(await shell.receive(1)) == ["long"]
