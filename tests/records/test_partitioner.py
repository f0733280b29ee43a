"""The partition of a key: the vectors of Kafka's Java client, and the hash of kafka-python on any key."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.records.partitioner import murmur2, partition_for_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.partitioner.default import murmur2 as unsigned_murmur2


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_vectors_of_the_java_client(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected


@given(st.binary(max_size=100))
def test_murmur2_agrees_with_kafka_python(key: bytes) -> None:
    assert murmur2(key) & 0xFFFFFFFF == unsigned_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "partitions"),
    [
        ("foobar", {1: 0, 7: 0, 12: 6, 1000: 166}),
        ("21", {1: 0, 7: 3, 12: 0, 1000: 340}),
        ("abc", {1: 0, 7: 4, 12: 3, 1000: 107}),
        ("", {1: 0, 7: 2, 12: 9, 1000: 681}),
        ("order-4711", {1: 0, 7: 1, 12: 7, 1000: 611}),
        ("ключ", {1: 0, 7: 4, 12: 8, 1000: 24}),
    ],
)
def test_a_key_goes_where_kafka_clients_4_1_puts_it(key: str, partitions: dict[int, int]) -> None:
    assert {count: partition_for_key(key.encode(), count) for count in partitions} == partitions


@given(st.binary(max_size=40), st.integers(1, 1_000))
def test_the_partition_exists(key: bytes, partitions: int) -> None:
    assert 0 <= partition_for_key(key, partitions) < partitions
