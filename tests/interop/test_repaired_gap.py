"""Kafka's clients on a log in which a repair has skipped what was lost: they read on behind the gap."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from logbroker.cli.main import run
from tests.crash.broker import Broker
from tests.crash.clients import Client

RECORDS = 12
LOST = (0, 7, 8)


def read_from(consumer: Any, ck: Any, start: int) -> list[int]:
    """The offsets that a consumer gets from ``start`` on."""
    consumer.assign([ck.TopicPartition("t", 0, start)])
    found: list[int] = []
    end = time.monotonic() + 20
    while time.monotonic() < end and found[-1:] != [RECORDS - 1]:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.append(message.offset())
    return found


def test_librdkafka_goes_on_behind_a_gap_from_any_offset_in_it(tmp_path: Path) -> None:
    ck = pytest.importorskip("confluent_kafka")
    broker = Broker(tmp_path, kafka=True)
    broker.start()
    broker.wait_until_ready()
    with closing(Client(broker.port)) as client:
        client.call("PUT", "/v1/topics/t", {"partitions": 1})
        for number in range(RECORDS):
            client.call("POST", "/v1/topics/t/records", {"records": [{"value": f"record {number:02d}"}]})
    broker.stop()
    [log] = [one for one in (tmp_path / "data").glob("topics/*/0/*.log") if b"record 07" in one.read_bytes()]
    data = log.read_bytes()
    for number in LOST:
        data = data.replace(b"record %02d" % number, b"record !!")
    log.write_bytes(data)
    assert run(["segment", "repair", "--skip", "--execute", "--data-dir", str(tmp_path / "data")]) == 0
    broker.start()
    try:
        broker.wait_until_ready()
        settings = {"bootstrap.servers": f"127.0.0.1:{broker.kafka_port}", "group.id": "g", "auto.offset.reset": "error"}
        consumer = ck.Consumer(settings)
        try:
            for start in (0, *LOST, RECORDS - 1):
                expected = [offset for offset in range(start, RECORDS) if offset not in LOST]
                assert read_from(consumer, ck, start) == expected
        finally:
            consumer.close()
    finally:
        broker.stop()
