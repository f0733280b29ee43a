"""Producing as every door shares it."""

from collections import Counter

import pytest

from logbroker.broker.produce import LARGE_RECORD_BYTES, Produced, Terms, large_records
from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig
from logbroker.errors import DiskFull, InvalidRequest, LogbrokerError, MessageTooLarge, StorageError
from logbroker.model import ProducerStamp, Record, TopicPartition
from tests.engine.fake import FakeEngine

pytestmark = pytest.mark.asyncio


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(ManualClock(), gap=3)


@pytest.fixture
def services(engine: FakeEngine) -> Services:
    return services_on(engine, ManualClock(), BrokerConfig(), "cluster")


async def test_the_records_of_a_partition_are_one_append(engine: FakeEngine, services: Services) -> None:
    await services.topics.create("t", 2, {})
    await services.produce.produce("t", [Record(b"%d" % number) for number in range(6)], [0, 1] * 3)
    assert Counter(engine.appends) == {(TopicPartition("t", 0), 3): 1, (TopicPartition("t", 1), 3): 1}


async def test_topics_take_turns_on_their_own(services: Services) -> None:
    used: dict[str, list[int]] = {"a": [], "b": []}
    for name in used:
        await services.topics.create(name, 2, {})
    for _ in range(4):
        for name, partitions in used.items():
            [outcome] = await services.produce.produce(name, [Record(b"x")])
            assert isinstance(outcome, Produced)
            partitions.append(outcome.partition)
    assert used == {"a": [0, 1, 0, 1], "b": [0, 1, 0, 1]}


async def test_with_each_good_records_are_written_and_bad_ones_answer_why(services: Services) -> None:
    await services.topics.create("t", 2, {"max_message_bytes": 500})
    records = [Record(b"a"), Record(b"x" * 900), Record(b"b"), Record(b"c")]
    outcomes = await services.produce.produce("t", records, [0, 0, 7, 0], Terms(each=True))
    assert [getattr(one, "code", "ok") for one in outcomes] == [
        "ok",
        "MESSAGE_TOO_LARGE",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "ok",
    ]
    assert isinstance(outcomes[0], Produced)
    assert isinstance(outcomes[3], Produced)
    assert outcomes[3].offset == outcomes[0].offset + 1


async def test_when_every_record_is_bad_nothing_is_appended(engine: FakeEngine, services: Services) -> None:
    await services.topics.create("t", 1, {"max_message_bytes": 500})
    outcomes = await services.produce.produce("t", [Record(b"x" * 900)], None, Terms(each=True))
    assert [type(one) for one in outcomes] == [MessageTooLarge]
    assert await services.produce.produce("t", [], None, Terms(each=True)) == []
    assert engine.appends == []


async def test_what_follows_a_failed_batch_fails_with_it_other_partitions_do_not(
    engine: FakeEngine, services: Services
) -> None:
    await services.topics.create("t", 2, {"max_message_bytes": 500})
    engine.fail_next_append(DiskFull("no space"), TopicPartition("t", 0))
    records = [Record(b"x" * 200) for _ in range(6)]
    outcomes = await services.produce.produce("t", records, [0, 0, 0, 0, 1, 1])
    assert [isinstance(one, LogbrokerError) for one in outcomes] == [True] * 4 + [False] * 2
    assert all(where.partition == 1 for where, _ in engine.appends)


async def test_in_the_middle_only_the_rest_of_the_partition_fails(engine: FakeEngine, services: Services) -> None:
    await services.topics.create("t", 1, {"max_message_bytes": 500})
    append = engine.append

    async def second_fails(*given: object, **named: object) -> object:
        if len(engine.appends) == 1:
            engine.fail_next_append(StorageError("broken"))
        return await append(*given, **named)  # type: ignore[arg-type]  # passed on as it came

    engine.append = second_fails  # type: ignore[method-assign,assignment]  # the failure is put between two appends
    outcomes = await services.produce.produce("t", [Record(b"%d" % number * 150) for number in range(6)])
    assert [isinstance(one, Produced) for one in outcomes] == [True, True, False, False, False, False]


async def test_an_idempotent_batch_is_one_append_of_one_partition(engine: FakeEngine, services: Services) -> None:
    await services.topics.create("t", 2, {})
    stamp = Terms(producer=ProducerStamp(5, 0, 0))
    with pytest.raises(InvalidRequest):
        await services.produce.produce("t", [Record(b"a"), Record(b"b")], [0, 1], stamp)
    assert engine.appends == []
    first = await services.produce.produce("t", [Record(b"a"), Record(b"b")], [1, 1], stamp)
    assert await services.produce.produce("t", [Record(b"a"), Record(b"b")], [1, 1], stamp) == first


async def test_records_without_a_time_are_stamped_with_the_present(services: Services) -> None:
    await services.topics.create("t", 1, {})
    outcomes = await services.produce.produce("t", [Record(b"a"), Record(b"b", timestamp_ms=5)])
    assert [one.timestamp_ms for one in outcomes if isinstance(one, Produced)] == [services.clock.now().wall_ms, 5]


async def test_records_that_a_claim_check_would_serve_better_are_counted(services: Services) -> None:
    await services.topics.create("t", 1, {})
    await services.produce.produce("t", [Record(b"x" * LARGE_RECORD_BYTES), Record(b"x" * 1_000)])
    assert large_records(services.metrics).values == {("t",): 1}
