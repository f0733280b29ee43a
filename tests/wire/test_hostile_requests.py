"""Requests made to cost time or memory. The limits are wide: what is refused here would else take minutes or gigabytes."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable

import pytest

from logbroker.errors import InvalidRequest
from logbroker.wire import fetch, produce, schema
from logbroker.wire.apis import Api
from logbroker.wire.primitives import MAX_ELEMENTS, uvarint

Decode = Callable[[memoryview], object]

FRAME_BYTES = 4 * 1024 * 1024

decoders = pytest.mark.parametrize(
    "decode",
    [
        pytest.param(lambda body: schema.decode_request(Api.METADATA, 12, body), id="metadata"),
        pytest.param(lambda body: produce.decode_request(9, body), id="produce"),
        pytest.param(lambda body: fetch.decode_request(16, body), id="fetch"),
    ],
)


def refuse_cheaply(decode: Decode, body: bytes) -> None:
    view = memoryview(body)
    start = time.process_time()
    with pytest.raises(InvalidRequest):
        decode(view)
    assert time.process_time() - start < 2
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            decode(view)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


@decoders
def test_a_varint_without_end(decode: Decode) -> None:
    refuse_cheaply(decode, b"\xff" * FRAME_BYTES)


@decoders
@pytest.mark.parametrize("filler", [b"\x00", b"\x01", b"\x02", b"\x7f"])
def test_one_byte_over_and_over(decode: Decode, filler: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(InvalidRequest):
        decode(memoryview(filler * FRAME_BYTES))
    assert time.process_time() - start < 2


def test_an_array_of_more_elements_than_the_request_has_bytes() -> None:
    refuse_cheaply(lambda body: schema.decode_request(Api.METADATA, 1, body), b"\x7f\xff\xff\xff" + b"\x00\x01a")
    refuse_cheaply(lambda body: schema.decode_request(Api.METADATA, 9, body), uvarint(2**31 - 1) + b"\x02a\x00")


def test_an_array_of_more_elements_than_one_request_may_have() -> None:
    topic = b"\x02a\x00"
    most = uvarint(MAX_ELEMENTS + 1) + topic * MAX_ELEMENTS + b"\x01\x00\x00\x00"
    assert len(schema.decode_request(Api.METADATA, 9, memoryview(most)).topics) == MAX_ELEMENTS
    refuse_cheaply(
        lambda body: schema.decode_request(Api.METADATA, 9, body), uvarint(MAX_ELEMENTS + 2) + topic * (MAX_ELEMENTS + 1)
    )


def test_elements_are_counted_over_all_arrays_of_a_request() -> None:
    topic = b"\x02a" + uvarint(1001) + b"\x00\x00\x00\x01\x01\x00" * 1000 + b"\x00"
    body = b"\x00" + b"\x00\x01\x00\x00\x00\x00" + uvarint(102) + topic * 101 + b"\x00"
    with pytest.raises(InvalidRequest, match="split it"):
        produce.decode_request(9, memoryview(body))


def test_a_flood_of_tagged_fields() -> None:
    count = FRAME_BYTES // 3
    refuse_cheaply(
        lambda body: schema.decode_request(Api.METADATA, 9, body),
        b"\x00\x00\x00\x00" + uvarint(count) + b"\x7f\x01x" * count,
    )


def test_tagged_fields_on_every_element_cost_no_more_than_their_bytes() -> None:
    topics = 50_000
    body = uvarint(topics + 1) + b"\x02a\x01\x7f\x01x" * topics + b"\x01\x00\x00\x00"
    start = time.process_time()
    schema.decode_request(Api.METADATA, 9, memoryview(body))
    assert time.process_time() - start < 2
