"""Changes while a subscription is read: what is read meanwhile is judged by one filter, from one place."""

import asyncio
from collections.abc import Sequence

import pytest

from logbroker.clock import ManualClock
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import StoredRecord, TopicPartition
from tests.pubsub.shell import Reader, reading
from tests.queues.shell import settled, texts

pytestmark = pytest.mark.asyncio


class Gate:
    """Stops a subscription between reading records and taking them in."""

    def __init__(self, reader: Reader) -> None:
        self.is_open = asyncio.Event()
        self._chosen = reader.queue.chosen
        reader.queue.chosen = self.chosen  # type: ignore[method-assign]  # a pause in the middle of a read

    async def chosen(self, where: TopicPartition, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        chosen = await self._chosen(where, records)
        await self.is_open.wait()
        return chosen


@pytest.mark.parametrize("change", ["filter", "seek"])
async def test_a_change_waits_for_the_read_that_is_under_way(change: str) -> None:
    async with reading(MemoryFiles(), ManualClock()) as reader:
        await reader.publish("a", "b")
        await reader.subscribe(filter='value == "a"')
        gate = Gate(reader)
        receiving = asyncio.create_task(reader.receive(9))
        await settled()
        if change == "filter":
            changing = asyncio.create_task(reader.alter(filter='value == "b"'))
        else:
            changing = asyncio.create_task(_sought(reader))
        await settled()
        assert not changing.done()
        gate.is_open.set()
        assert texts(await receiving) == ["a"]  # read, judged and delivered before the change
        await changing
        await reader.publish("b")
        assert await reader.take() == (["b"] if change == "filter" else ["a"])


async def _sought(reader: Reader) -> None:
    await reader.services.subscriptions.seek("audit", {0: 0})
