"""What every engine promises; each test runs on each engine. Offsets are never assumed to be dense."""

import asyncio
from collections.abc import Sequence

import pytest

from logbroker.clock import ManualClock
from logbroker.engine.api import Engine, TopicSpec
from logbroker.errors import (
    InvalidConfig,
    InvalidOffset,
    InvalidPartitions,
    MessageTooLarge,
    OffsetOutOfRange,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
    WriterFenced,
)
from logbroker.model import Header, Record, StoredRecord, TopicPartition

pytestmark = pytest.mark.asyncio

WHERE = TopicPartition("orders", 0)
PLENTY = 1 << 20


def numbered(count: int, start: int = 0) -> list[Record]:
    return [Record(b"%d" % number) for number in range(start, start + count)]


async def everything(engine: Engine, where: TopicPartition = WHERE, max_bytes: int = PLENTY) -> list[StoredRecord]:
    """All records, read the only way that is right: on from next_offset until the high watermark."""
    bounds = await engine.bounds(where)
    offset, records = bounds.log_start_offset, []
    while offset < bounds.high_watermark:
        read = await engine.read(where, offset, max_bytes=max_bytes)
        assert read.next_offset > offset
        records += read.records
        offset = read.next_offset
    return records


def values(records: Sequence[StoredRecord]) -> list[bytes | None]:
    return [record.value for record in records]


async def test_records_come_back_as_they_were_appended(engine: Engine, clock: ManualClock) -> None:
    await engine.create_topic("orders", 1, {})
    sent = [
        Record(b"v", b"k", (Header("a", b"1"), Header("a", None), Header("ü", b"")), timestamp_ms=clock.now().wall_ms - 5),
        Record(None, b"k"),
        Record(b"", None),
    ]
    appended = await engine.append(WHERE, sent)
    read = await engine.read(WHERE, appended.base_offset, max_bytes=PLENTY)
    assert [(one.key, one.value, one.headers) for one in read.records] == [
        (one.key, one.value, one.headers) for one in sent
    ]
    now = clock.now().wall_ms
    assert [one.timestamp_ms for one in read.records] == [now - 5, now, now]


async def test_offsets_grow_and_the_high_watermark_is_past_what_was_acknowledged(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    first = await engine.append(WHERE, numbered(3))
    second = await engine.append(WHERE, numbered(2, start=3))
    assert first.base_offset < first.next_offset <= second.base_offset < second.next_offset
    assert (await engine.bounds(WHERE)).high_watermark >= second.next_offset
    records = await everything(engine)
    assert values(records) == [b"0", b"1", b"2", b"3", b"4"]
    assert [one.offset for one in records] == sorted({one.offset for one in records})
    assert records[0].offset == first.base_offset and records[3].offset == second.base_offset


async def test_reading_at_the_end_gives_nothing_and_stays_there(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    await engine.append(WHERE, numbered(1))
    end = (await engine.bounds(WHERE)).high_watermark
    read = await engine.read(WHERE, end, max_bytes=PLENTY)
    assert (read.records, read.next_offset) == ([], end)


async def test_reading_outside_the_log_is_refused_with_its_bounds(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    appended = await engine.append(WHERE, numbered(4))
    await engine.trim(WHERE, appended.base_offset + 1)
    bounds = await engine.bounds(WHERE)
    for offset in (appended.base_offset, bounds.high_watermark + 1):
        with pytest.raises(OffsetOutOfRange) as refused:
            await engine.read(WHERE, offset, max_bytes=PLENTY)
        assert refused.value.fields["log_start_offset"] == bounds.log_start_offset
        assert refused.value.fields["high_watermark"] == bounds.high_watermark


async def test_a_read_gives_at_least_one_record_and_no_more_than_asked(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    for number in range(5):
        await engine.append(WHERE, [Record(b"%d" % number * 1000)])
    first = await engine.read(WHERE, (await everything(engine))[0].offset, max_bytes=1)
    assert len(first.records) == 1
    assert len(await everything(engine, max_bytes=1)) == 5
    two = await engine.read(WHERE, first.records[0].offset, max_bytes=PLENTY, max_records=2)
    assert len(two.records) == 2
    rest = await engine.read(WHERE, two.next_offset, max_bytes=PLENTY)
    assert len(rest.records) == 3


async def test_many_appends_at_once_are_all_there_once(engine: Engine) -> None:
    await engine.create_topic("orders", 2, {})
    wheres = [TopicPartition("orders", number % 2) for number in range(60)]
    done = await asyncio.gather(*(engine.append(where, numbered(3, 10 * at)) for at, where in enumerate(wheres)))
    for partition in range(2):
        where = TopicPartition("orders", partition)
        found = {one.offset: one.value for one in await everything(engine, where)}
        assert len(found) == 90
        for at in range(partition, 60, 2):
            assert found[done[at].base_offset] == b"%d" % (10 * at)


async def test_a_record_larger_than_the_topic_takes_is_refused_and_nothing_is_written(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {"max_message_bytes": 1_000})
    with pytest.raises(MessageTooLarge):
        await engine.append(WHERE, [Record(b"small"), Record(b"x" * 1_000)])
    assert await everything(engine) == []


async def test_waiting_ends_when_a_record_can_be_read(engine: Engine) -> None:
    await engine.create_topic("orders", 2, {})
    positions = {TopicPartition("orders", number): 0 for number in range(2)}
    positions = {where: (await engine.bounds(where)).high_watermark for where in positions}
    waiting = asyncio.ensure_future(engine.changed(positions))
    await asyncio.sleep(0)
    assert not waiting.done()
    await engine.append(TopicPartition("orders", 1), numbered(1))
    await asyncio.wait_for(waiting, 5)


async def test_waiting_ends_at_once_when_there_is_something_to_read(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    appended = await engine.append(WHERE, numbered(1))
    await asyncio.wait_for(engine.changed({WHERE: appended.base_offset}), 5)


async def test_waiting_ends_when_the_topic_is_deleted(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    waiting = asyncio.ensure_future(engine.changed({WHERE: (await engine.bounds(WHERE)).high_watermark}))
    await asyncio.sleep(0)
    await engine.delete_topic("orders")
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(UnknownTopicOrPartition):
        await engine.bounds(WHERE)


async def test_a_time_finds_the_first_record_at_or_after_it_although_times_are_out_of_order(
    engine: Engine, clock: ManualClock
) -> None:
    await engine.create_topic("orders", 1, {})
    start = clock.now().wall_ms - 1000
    offsets = []
    for shift in (100, 300, 200, 50, 400):
        appended = await engine.append(WHERE, [Record(b"%d" % shift, timestamp_ms=start + shift)])
        offsets.append(appended.base_offset)
    assert await engine.offset_at(WHERE, start + 101) == (offsets[1], start + 300)
    assert await engine.offset_at(WHERE, start) == (offsets[0], start + 100)
    assert await engine.offset_at(WHERE, start + 301) == (offsets[4], start + 400)
    assert await engine.offset_at(WHERE, start + 401) is None
    assert await engine.max_timestamp(WHERE) == (offsets[4], start + 400)


async def test_a_time_inside_a_batch_finds_the_record_and_not_the_batch(engine: Engine, clock: ManualClock) -> None:
    await engine.create_topic("orders", 1, {})
    start = clock.now().wall_ms - 1000
    appended = await engine.append(WHERE, [Record(b"x", timestamp_ms=start + shift) for shift in (1, 5, 3, 9)])
    found = await engine.offset_at(WHERE, start + 4)
    assert found is not None and found.timestamp_ms == start + 5 and found.offset > appended.base_offset


async def test_trimming_moves_the_log_start_and_keeps_the_rest(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    for number in range(5):
        await engine.append(WHERE, numbered(1, number))
    third = (await everything(engine))[2].offset
    assert await engine.trim(WHERE, third) == third
    assert (await engine.bounds(WHERE)).log_start_offset == third
    assert values(await everything(engine)) == [b"2", b"3", b"4"]
    assert await engine.trim(WHERE, 0) == third


async def test_trimming_never_passes_the_end_or_a_hold(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    appended = await engine.append(WHERE, numbered(5))
    with pytest.raises(InvalidOffset):
        await engine.trim(WHERE, (await engine.bounds(WHERE)).high_watermark + 1)
    engine.hold(WHERE, "queue", appended.base_offset + 2)
    with pytest.raises(InvalidOffset):
        await engine.trim(WHERE, appended.base_offset + 3)
    assert await engine.trim(WHERE, appended.base_offset + 2) == appended.base_offset + 2
    engine.hold(WHERE, "queue", None)
    assert await engine.trim(WHERE, appended.base_offset + 3) == appended.base_offset + 3


async def test_a_later_writer_fences_an_earlier_one_and_everyone_else(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    first = await engine.writer(WHERE)
    await first.append(numbered(1), durable=False)
    await first.flushed()
    second = await engine.writer(WHERE)
    with pytest.raises(WriterFenced):
        await first.append(numbered(1))
    with pytest.raises(WriterFenced):
        await engine.append(WHERE, numbered(1))
    await second.append(numbered(1, 1))
    assert values(await everything(engine)) == [b"0", b"1"]


async def test_topics_are_created_once_listed_by_name_and_found_by_id(engine: Engine) -> None:
    made = await engine.create_topic("b", 2, {"retention_ms": -1}, owner="queue:b")
    await engine.create_topic("a", 1, {})
    assert [info.name for info in engine.topics()] == ["a", "b"]
    assert engine.topic("b") == made == engine.topic_by_id(made.id)
    assert (made.partitions, made.config.retention_ms, made.overrides, made.owner) == (
        2,
        -1,
        {"retention_ms": -1},
        "queue:b",
    )
    with pytest.raises(TopicAlreadyExists):
        await engine.create_topic("b", 1, {})


async def test_bad_topics_are_refused_and_leave_nothing(engine: Engine) -> None:
    with pytest.raises(InvalidPartitions):
        await engine.create_topic("a", 0, {})
    with pytest.raises(InvalidConfig):
        await engine.create_topic("a", 1, {"no_such_setting": 1})
    assert engine.topics() == []
    for call in (engine.delete_topic("a"), engine.configure_topic("a", {}), engine.grow_topic("a", 2)):
        with pytest.raises(UnknownTopicOrPartition):
            await call
    with pytest.raises(UnknownTopicOrPartition):
        engine.topic("a")


async def test_settings_are_changed_and_taken_back(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {"retention_ms": 5, "segment_ms": 7})
    changed = await engine.configure_topic("orders", {"retention_ms": 6, "segment_ms": None})
    assert changed.overrides == {"retention_ms": 6}
    assert changed == engine.topic("orders")
    with pytest.raises(InvalidConfig):
        await engine.configure_topic("orders", {"retention_ms": -2})
    assert engine.topic("orders").overrides == {"retention_ms": 6}


async def test_a_topic_grows_and_never_shrinks(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    with pytest.raises(UnknownTopicOrPartition):
        await engine.append(TopicPartition("orders", 1), numbered(1))
    assert (await engine.grow_topic("orders", 3)).partitions == 3
    await engine.append(TopicPartition("orders", 2), numbered(1))
    with pytest.raises(InvalidPartitions):
        await engine.grow_topic("orders", 2)


async def test_a_topic_made_again_is_another_topic(engine: Engine) -> None:
    first = await engine.create_topic("orders", 1, {})
    await engine.append(WHERE, numbered(3))
    await engine.delete_topic("orders")
    second = await engine.create_topic("orders", 1, {})
    assert first.id != second.id
    assert await everything(engine) == []
    with pytest.raises(UnknownTopicOrPartition):
        engine.topic_by_id(first.id)


async def test_producer_ids_are_given_out_once(engine: Engine) -> None:
    given = [await engine.allocate_producer_id() for _ in range(1500)]
    assert len(set(given)) == 1500


async def test_a_definition_comes_and_goes_with_its_topics(engine: Engine) -> None:
    await engine.create_topic("orders", 2, {})
    spec = TopicSpec("__queue", 1, {"retention_ms": -1})
    await engine.define("queue:orders", {"max_size": 5}, create=[spec], adopt=["orders"])
    assert engine.definitions() == {"queue:orders": {"max_size": 5}}
    assert [engine.topic(name).owner for name in ("orders", "__queue")] == ["queue:orders"] * 2
    assert await engine.append(TopicPartition("__queue", 0), numbered(1))
    await engine.define("queue:orders", {"max_size": 6})
    assert engine.definitions()["queue:orders"] == {"max_size": 6}
    await engine.define("queue:orders", None, delete=["__queue"])
    assert engine.definitions() == {}
    assert [(info.name, info.owner) for info in engine.topics()] == [("orders", None)]


async def test_a_definition_whose_topics_cannot_be_had_changes_nothing(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    with pytest.raises(TopicAlreadyExists):
        await engine.define("queue:orders", {}, create=[TopicSpec("new", 1, {}), TopicSpec("orders", 1, {})])
    with pytest.raises(UnknownTopicOrPartition):
        await engine.define("queue:orders", {}, adopt=["missing"])
    assert engine.definitions() == {}
    assert [(info.name, info.owner) for info in engine.topics()] == [("orders", None)]


@pytest.mark.parametrize("durability", ["fsync", "interval", "os"])
async def test_what_was_read_can_be_made_durable_whatever_the_durability(engine: Engine, durability: str) -> None:
    await engine.create_topic("orders", 1, {"durability": durability})
    appended = await engine.append(WHERE, numbered(3))
    await engine.flushed(WHERE, appended.next_offset)
    await engine.flushed(WHERE, appended.next_offset)
