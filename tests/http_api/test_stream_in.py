"""Producing as NDJSON: a report for every line, while the stream is open."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from logbroker.errors import DiskFull, MessageTooLarge
from logbroker.http_api.stream_in import Lines
from tests.engine.fake import FakeEngine
from tests.http_api.conftest import CONFIG, Door

RECORDS = "/v1/topics/orders/records"
NDJSON = {"Content-Type": "application/x-ndjson"}


def lines_of(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.mark.asyncio
async def test_every_line_gets_its_report_in_order(door: Door) -> None:
    await door.topic(partitions=2)
    body = lines_of({"value": "a", "partition": 0}, {"value_json": {"x": 1}, "partition": 1}) + b"\n \n"
    answer = await door("POST", RECORDS, body + b'{"value":"last","partition":0}', headers=NDJSON)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [(line["index"], line["partition"]) for line in answer.lines] == [(0, 0), (1, 1), (2, 0)]
    assert await door.values(0) == ["a", "last"]


@pytest.mark.asyncio
async def test_a_bad_line_answers_its_error_and_stops_nothing(door: Door) -> None:
    await door.topic(max_message_bytes=500)
    body = (
        lines_of({"value": "a"}, {"value": 3}, {"value": "b", "partition": 9}, {"value": "x" * 600})
        + b"{broken\n"
        + lines_of({}, {"value": "c"})
    )
    answer = await door("POST", RECORDS, body, headers=NDJSON)
    assert [line["index"] for line in answer.lines] == list(range(7))
    codes = [line.get("error", {}).get("code") for line in answer.lines]
    assert codes == [
        None,
        "INVALID_REQUEST",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "MESSAGE_TOO_LARGE",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        None,
    ]
    assert await door.values() == ["a", "c"]


@pytest.mark.asyncio
async def test_reports_come_while_the_stream_is_open(door: Door) -> None:
    await door.topic()
    to_send: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while (chunk := await to_send.get()) is not None:
            yield chunk

    to_send.put_nowait(b'{"value":')
    to_send.put_nowait(b'"first"}\n')
    async with door.session.post(door.url + RECORDS, data=body(), headers=NDJSON) as response:
        first = json.loads(await asyncio.wait_for(response.content.readline(), 5))
        assert first["index"] == 0
        assert await door.values() == ["first"]
        to_send.put_nowait(b'{"value":"second"}\n')
        assert json.loads(await asyncio.wait_for(response.content.readline(), 5))["index"] == 1
        to_send.put_nowait(None)
        assert await asyncio.wait_for(response.read(), 5) == b""


@pytest.mark.asyncio
async def test_a_stream_may_be_far_longer_than_a_request_body(door: Door) -> None:
    await door.topic()
    count = 2_000
    body = lines_of(*({"value": f"{number:0200}"} for number in range(count)))
    assert len(body) > CONFIG.max_request_bytes
    answer = await door("POST", RECORDS, body, headers=NDJSON)
    assert [line["index"] for line in answer.lines] == list(range(count))
    offsets = [line["offset"] for line in answer.lines]
    assert sorted(set(offsets)) == offsets


@pytest.mark.asyncio
async def test_a_line_without_end_is_refused_before_it_fills_the_memory(door: Door) -> None:
    await door.topic()
    body = b'{"value":"' + b"x" * (2 * CONFIG.max_request_bytes)
    answer = await door("POST", RECORDS, lines_of({"value": "a"}) + body, headers=NDJSON)
    assert [line.get("error", {}).get("code") for line in answer.lines] == [None, "MESSAGE_TOO_LARGE"]
    assert await door.values() == ["a"]


@pytest.mark.asyncio
async def test_what_a_client_sent_before_it_broke_off_is_written(door: Door) -> None:
    await door.topic()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"value":"whole"}\n{"value":"ha'
        await asyncio.Event().wait()

    async with aiohttp.ClientSession() as other:
        request = asyncio.create_task(other.post(door.url + RECORDS, data=body(), headers=NDJSON))
        assert await door.values(query="?wait_ms=5000") == ["whole"]
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    assert await door.values() == ["whole"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_a_failed_append_is_reported_for_its_lines_and_the_stream_goes_on(door: Door, engine: FakeEngine) -> None:
    await door.topic()
    engine.fail_next_append(DiskFull("no space"))
    to_send: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while (chunk := await to_send.get()) is not None:
            yield chunk

    to_send.put_nowait(lines_of({"value": "a"}))
    async with door.session.post(door.url + RECORDS, data=body(), headers=NDJSON) as response:
        report = json.loads(await response.content.readline())
        assert report["error"]["code"] == "DISK_FULL"
        to_send.put_nowait(lines_of({"value": "b"}))
        to_send.put_nowait(None)
        assert json.loads(await response.content.readline())["index"] == 1
    assert await door.values() == ["b"]


@pytest.mark.asyncio
async def test_a_stream_to_an_unknown_topic_is_404_before_anything_is_read(door: Door) -> None:
    answer = await door("POST", "/v1/topics/nix/records", lines_of({"value": "a"}), headers=NDJSON)
    assert answer.failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_however_the_stream_is_cut(size: int) -> None:
    data = b"one\n\n two \nthree\r\n\nfour"
    lines = Lines(100)
    found = []
    for begin in range(0, len(data), size):
        found += lines.feed(data[begin : begin + size])
    assert found + lines.end() == [b"one", b" two ", b"three\r", b"four"]


def test_a_line_longer_than_the_limit_is_refused_while_it_comes() -> None:
    lines = Lines(10)
    assert lines.feed(b"x" * 10) == []
    lines.check()
    assert lines.feed(b"\n" + b"y" * 11) == [b"x" * 10]
    with pytest.raises(MessageTooLarge):
        lines.check()
