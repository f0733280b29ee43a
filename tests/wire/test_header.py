"""Request and response headers against kafka-python."""

import pytest

from logbroker.errors import InvalidRequest
from logbroker.wire.apis import Api
from logbroker.wire.header import read_request_header, response_frame
from tests.wire.peers import COLD_VERSIONS, ids, kafka_python_class


@pytest.mark.parametrize(("api", "version"), COLD_VERSIONS, ids=ids)
def test_a_header_by_kafka_python_is_read_and_the_body_follows(api: Api, version: int) -> None:
    message = kafka_python_class(f"{api.message_name}Request")(version=version)
    for client_id in ("a client", "", None, "漢"):
        message.with_header(correlation_id=-7, client_id=client_id)
        frame = bytes(message.encode_header(flexible=message.flexible_version_q(version))) + b"body"
        header, body = read_request_header(memoryview(frame))
        assert header.is_served
        assert (tuple(header), bytes(body)) == ((api, api.key, version, -7, client_id), b"body")


def test_tagged_fields_of_a_header_are_passed_over() -> None:
    frame = b"\x00\x03\x00\x09\x00\x00\x00\x01\x00\x01a" + b"\x01\x05\x02zz" + b"body"
    header, body = read_request_header(memoryview(frame))
    assert (header.api, header.client_id, bytes(body)) == (Api.METADATA, "a", b"body")


def test_the_header_of_a_version_from_the_future_is_read() -> None:
    header, _ = read_request_header(memoryview(b"\x00\x12\x00\x63\x00\x00\x00\x01\xff\xff\xff\xff"))
    assert (header.api, header.api_version, header.correlation_id, header.is_served) == (Api.API_VERSIONS, 99, 1, False)


def test_an_unknown_api_is_told_by_its_key() -> None:
    header, _ = read_request_header(memoryview(b"\x7f\xff\x00\x00\x00\x00\x00\x01\xff\xff"))
    assert (header.api, header.api_key, header.is_served) == (None, 32767, False)


def test_a_header_cut_short_anywhere_is_refused() -> None:
    frame = memoryview(b"\x00\x03\x00\x09\x00\x00\x00\x01\x00\x01a\x01\x05\x02zz")
    read_request_header(frame)
    for cut in range(len(frame)):
        with pytest.raises(InvalidRequest):
            read_request_header(frame[:cut])


def test_a_response_frame_puts_size_and_header_in_front_and_copies_the_first_piece_only() -> None:
    large = memoryview(bytes(100_000))
    pieces = response_frame(5, 1, [b"head", large, b"tail"])
    assert pieces[0] == (4 + 1 + 4 + 100_000 + 4).to_bytes(4, "big") + b"\x00\x00\x00\x05\x00head"
    assert pieces[1] is large
    assert response_frame(-1, 0, [bytearray(b"b")]) == [b"\x00\x00\x00\x05\xff\xff\xff\xffb"]
    assert response_frame(-1, 0, []) == [b"\x00\x00\x00\x04\xff\xff\xff\xff"]
