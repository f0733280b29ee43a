"""Rules about topics that every door shares."""

import asyncio

import pytest

from logbroker.broker.topics import Topics, check_topic_name, is_reserved
from logbroker.config import BrokerConfig
from logbroker.errors import InvalidPartitions, InvalidTopic, TopicAlreadyExists, TopicReserved
from tests.engine.fake import FakeEngine


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "x" * 249, "...", "a.retry.b", "retry", "dlq"])
def test_names_that_are_fine(name: str) -> None:
    check_topic_name(name)
    assert not is_reserved(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 250, "a b", "a/b", "ü", "a\n", "a\x00", "a:b", "١"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InvalidTopic):
        check_topic_name(name)


@pytest.mark.parametrize("name", ["a.retry", "a.dlq", ".dlq", "__x", "__"])
def test_reserved_names(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.asyncio
async def test_topics_made_at_the_same_time_share_the_room_there_is() -> None:
    topics = Topics(FakeEngine(), BrokerConfig(max_partitions=10))
    made = await asyncio.gather(*(topics.create(f"t{number}", 4, {}) for number in range(4)), return_exceptions=True)
    assert [isinstance(one, InvalidPartitions) for one in made] == [False, False, True, True]


@pytest.mark.asyncio
async def test_two_declarations_at_the_same_time_make_one_topic() -> None:
    topics = Topics(FakeEngine(), BrokerConfig())
    made = await asyncio.gather(*(topics.ensure("t", 2, {"retention_ms": 5}) for _ in range(3)))
    assert [created for _, created in made] == [True, False, False]


@pytest.mark.asyncio
async def test_a_topic_without_a_number_of_partitions_gets_the_brokers_default() -> None:
    topics = Topics(FakeEngine(), BrokerConfig(num_partitions=3))
    assert (await topics.create("t", None, {})).partitions == 3
    assert (await topics.ensure("t", None, {}))[1] is False


@pytest.mark.asyncio
async def test_check_new_raises_what_create_would_and_creates_nothing() -> None:
    topics = Topics(FakeEngine(), BrokerConfig(max_partitions=5))
    topics.check_new("t", 5, {})
    assert topics.list() == []
    await topics.create("t", 5, {})
    for name, kind in (("t", TopicAlreadyExists), ("u", InvalidPartitions), ("u.dlq", TopicReserved)):
        with pytest.raises(kind):
            topics.check_new(name, 1, {})
        with pytest.raises(kind):
            await topics.create(name, 1, {})
