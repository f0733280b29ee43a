"""The broker about itself: liveness, readiness, facts, metrics."""

import asyncio
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from logbroker.clock import ManualClock
from logbroker.http_api.server import HttpServer
from tests.http_api.conftest import Door

pytestmark = pytest.mark.asyncio


async def test_the_broker_is_ready_until_a_check_says_otherwise(door: Door) -> None:
    assert (await door("GET", "/livez")).json == {"status": "ok"}
    assert (await door("GET", "/readyz")).json["ready"] is True
    door.services.lifecycle.report("recovery", False, "3 of 9 partitions")
    answer = await door("GET", "/readyz")
    assert (answer.status, answer.json["ready"], answer.headers["Retry-After"]) == (503, False, "1")
    assert {"name": "recovery", "ok": False, "detail": "3 of 9 partitions"} in answer.json["checks"]
    door.services.lifecycle.report("recovery", True)
    assert (await door("GET", "/readyz")).status == 200
    door.services.lifecycle.closing.set()
    assert (await door("GET", "/readyz")).status == 503
    assert (await door("GET", "/livez")).status == 200


async def test_info_tells_version_listeners_and_limits(door: Door, clock: ManualClock) -> None:
    clock.advance(1_500)
    info = (await door("GET", "/v1/info")).json
    assert info["listeners"] == {"http": door.url}
    assert info["uptime_ms"] == 1_500
    assert info["cluster_id"] == "cluster"
    assert info["limits"]["max_request_bytes"] == 256 * 1024


async def test_metrics_count_requests_and_topics(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "a"}, {"value": "b"})
    await door("GET", "/v1/topics/nix")
    answer = await door("GET", "/metrics")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert samples["logbroker_ready", ()] == 1
    assert samples["logbroker_topic_records_in_total", (("topic", "orders"),)] == 2
    assert samples["logbroker_topic_high_watermark", (("topic", "orders"),)] >= 2
    failed = (("api", "get_topic"), ("code", "404"), ("protocol", "http"))
    assert samples["logbroker_requests_total", failed] == 1
    produced = (("api", "produce"), ("le", "+Inf"), ("protocol", "http"))
    assert samples["logbroker_request_duration_seconds_bucket", produced] == 1
    assert samples["logbroker_connections", (("protocol", "http"),)] == 1


async def test_a_server_that_cannot_have_its_address_says_so_and_leaves_nothing_open(door: Door) -> None:
    second = HttpServer(door.services)
    with pytest.raises(OSError):
        await second.start("127.0.0.1", int(door.url.rpartition(":")[2]))
    await second.stop()


async def test_what_is_not_http_is_one_quiet_line_in_the_log(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "logbroker")
    for noise in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]))
        writer.write(noise + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.") and b" 400 " in answer
        assert b"Traceback" not in answer
    assert not any(record.exc_info for record in caplog.records)
