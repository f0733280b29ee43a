"""Subscriptions and assignments as bytes, against kafka-python's codec and against hostile bytes."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.errors import InvalidRequest
from logbroker.groups.consumer_protocol import (
    Assignment,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
    subscribed_topics,
)
from logbroker.model import TopicPartition

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its importlib.resources.read_text
    from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

names = st.text(min_size=1, max_size=8)
partitions = st.lists(st.builds(TopicPartition, names, st.integers(0, 2**31 - 1)), max_size=8, unique=True)
user_data = st.none() | st.binary(max_size=8)
subscriptions = st.builds(
    Subscription,
    st.lists(names, max_size=4).map(tuple),
    partitions.map(lambda found: tuple(sorted(found))),
    st.integers(-1, 2**31 - 1),
    st.none() | names,
    user_data,
)


def by_kafka(subscription: Subscription, version: int) -> bytes:
    """The subscription as kafka-python writes it."""
    owned: dict[str, list[int]] = {}
    for topic, partition in subscription.owned:
        owned.setdefault(topic, []).append(partition)
    message = ConsumerProtocolSubscription(
        topics=list(subscription.topics),
        user_data=subscription.user_data,
        owned_partitions=[
            ConsumerProtocolSubscription.TopicPartition(topic=topic, partitions=numbers) for topic, numbers in owned.items()
        ],
        generation_id=subscription.generation,
        rack_id=subscription.rack,
    )
    encoded: bytes = message.encode(version=version)
    return encoded


@given(subscriptions)
def test_subscriptions_are_written_as_kafka_writes_them(subscription: Subscription) -> None:
    assert encode_subscription(subscription) == by_kafka(subscription, 3)


@given(subscriptions, st.integers(0, 3))
def test_every_version_is_read(subscription: Subscription, version: int) -> None:
    expected = Subscription(
        subscription.topics,
        subscription.owned if version >= 1 else (),
        subscription.generation if version >= 2 else -1,
        subscription.rack if version >= 3 else None,
        subscription.user_data,
    )
    assert decode_subscription(by_kafka(subscription, version)) == expected


@given(partitions, user_data)
def test_assignments_come_back_and_kafka_reads_them(found: list[TopicPartition], data: bytes | None) -> None:
    encoded = encode_assignment(Assignment(tuple(found), data))
    assert decode_assignment(encoded) == Assignment(tuple(sorted(found)), data)
    assert sorted(ConsumerProtocolAssignment.decode(encoded).partitions()) == sorted(found)


def test_a_version_above_ours_is_read_as_ours() -> None:
    encoded = bytearray(encode_subscription(Subscription(("orders",))) + b"more")
    encoded[:2] = (9).to_bytes(2, "big")
    assert decode_subscription(bytes(encoded)).topics == ("orders",)


def test_no_bytes_at_all_assign_nothing() -> None:
    assert decode_assignment(b"") == Assignment(())


@given(st.binary(max_size=64))
def test_hostile_bytes_are_refused_or_read_but_never_break(data: bytes) -> None:
    for decode in (decode_subscription, decode_assignment):
        try:
            decode(data)
        except InvalidRequest:
            continue


@given(subscriptions, st.data())
def test_a_cut_subscription_is_refused(subscription: Subscription, data: st.DataObject) -> None:
    encoded = encode_subscription(subscription)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(InvalidRequest):
        decode_subscription(encoded[:cut])
    assert subscribed_topics(encoded[:cut]) is None


def test_a_length_that_promises_too_much_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="elements"):
        decode_subscription(b"\x00\x00\x7f\xff\xff\xff")
