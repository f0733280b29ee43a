"""The cold APIs against kafka-python and kio, in every version that is advertised."""

import subprocess
import sys
from random import Random

import pytest

from logbroker.errors import InvalidRequest
from logbroker.wire import schema
from logbroker.wire.apis import Api
from logbroker.wire.encoder import Numbered
from tests.wire.peers import (
    COLD_VERSIONS,
    ids,
    kafka_python_decode,
    kafka_python_encode,
    kio_decode,
    plain,
    sample,
)

every_version = pytest.mark.parametrize(("api", "version"), COLD_VERSIONS, ids=ids)


@every_version
def test_a_request_by_kafka_python_is_decoded_to_the_same_values(api: Api, version: int) -> None:
    name = f"{api.message_name}Request"
    for seed in range(12):
        values = sample(name, version, Random(seed))
        body = kafka_python_encode(name, version, values)
        decoded = schema.decode_request(api, version, memoryview(body))
        assert plain(decoded, name, version) == plain(values, name, version)


@every_version
def test_a_response_is_read_by_kafka_python_to_the_same_values(api: Api, version: int) -> None:
    name = f"{api.message_name}Response"
    for seed in range(12):
        values = sample(name, version, Random(seed))
        if api is Api.API_VERSIONS:
            values["error_code"] = 0  # kafka-python takes any other for a v0 body
        body = bytes(schema.encode_response(api, version, **values))
        assert kafka_python_decode(name, version, body) == plain(values, name, version)


@every_version
def test_kio_agrees_on_every_layout(api: Api, version: int) -> None:
    for seed in range(3):
        random = Random(seed)
        request = sample(f"{api.message_name}Request", version, random)
        response = sample(f"{api.message_name}Response", version, random)
        request_body = kafka_python_encode(f"{api.message_name}Request", version, request)
        response_body = bytes(schema.encode_response(api, version, **response))
        ours = plain(schema.decode_request(api, version, memoryview(request_body)), f"{api.message_name}Request", version)
        assert kio_decode(api, "Request", version, request_body) == (ours, len(request_body))
        assert kio_decode(api, "Response", version, response_body) == (
            plain(response, f"{api.message_name}Response", version),
            len(response_body),
        )


@every_version
def test_a_request_cut_short_anywhere_is_refused(api: Api, version: int) -> None:
    name = f"{api.message_name}Request"
    for seed in range(3):
        body = memoryview(kafka_python_encode(name, version, sample(name, version, Random(seed))))
        schema.decode_request(api, version, body)
        for cut in range(len(body)):
            with pytest.raises(InvalidRequest):
                schema.decode_request(api, version, body[:cut])


@every_version
def test_a_damaged_request_is_decoded_or_refused_and_nothing_else(api: Api, version: int) -> None:
    name = f"{api.message_name}Request"
    random = Random(version)
    for seed in range(4):
        body = kafka_python_encode(name, version, sample(name, version, Random(seed)))
        for _ in range(60):
            damaged = bytearray(body)
            for _ in range(random.choice((1, 1, 2, 8))):
                place = random.randrange(len(damaged) + 1)
                damage = random.choice(
                    (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x07", b"\xff", b"\x00", random.randbytes(1))
                )
                damaged[place : place + random.choice((0, len(damage)))] = damage
            try:
                schema.decode_request(api, version, memoryview(damaged))
            except InvalidRequest as error:
                assert api.message_name in error.detail


def test_fields_a_version_does_not_have_are_at_their_default() -> None:
    values = {"group_id": "g", "generation_id": 1, "member_id": "m"}
    body = memoryview(kafka_python_encode("HeartbeatRequest", 0, values))
    assert schema.decode_request(Api.HEARTBEAT, 0, body).group_instance_id is None
    body = memoryview(kafka_python_encode("MetadataRequest", 0, {"topics": ()}))
    assert schema.decode_request(Api.METADATA, 0, body).allow_auto_topic_creation is True


@pytest.mark.parametrize("version", range(14))
@pytest.mark.parametrize("length", [0, 1, 300])
def test_numbered_structs_are_encoded_as_if_they_were_written_out(version: int, length: int) -> None:
    partition = {"leader_id": 7, "leader_epoch": 3, "replica_nodes": (7, 8), "isr_nodes": (7,)}
    numbered = {"name": "t", "partitions": Numbered(length, "partition_index", partition)}
    written = {"name": "t", "partitions": [{**partition, "partition_index": number} for number in range(length)]}
    encoded = schema.encode_response(Api.METADATA, version, topics=[numbered])
    assert encoded == schema.encode_response(Api.METADATA, version, topics=[written])


def test_a_decoded_request_keeps_no_view_of_the_buffer() -> None:
    values = {"group_id": "g", "member_id": "m", "assignments": ({"member_id": "m", "assignment": b"plan"},)}
    buffer = bytearray(kafka_python_encode("SyncGroupRequest", 5, values))
    request = schema.decode_request(Api.SYNC_GROUP, 5, memoryview(buffer))
    buffer.clear()  # raises BufferError while a view exists
    assert request.assignments[0].assignment == b"plan"


def test_null_is_refused_where_the_version_has_no_null() -> None:
    body = memoryview(b"\xff\xff" + bytes(4) + b"\x00\x01m")
    with pytest.raises(InvalidRequest, match="Heartbeat v0: null where a string must stand"):
        schema.decode_request(Api.HEARTBEAT, 0, body)
    with pytest.raises(InvalidRequest, match="null where an array must stand"):
        schema.decode_request(Api.METADATA, 0, memoryview(b"\xff\xff\xff\xff"))
    assert schema.decode_request(Api.METADATA, 1, memoryview(b"\xff\xff\xff\xff")).topics is None


def test_a_string_cut_short_is_refused_rather_than_shortened() -> None:
    body = bytearray(
        kafka_python_encode("HeartbeatRequest", 0, {"group_id": "g", "generation_id": 1, "member_id": "member"})
    )
    assert body[-7] == 6
    body[-7] = 7
    with pytest.raises(InvalidRequest, match="7 bytes is longer than what is left"):
        schema.decode_request(Api.HEARTBEAT, 0, memoryview(body))


def test_unknown_tagged_fields_are_passed_over() -> None:
    plain_body = kafka_python_encode("HeartbeatRequest", 4, {"group_id": "g", "generation_id": 1, "member_id": "m"})
    tagged = memoryview(plain_body[:-1] + b"\x02\x07\x03abc\x63\x00")
    assert schema.decode_request(Api.HEARTBEAT, 4, tagged) == schema.decode_request(
        Api.HEARTBEAT, 4, memoryview(plain_body)
    )


def test_a_response_with_a_field_that_does_not_exist_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="HeartbeatResponse has no field eror_code"):
        schema.encode_response(Api.HEARTBEAT, 4, eror_code=0)
    with pytest.raises(TypeError, match="brokers has no field id"):
        schema.encode_response(Api.METADATA, 12, brokers=[{"id": 0}])


def test_what_a_response_leaves_out_is_at_its_default() -> None:
    body = bytes(schema.encode_response(Api.OFFSET_FETCH, 8, groups=[{"group_id": "g"}]))
    assert kafka_python_decode("OffsetFetchResponse", 8, body) == {
        "throttle_time_ms": 0,
        "groups": [{"group_id": "g", "topics": [], "error_code": 0}],
    }


def test_the_definitions_are_read_without_importing_the_client_they_come_with() -> None:
    program = (
        "import sys; from logbroker.wire import schema; from logbroker.wire.apis import Api; "
        "schema.encode_response(Api.METADATA, 12); sys.exit('kafka' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
