"""What ``logbroker txn`` prints and does."""

import json
from collections.abc import Iterator

import confluent_kafka as ck
import pytest

from tests.cli.conftest import CommandLine
from tests.crash.broker import Broker
from tools.bench.servers.process import HOST


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    started = Broker(tmp_path_factory.mktemp("transactions"), kafka=True)
    started.start()
    started.wait_until_ready()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def broker_url(broker: Broker) -> str:
    return f"http://{HOST}:{broker.port}"


def test_a_hung_transaction_is_found_and_aborted(broker: Broker, logbroker: CommandLine) -> None:
    assert logbroker("topic", "create", "orders").code == 0
    assert logbroker("txn", "ls").code == 0
    producer = ck.Producer({"bootstrap.servers": f"{HOST}:{broker.kafka_port}", "transactional.id": "app:1"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce("orders", b"hung")
    assert producer.flush(20) == 0
    listed = logbroker("txn", "ls", "app", "--state", "ongoing")
    assert listed.code == 0
    assert "app:1" in listed.out
    assert "Ongoing" in listed.out
    described = json.loads(logbroker("txn", "describe", "app:1", "-o", "json").out)
    assert described["partitions"] == [{"topic": "orders", "partition": 0}]
    aborted = json.loads(logbroker("txn", "abort", "app:1", "-o", "json").out)
    assert aborted["state"] == "CompleteAbort"
    assert logbroker("txn", "abort", "app:1").code != 0
    missing = logbroker("txn", "describe", "nobody")
    assert missing.code != 0
    assert "nobody" in missing.err
    with pytest.raises(ck.KafkaException):
        producer.commit_transaction(20)
