"""Topics and records: the same calls give the same results and the same errors over every carrier."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from logbroker import AsyncClient, Snapshot
from logbroker.errors import (
    Closed,
    ConfigConflict,
    FilterInvalid,
    InvalidConfig,
    InvalidOffset,
    InvalidPartitions,
    InvalidRequest,
    InvalidTopic,
    LogbrokerError,
    MessageTooLarge,
    OffsetOutOfRange,
    TopicInUse,
    TopicReserved,
    UnknownTopicOrPartition,
)

pytestmark = pytest.mark.asyncio


class Order(msgspec.Struct):
    id: int
    item: str


async def test_a_topic_is_created_described_changed_listed_and_deleted(lb: AsyncClient) -> None:
    made = await lb.topics.create("orders", partitions=2, retention=timedelta(days=7), segment_bytes=1 << 20)
    assert (made.name, made.kind, made.partitions, made.records) == ("orders", "log", 2, 0)
    assert made.config == {"retention_ms": 604_800_000, "segment_bytes": 1 << 20}
    assert await lb.topics.get("orders") == made
    changed = await lb.topics.alter("orders", partitions=3, retention="1h30m", segment_bytes=None)
    assert (changed.partitions, changed.config) == (3, {"retention_ms": 5_400_000})
    await lb.topics.create("other")
    assert [one.name for one in await lb.topics.list()] == ["orders", "other"]
    assert [one.name for one in await lb.topics.list("ot")] == ["other"]
    await lb.topics.delete("orders")
    with pytest.raises(UnknownTopicOrPartition):
        await lb.topics.get("orders")


async def test_creating_a_topic_again_is_allowed_when_it_is_as_declared_or_may_be_any(lb: AsyncClient) -> None:
    first = await lb.topics.create("orders", partitions=2)
    assert await lb.topics.create("orders", partitions=2) == first
    with pytest.raises(ConfigConflict):
        await lb.topics.create("orders", partitions=3)
    assert await lb.topics.create("orders", partitions=3, if_not_exists=True) == first


async def test_what_is_wrong_with_a_topic_is_told_by_class(lb: AsyncClient) -> None:
    await lb.queues.create("emails")
    for kind, wrong in (
        (InvalidTopic, lb.topics.create("no/slash")),
        (TopicReserved, lb.topics.create("orders.dlq")),
        (InvalidPartitions, lb.topics.create("orders", partitions=1_000)),
        (InvalidRequest, lb.topics.create("orders", partitions=0)),
        (InvalidConfig, lb.topics.create("orders", colour="red")),
        (InvalidRequest, lb.topics.create("orders", retention="soon")),
        (UnknownTopicOrPartition, lb.topics.alter("missing", retention="1d")),
        (UnknownTopicOrPartition, lb.topics.delete("missing")),
        (TopicInUse, lb.topics.delete("emails")),
    ):
        with pytest.raises(LogbrokerError) as raised:
            await wrong
        assert type(raised.value) is kind, raised.value
    await lb.topics.delete("missing", missing_ok=True)


async def test_what_was_sent_is_read_as_it_was(lb: AsyncClient) -> None:
    await lb.topics.create("orders")
    async with lb.producer("orders") as producer:
        sent = [
            await producer.send(b"\xff\x00", key=b"\x80", headers=[("a", "1"), ("a", b"\xfe"), ("n", None)]),
            await producer.send("grüße", key="anna"),
            await producer.send({"id": 1}, headers={"type": "order"}),
            await producer.send(Order(2, "tea"), timestamp=datetime(2026, 1, 1, tzinfo=UTC)),
            await producer.send(None, key="gone"),
        ]
    assert [(one.topic, one.partition, one.offset) for one in sent] == [("orders", 0, at) for at in range(5)]
    raw, text, plain, struct, tombstone = [record async for record in lb.read("orders")]
    assert (raw.value, raw.key) == (b"\xff\x00", b"\x80")
    assert raw.headers.pairs == (("a", b"1"), ("a", b"\xfe"), ("n", None))
    assert (raw.headers["a"], raw.headers.get_all("a"), raw.headers.get("b", "none")) == ("\\xfe", ["1", "\\xfe"], "none")
    assert (text.text(), text.key, dict(text.headers)) == ("grüße", b"anna", {})
    assert plain.json() == {"id": 1}
    assert dict(plain.headers) == {"type": "order", "content-type": "application/json"}
    assert struct.json(Order) == Order(2, "tea")
    assert (struct.timestamp, struct.timestamp_ms) == (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000)
    assert (tombstone.value, tombstone.text()) == (None, "")
    with pytest.raises(InvalidRequest, match="no text"):
        raw.text()
    with pytest.raises(InvalidRequest, match="not the JSON"):
        text.json(Order)


async def test_a_value_that_json_cannot_say_is_refused_before_it_is_sent(lb: AsyncClient) -> None:
    await lb.topics.create("orders")
    async with lb.producer("orders") as producer:
        with pytest.raises(InvalidRequest, match="object"):
            await producer.send(object())
    assert [record async for record in lb.read("orders")] == []


async def test_reading_starts_at_an_offset_a_time_or_the_end_of_chosen_partitions(lb: AsyncClient) -> None:
    await lb.topics.create("orders", partitions=2)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    async with lb.producer("orders") as producer:
        for number in range(4):
            await producer.send(str(number), partition=0, timestamp=at + timedelta(seconds=number))
        await producer.send("other", partition=1, timestamp=at)

    async def values(**how: object) -> list[str]:
        return [record.text() async for record in lb.read("orders", **how)]  # type: ignore[arg-type]  # many kinds

    assert sorted(await values()) == ["0", "1", "2", "3", "other"]
    assert await values(partitions=[1]) == ["other"]
    assert await values(start=2, partitions=[0]) == ["2", "3"]
    assert await values(start={0: 3, 1: 1}) == ["3"]
    assert await values(start=at + timedelta(seconds=2)) == ["2", "3"]
    assert await values(start="latest") == []
    assert await values(filter="int(value) > 2 && partition == 0") == ["3"]
    with pytest.raises(FilterInvalid) as refused:
        await values(filter="nix")
    assert refused.value.fields["column"] == 1
    with pytest.raises(OffsetOutOfRange) as raised:
        await values(start={0: 9}, follow=True, partitions=[0])
    assert raised.value.fields["high_watermark"] == 4
    with pytest.raises(UnknownTopicOrPartition):
        await values(partitions=[2])


async def test_a_filter_leaves_out_what_is_not_wanted(lb: AsyncClient) -> None:
    await lb.topics.create("orders", partitions=2)
    async with lb.producer("orders") as producer:
        for number in range(6):
            producer.send_nowait({"n": number}, headers={"type": "order" if number % 2 else "note"}, partition=number % 2)
    wanted = [record.json() async for record in lb.read("orders", filter='headers.type == "order" && value.n > 1')]
    assert wanted == [{"n": 3}, {"n": 5}]
    with pytest.raises(FilterInvalid):
        async for _ in lb.read("orders", filter="headers.type ="):
            pass


async def test_a_reader_that_follows_gets_what_comes_later(lb: AsyncClient) -> None:
    await lb.topics.create("orders", partitions=2)
    following = lb.read("orders", follow=True)
    async with lb.producer("orders") as producer:
        for number in range(3):
            await producer.send(str(number), key=str(number))
            assert (await anext(following)).text() == str(number)
    await following.aclose()


async def test_records_that_are_refused_by_themselves_take_no_others_with_them(lb: AsyncClient) -> None:
    await lb.topics.create("orders", max_message_bytes=2_000)
    async with lb.producer("orders") as producer:
        acks = [producer.send_nowait(value) for value in (b"a", b"x" * 5_000, b"b")]
        with pytest.raises(MessageTooLarge):
            await producer.flush()
        assert [ack.exception() is None for ack in acks] == [True, False, True]
        await producer.flush()
    assert [record.value async for record in lb.read("orders")] == [b"a", b"b"]


async def test_a_batch_is_written_whole_in_one_partition_or_not_at_all(lb: AsyncClient) -> None:
    await lb.topics.create("orders", partitions=2)
    async with lb.producer("orders") as producer:
        async with producer.batch(partition=1) as batch:
            batch.add("a")
            batch.add("b", key="k")
        assert [(one.partition, one.offset) for one in batch.metadata] == [(1, 0), (1, 1)]
        with pytest.raises(InvalidRequest, match="atomic"):
            async with producer.batch() as batch:
                for key in "abcdef":
                    batch.add("c", key=key)
        with pytest.raises(ZeroDivisionError):
            async with producer.batch(partition=0) as batch:
                batch.add("d")
                raise ZeroDivisionError
    assert [record.text() async for record in lb.read("orders")] == ["a", "b"]


async def test_an_idempotent_producer_keeps_each_key_in_its_partition_and_order(lb: AsyncClient) -> None:
    await lb.topics.create("plain", partitions=3)
    await lb.topics.create("exact", partitions=3)
    for topic, idempotent in (("plain", False), ("exact", True)):
        async with lb.producer(topic, idempotent=idempotent) as producer:
            for number in range(30):
                producer.send_nowait(str(number), key=f"k{number % 5}")
            async with producer.batch() as batch:
                batch.add("whole", key="k1")
    plain, exact = [[(one.partition, one.key, one.value) async for one in lb.read(topic)] for topic in ("plain", "exact")]
    assert sorted(plain) == sorted(exact)
    for partition in range(3):
        assert [one for one in plain if one[0] == partition] == [one for one in exact if one[0] == partition]


async def test_a_producer_is_used_inside_its_context(lb: AsyncClient) -> None:
    await lb.topics.create("orders")
    producer = lb.producer("orders")
    with pytest.raises(Closed):
        await producer.send("early")
    async with producer:
        await producer.send("in time")
    with pytest.raises(Closed):
        await producer.send("late")


async def test_leaving_a_producer_writes_what_was_sent_and_raises_what_failed(lb: AsyncClient) -> None:
    await lb.topics.create("orders")
    async with lb.producer("orders", linger="1m") as producer:
        producer.send_nowait("a")
    assert [record.text() async for record in lb.read("orders")] == ["a"]
    with pytest.raises(UnknownTopicOrPartition):
        async with lb.producer("missing") as producer:
            producer.send_nowait("a")


async def test_a_place_that_is_none_of_the_topic_is_refused(lb: AsyncClient) -> None:
    await lb.topics.create("orders")
    with pytest.raises(InvalidOffset, match="subscription"):
        _ = [record async for record in lb.read("orders", start=Snapshot("before"))]
    with pytest.raises(UnknownTopicOrPartition, match="partition 1"):
        _ = [record async for record in lb.read("orders", start={0: 0, 1: 0})]
