"""Hostile input: the right status and code each, nothing written, no traceback (the fixture watches the log)."""

import asyncio
import gzip
from typing import Any

import pytest

from tests.http_api.conftest import CONFIG, Door

pytestmark = pytest.mark.asyncio

JSON = {"Content-Type": "application/json"}
_POST = b"POST /v1/topics/orders/records HTTP/1.1\r\nHost: localhost\r\n"
BAD = (400, "INVALID_REQUEST")

BODIES = {
    "nothing": b"",
    "broken JSON": b'{"records":[{"value":"a"}',
    "not JSON": b"hello",
    "a byte order mark": b'\xef\xbb\xbf{"records":[]}',
    "not UTF-8": b'{"records":[{"value":"\xff"}]}',
    "not UTF-8 in raw JSON": b'{"records":[{"value":"good"},{"value_json":"\xff"}]}',
    "a lone surrogate": b'{"records":[{"value":"\\ud800"}]}',
    "NUL in a string": b'{"records":[{"value":"a\x00b"}]}',
    "an array": b"[]",
    "null": b"null",
    "a number": b"7",
    "records of another type": b'{"records":{}}',
    "a record of another type": b'{"records":["a"]}',
    "no records": b"{}",
    "a number for text": b'{"records":[{"value":1}]}',
    "text for a number": b'{"records":[{"value":"a","partition":"0"}]}',
    "a fraction": b'{"records":[{"value":"a","partition":0.5}]}',
    "true": b'{"records":[{"value":"a","partition":true}]}',
    "a huge number": b'{"records":[{"value":"a","timestamp_ms":' + b"9" * 400 + b"}]}",
    "a huge exponent": b'{"records":[{"value":"a","timestamp_ms":1e999}]}',
    "NaN": b'{"records":[{"value_json":NaN}]}',
    "deep nesting": b'{"records":[{"value_json":' + b"[" * 60_000 + b"]" * 60_000 + b"}]}",
    "deep nesting of objects": b'{"records":' * 10_000,
    "an unknown field": b'{"records":[{"value":"a","acks":0}]}',
    "an unknown field at the top": b'{"records":[],"acks":0}',
    "both value and value_b64": b'{"records":[{"value":"a","value_b64":"AA=="}]}',
    "no value at all": b'{"records":[{"key":"a"}]}',
    "bad base64": b'{"records":[{"value_b64":"%%%"}]}',
    "too many records": b'{"records":[' + b",".join([b'{"value":""}'] * 10_001) + b"]}",
    "a bad producer": b'{"records":[{"value":"a"}],"producer":{"id":-1,"epoch":0,"base_sequence":0}}',
    "a producer of huge epoch": b'{"records":[{"value":"a"}],"producer":{"id":1,"epoch":99999,"base_sequence":0}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_bad_body_is_refused_and_nothing_is_written(door: Door, body: bytes) -> None:
    await door.topic()
    assert (await door("POST", "/v1/topics/orders/records", body, headers=JSON)).failure == BAD
    assert await door.values() == []


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/topics/new"), ("PATCH", "/v1/topics/orders"), ("POST", "/v1/fetch"), ("POST", "/v1/topics/orders:trim")],
)
async def test_a_bad_body_is_refused_by_every_route(door: Door, method: str, path: str, body: bytes) -> None:
    await door.topic()
    answer = await door(method, path, body, headers=JSON)
    if body != b"{}" or method != "PATCH":
        assert answer.status in (201, 400), answer
        assert answer.status == 201 or answer.failure == BAD
    assert (await door("GET", "/v1/topics/orders")).json["config"] == {}


NAMES = {
    "..": (400, "INVALID_TOPIC"),
    ".": (400, "INVALID_TOPIC"),
    "%2e%2e": (400, "INVALID_TOPIC"),
    "%2E": (400, "INVALID_TOPIC"),
    "a%2Fb": (400, "INVALID_TOPIC"),
    "..%2F..%2Fetc%2Fpasswd": (400, "INVALID_TOPIC"),
    "a%5Cb": (400, "INVALID_TOPIC"),
    "a%00b": (400, "INVALID_TOPIC"),
    "a%0D%0Ab": (400, "INVALID_TOPIC"),
    "%20": (400, "INVALID_TOPIC"),
    "%FF%FE": (400, "INVALID_TOPIC"),
    "%C3%BC": (400, "INVALID_TOPIC"),
    "%E2%80%AE": (400, "INVALID_TOPIC"),
    "a%3Ab": (404, "NOT_FOUND"),
    "x" * 250: (400, "INVALID_TOPIC"),
    "a/b": (404, "NOT_FOUND"),
    "": (404, "NOT_FOUND"),
    "x.dlq": (403, "TOPIC_RESERVED"),
}


async def raw_request(door: Door, text: bytes) -> tuple[int, bytes]:
    """Send bytes as they are; the status and the answer."""
    host, _, port = door.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(text)
        answer = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize(("name", "failure"), NAMES.items())
async def test_a_bad_topic_name_is_refused_as_it_was_sent(door: Door, name: str, failure: tuple[int, str]) -> None:
    body = b'{"partitions":1}'
    request = (
        f"PUT /v1/topics/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    status, answer = await raw_request(door, request.encode() + body)
    assert (status, failure[1].encode() in answer) == (failure[0], True), answer
    assert (await door("GET", "/v1/topics?internal=true")).json["items"] == []


@pytest.mark.parametrize(
    ("path", "failure"),
    [
        ("/v1/topics/nix/partitions/0/records", (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ("/v1/topics/orders/partitions/1/records", (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ("/v1/topics/orders/partitions/2147483648/records", (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ("/v1/topics/orders/partitions/-1/records", BAD),
        ("/v1/topics/orders/partitions/x/records", BAD),
        ("/v1/topics/orders/partitions/%D9%A1/records", BAD),
        ("/v1/topics/orders/partitions/99999999999999999999999/records", BAD),
        ("/v1/topics/orders/partitions/0/records/99999999999999999999999", BAD),
        ("/v1/topics/orders/partitions/0/records/9223372036854775807", (416, "OFFSET_OUT_OF_RANGE")),
        ("/v1/topics/orders/partitions/0/records?offset=1.5", BAD),
        ("/v1/topics/orders/partitions/0/records?offset=%00", BAD),
        ("/v1/topics/orders/partitions/0/records?%FF=%FE", BAD),
        ("/v1/topics/orders/partitions/0/records?offset=5", (416, "OFFSET_OUT_OF_RANGE")),
        ("/docs/errors/NIX", (404, "NOT_FOUND")),
    ],
)
async def test_a_bad_place_is_refused(door: Door, path: str, failure: tuple[int, str]) -> None:
    await door.topic()
    assert (await door("GET", path)).failure == failure


async def test_a_body_over_the_limit_is_413_however_it_is_sent(door: Door) -> None:
    await door.topic()
    too_large = (413, "MESSAGE_TOO_LARGE")
    body = b'{"records":[{"value":"' + b"x" * CONFIG.max_request_bytes + b'"}]}'

    async def chunks() -> Any:
        for begin in range(0, len(body), 50_000):
            yield body[begin : begin + 50_000]

    declared = await door("POST", "/v1/topics/orders/records", body, headers=JSON)
    assert declared.failure == too_large
    async with door.session.post(door.url + "/v1/topics/orders/records", data=chunks(), headers=JSON) as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == too_large
    raw = await door("POST", "/v1/topics/orders/records", body, headers={"Content-Type": "text/plain"})
    assert raw.failure == too_large
    assert await door.values() == []


async def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(door: Door) -> None:
    await door.topic()
    announced = b"Content-Type: application/json\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n"
    host, _, port = door.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(_POST + announced)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_compressed_body_is_read_but_a_bomb_is_refused(door: Door) -> None:
    await door.topic()
    headers = {**JSON, "Content-Encoding": "gzip"}
    fine = gzip.compress(b'{"records":[{"value":"a"}]}')
    assert (await door("POST", "/v1/topics/orders/records", fine, headers=headers)).status == 200
    bomb = gzip.compress(b'{"records":[{"value":"' + b"x" * 50_000_000 + b'"}]}')
    assert (await door("POST", "/v1/topics/orders/records", bomb, headers=headers)).failure == (413, "MESSAGE_TOO_LARGE")
    broken = await door("POST", "/v1/topics/orders/records", b"not gzip", headers=headers)
    assert broken.status == 400
    assert await door.values() == ["a"]


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/x-ndjson"])
async def test_a_body_that_is_not_json_is_415_where_json_is_wanted(door: Door, media: str) -> None:
    await door.topic()
    unsupported = (415, "UNSUPPORTED_MEDIA_TYPE")
    for method, path in (
        ("PUT", "/v1/topics/x"),
        ("PATCH", "/v1/topics/orders"),
        ("POST", "/v1/fetch"),
        ("POST", "/v1/producers"),
        ("POST", "/v1/topics/orders:trim"),
        ("POST", "/v1/topics/orders/partitions/0/batches"),
    ):
        assert (await door(method, path, b"{}", headers={"Content-Type": media})).failure == unsupported


@pytest.mark.parametrize(
    "text",
    [
        _POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        _POST + b"Content-Length: +5\r\n\r\nhello",
        _POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nLogbroker-Header-x\x00y: a\r\n\r\n",
    ],
)
async def test_smuggled_and_oversized_framing_is_400_and_closes(door: Door, text: bytes) -> None:
    await door.topic()
    status, answer = await raw_request(door, text)
    assert status == 400
    assert b"Traceback" not in answer
    assert await door.values() == []


async def test_a_half_sent_body_writes_nothing(door: Door) -> None:
    await door.topic()
    host, _, port = door.url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(_POST + b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"records":[{"value":"a"}]}')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await door("GET", "/livez")).status == 200
    assert await door.values() == []
