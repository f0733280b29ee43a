"""Filters of subscriptions: what is left out is done, errors are counted, and a change judges only what was not read."""

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.errors import FilterInvalid
from logbroker.filters import Filter, Verdict
from logbroker.log.files.memory import MemoryFiles
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from tests.pubsub.shell import Reader, reading
from tests.queues.shell import texts

pytestmark = pytest.mark.asyncio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def reader(clock: ManualClock) -> AsyncIterator[Reader]:
    async with reading(MemoryFiles(), clock) as reader:
        yield reader


async def frontier(reader: Reader) -> int:
    return (await reader.queue.progress())[0].frontier


async def test_what_does_not_match_is_done(reader: Reader) -> None:
    await reader.publish("a1", "b1", "a2", "b2", "b3")
    await reader.subscribe(filter='value.startsWith("a")')
    assert await reader.take() == ["a1", "a2"]
    assert await frontier(reader) == 5
    assert (await reader.queue.size.counts()).backlog == 0
    assert reader.queue.tally.totals["filtered"] == 3


async def test_an_error_does_not_match_and_is_counted(reader: Reader) -> None:
    await reader.publish('{"n": 1}', "text", '{"m": 1}')
    await reader.subscribe(filter="value.n == 1")
    assert await reader.take() == ['{"n": 1}']
    assert (reader.queue.tally.totals["filtered"], reader.queue.tally.totals["filter_errors"]) == (2, 2)


async def test_a_bad_filter_is_refused_and_changes_nothing(reader: Reader) -> None:
    await reader.publish("a")
    with pytest.raises(FilterInvalid):
        await reader.subscribe(filter="value ==")
    await reader.subscribe(filter='value == "a"')
    with pytest.raises(FilterInvalid):
        await reader.alter(filter="1 + 1")
    assert await reader.take() == ["a"]


async def test_what_was_left_out_is_left_out_after_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish(*"abab")
        await reader.subscribe(filter='value == "a"')
        [held] = await reader.receive(1)
    async with reading(files, clock) as reader:
        assert await reader.take() == ["a"]
        assert await reader.ack(held) == [None]
        assert await frontier(reader) == 4


async def test_another_filter_judges_only_what_was_not_read(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish("a1", "b1", "a2", "b2")
        await reader.subscribe(filter='value.startsWith("a")')
        [held] = await reader.receive(1)
        await reader.alter(filter='value.startsWith("b")')
        assert [one.since for one in reader.queue.definition.filters] == [{}, {0: 4}]
        await reader.publish("a3", "b3")
        await reader.queue.settle.release([held.receipt])
    async with reading(files, clock) as reader:  # a2 was read but never delivered: the old version judges it again
        assert await reader.take() == ["a1", "a2", "b3"]
        await reader.alter(filter=None)
        assert len(reader.queue.definition.filters) == 1  # nothing is left that an older one could judge
        await reader.publish("c")
        assert await reader.take() == ["c"]


async def test_a_seek_lets_the_present_filter_judge_the_past(reader: Reader) -> None:
    await reader.publish("a1", "b1")
    await reader.subscribe(filter='value.startsWith("a")')
    assert await reader.take() == ["a1"]
    await reader.alter(filter='value.startsWith("b")')
    assert await reader.take() == []
    await reader.services.subscriptions.seek("audit", {0: 0})
    assert await reader.take() == ["b1"]


async def test_a_pull_does_not_read_for_ever_for_one_match(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logbroker.queues.dispatcher.partition.SCAN_S", 0)
    for _ in range(3):
        await reader.publish(*(["x" * 1_000] * 300))
    await reader.publish("match")
    await reader.subscribe(filter='value == "match"')
    assert await reader.receive(1) == []
    assert 0 < (await reader.queue.progress())[0].read < 901
    assert texts(await reader.receive(1, wait_ms=5_000)) == ["match"]  # there was time to go on


async def test_a_pull_gives_what_it_has_found_when_its_time_is_over(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logbroker.queues.dispatcher.partition.SCAN_S", 0)
    for _ in range(3):
        await reader.publish("match", *(["x" * 1_000] * 300))
    await reader.subscribe(filter='value == "match"')
    assert texts(await reader.receive(3, wait_ms=5_000)) == ["match"]


async def test_looking_shows_what_matches_and_counts_nothing(reader: Reader) -> None:
    await reader.publish(*"abab")
    await reader.subscribe(filter='value == "a"')
    page = await reader.queue.peek.page(MessageState.READY, Cursor(), 10)
    assert [one.record.offset for one in page.items] == [0, 2]
    assert reader.queue.tally.totals["filtered"] == 0


async def test_every_second_record_left_out_takes_two_bytes_each_in_the_journal(reader: Reader) -> None:
    await reader.publish(*(str(n) for n in range(10_000)))
    await reader.subscribe(filter='value.endsWith("0") || value.endsWith("5")')
    storage, where = reader.services.engine.storage, reader.queue.definition.journal
    assert storage is not None
    before = storage.size_bytes(where)
    await reader.receive(1)
    assert storage.size_bytes(where) - before < 10_000
    assert (await reader.queue.progress())[0].read > 1_000


async def test_what_was_delivered_before_a_restart_keeps_the_filter_that_chose_it(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish("a1", "a2", "b1")
        await reader.subscribe(filter='value.startsWith("a")')
        held = await reader.receive(2)
    async with reading(files, clock) as reader:  # it begins to read at a1 again
        await reader.alter(filter='value.startsWith("b")')
        await reader.queue.settle.release([one.receipt for one in held])
        await reader.publish("b2")
        assert await reader.take() == ["a1", "a2", "b2"]


@pytest.mark.parametrize(("expression", "beside_the_loop"), [('[1].all(x, value == "a")', True), ('value == "a"', False)])
async def test_a_filter_that_may_take_long_judges_beside_the_loop(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, expression: str, beside_the_loop: bool
) -> None:
    judged_in: list[threading.Thread] = []
    verdict = Filter.verdict

    def noting(self: Filter, *arguments: Any) -> Verdict:
        judged_in.append(threading.current_thread())
        return verdict(self, *arguments)

    monkeypatch.setattr(Filter, "verdict", noting)
    await reader.publish(*"abab")
    await reader.subscribe(filter=expression)
    page = await reader.queue.peek.page(MessageState.READY, Cursor(), 10)
    assert [one.record.offset for one in page.items] == [0, 2]
    assert await reader.take() == ["a", "a"]
    assert reader.queue.tally.totals["filtered"] == 2
    assert len(judged_in) == 8
    assert {thread is not threading.main_thread() for thread in judged_in} == {beside_the_loop}
