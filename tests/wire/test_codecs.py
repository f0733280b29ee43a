"""The compilers on what definitions may hold and the served APIs do not use yet: tagged requests, null structs."""

from random import Random

import pytest

from logbroker.errors import InvalidRequest
from logbroker.wire.decoder import compile_decoder
from logbroker.wire.definitions import Definition, Field, VersionRange, load_definition
from logbroker.wire.encoder import compile_encoder
from logbroker.wire.primitives import MAX_ELEMENTS, uvarint
from tests.wire.peers import kafka_python_decode, kafka_python_encode, plain, sample

TAGGED_OR_NULL = [("FetchRequest", 16), ("DescribeTopicPartitionsRequest", 0), ("ListTransactionsRequest", 1)]
RESPONSES = [
    ("ApiVersionsResponse", 4),
    ("FetchResponse", 16),
    ("ProduceResponse", 12),
    ("DescribeTopicPartitionsResponse", 0),
]


@pytest.mark.parametrize(("name", "version"), TAGGED_OR_NULL)
def test_tagged_fields_and_null_structs_by_kafka_python_are_decoded(name: str, version: int) -> None:
    decode = compile_decoder(load_definition(name), version)
    for seed in range(30):
        values = sample(name, version, Random(seed))
        given = {field: value for field, value in values.items() if field != "replica_state" or value is not None}
        body = kafka_python_encode(name, version, given)
        assert plain(decode(memoryview(body)), name, version) == plain(values, name, version)
        for cut in range(len(body)):
            with pytest.raises(InvalidRequest):
                decode(memoryview(body)[:cut])


@pytest.mark.parametrize(("name", "version"), RESPONSES)
def test_tagged_fields_and_null_structs_are_read_by_kafka_python_and_by_ourselves(name: str, version: int) -> None:
    definition = load_definition(name)
    decode, encode = compile_decoder(definition, version), compile_encoder(definition, version)
    for seed in range(30):
        values = sample(name, version, Random(seed))
        if name == "ApiVersionsResponse":
            values["error_code"] = 0  # kafka-python takes any other for a v0 body
        body = bytes(encode(values))
        expected = plain(values, name, version)
        assert plain(decode(memoryview(body)), name, version) == expected
        assert kafka_python_decode(name, version, body) == expected


def test_a_tagged_field_must_be_as_long_as_its_size_says() -> None:
    decode = compile_decoder(load_definition("FetchRequest"), 16)
    body = kafka_python_encode("FetchRequest", 16, {"cluster_id": "abc", "topics": (), "forgotten_topics_data": ()})
    tag = b"\x01\x00\x04\x04abc"
    assert body.endswith(tag)
    assert decode(memoryview(body)).cluster_id == "abc"
    with pytest.raises(InvalidRequest, match="shorter than its size says"):
        decode(memoryview(body.replace(tag, b"\x01\x00\x05\x04abcd")))
    with pytest.raises(InvalidRequest):
        decode(memoryview(body.replace(tag, b"\x01\x00\x03\x04ab")))


def test_tagged_fields_count_against_what_a_request_may_have() -> None:
    decode = compile_decoder(load_definition("FetchRequest"), 16)
    body = kafka_python_encode("FetchRequest", 16, {"topics": (), "forgotten_topics_data": ()})
    flood = b"\x63\x00" * (MAX_ELEMENTS + 1)
    with pytest.raises(InvalidRequest, match="split it"):
        decode(memoryview(body[:-1] + uvarint(MAX_ELEMENTS + 1) + flood))
    decode(memoryview(body[:-1] + uvarint(MAX_ELEMENTS) + flood))


def test_tagged_fields_are_written_by_ascending_tag() -> None:
    every, none = VersionRange(0, 9), VersionRange(1, 0)
    fields = tuple(Field(f"f{tag}", "int8", False, every, none, every, tag, 0, ()) for tag in (2, 0, 1))
    encode = compile_encoder(Definition("Message", every, every, fields), 0)
    assert encode({"f2": 12, "f1": 11, "f0": 10}) == b"\x03\x00\x01\x0a\x01\x01\x0b\x02\x01\x0c"


def test_a_missing_definition_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"NoSuchRequest\.json"):
        load_definition("NoSuchRequest")
