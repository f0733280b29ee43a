"""Transactions by Apache Kafka's Java client, its tools and Kafka Streams, against logbroker as a user starts it."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.dump import dump
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST, Server

pytestmark = [pytest.mark.interop, pytest.mark.slow]

JAVA = Path(__file__).with_name("java")
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog")
LINES = 500


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broker")


@pytest.fixture(scope="module")
def server(kafka_jars: str, data: Path) -> Iterator[Server]:
    with logbroker(data, kafka=True) as running:
        yield running
        output = running.output.read_text(encoding="utf-8")
    assert '"level": "error"' not in output, output
    assert "Traceback" not in output, output


@pytest.fixture
def address(server: Server) -> str:
    return f"{HOST}:{server.extra['kafka']}"


def java(classpath: str, name: str, *arguments: str) -> list[str]:
    """The command that runs a source file of ``java/``."""
    return ["java", "-Xmx256m", "-cp", classpath, str(JAVA / f"{name}.java"), *arguments]


def create(address: str, *names: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(name, 2, 1) for name in names]).values():
        future.result(30)


def test_the_java_client_commits_aborts_is_fenced_and_timed_out(
    kafka_jars: str, server: Server, address: str, data: Path
) -> None:
    create(address, "java")
    command = java(kafka_jars, "Transactions", address, "java", "java-group")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    told = dict(line.split(": ", 1) for line in ran.stdout.splitlines() if ": " in line)
    assert told["while open"] == "[] [a]"
    assert told["fenced"] == "ProducerFencedException"
    assert told["timed out"] in ("ProducerFencedException", "InvalidProducerEpochException")
    assert told["listed"] == "{hung=CompleteAbort, java=Ongoing}"
    assert told["described"] == "2"
    assert told["producers"] == "true"
    assert told["offsets"] == "3"
    assert told["read"] == "[a, b, c]"


def test_kafkas_dump_tool_reads_our_index_of_aborted_transactions(
    kafka_jars: str, server: Server, address: str, data: Path
) -> None:
    create(address, "dumped")
    producer = ck.Producer({"bootstrap.servers": address, "transactional.id": "dumped"})
    producer.init_transactions(30)
    for commit in (True, False, False, False):
        producer.begin_transaction()
        producer.produce("dumped", b"x", partition=0)
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    indexes = [path for path in data.rglob("*.txnindex") if path.stat().st_size == 3 * 34]
    assert len(indexes) == 1, list(data.rglob("*.txnindex"))
    seen = dump([indexes[0]])
    told = [line for line in seen.complaints if "firstOffset" in line or "producerId" in line]
    assert len(told) == 3, seen
    assert "firstOffset: 2 lastOffset: 3 lastStableOffset: 4" in told[0], told
    assert "firstOffset: 4 lastOffset: 5 lastStableOffset: 6" in told[1], told


def test_kafka_streams_counts_words_exactly_once(kafka_jars: str, address: str, tmp_path: Path) -> None:
    """Exactly once also over a stop and a start of the application in the middle of its work."""
    create(address, "lines", "counts")
    producer = ck.Producer({"bootstrap.servers": address})
    expected: dict[str, int] = {}
    for number in range(LINES):
        line = [WORDS[(number * step) % len(WORDS)] for step in (1, 3, 5)]
        for word in line:
            expected[word] = expected.get(word, 0) + 1
        producer.produce("lines", " ".join(line).encode(), partition=number % 2)
    assert producer.flush(30) == 0
    command = java(kafka_jars, "WordCount", address, "wordcount", str(tmp_path / "state"))
    for life, patience_s in enumerate((8.0, 60.0)):
        with (tmp_path / f"streams-{life}.txt").open("wb") as sink:
            streams = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + patience_s
            while counts(address) != expected and time.monotonic() < deadline and streams.poll() is None:
                time.sleep(0.5)
            if life:
                assert streams.poll() is None, (tmp_path / "streams-1.txt").read_text()[-4000:]
                assert streams.stdin is not None
                streams.stdin.close()
                assert streams.wait(60) == 0, (tmp_path / "streams-1.txt").read_text()[-4000:]
            else:
                streams.kill()
                streams.communicate()
    assert counts(address) == expected, (tmp_path / "streams-1.txt").read_text()[-4000:]


def counts(address: str) -> Mapping[str, int]:
    """The last count of each word, for a committed reader."""
    consumer = ck.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "counts",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([ck.TopicPartition("counts", partition, 0) for partition in (0, 1)])
    found: dict[str, int] = {}
    at_end: set[int] = set()
    while len(at_end) < 2:
        for message in consumer.consume(500, 1.0):
            error = message.error()
            if error is None:
                found[(message.key() or b"").decode()] = int.from_bytes(message.value() or b"", "big")
            else:
                at_end.add(message.partition() or 0)
    consumer.close()
    return found
